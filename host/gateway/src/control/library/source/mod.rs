//! Where the bytes of plugins come from.
//!
//! A kind of source is a file here and a row of [`SOURCES`]. Bytes are fetched by threads of their own ([`Fetches`]): a source
//! that hangs delays neither the control thread nor a load that can do without it.

mod fetches;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_config::{Config, model};

pub(crate) use fetches::{Fetches, Ticket};

/// Where the bytes of one plugin come from.
pub(crate) trait PluginSource: Send + Sync {
    /// What messages call it, e.g. its path. Two of the same name bring the same bytes.
    fn name(&self) -> String;

    /// A file of this machine that is to be watched, because other bytes come when it changes.
    fn watched(&self) -> Option<&Path> {
        None
    }

    /// Brings the bytes. Runs on a thread of its own, for as long as it takes: whoever needs the bytes stops waiting at a
    /// deadline.
    ///
    /// # Errors
    /// Why there are none, as the end of a sentence that begins with the name.
    fn fetch(&self) -> Result<Vec<u8>, String>;
}

/// A kind of source.
#[derive(Clone, Copy)]
pub(crate) struct SourceKind {
    /// The key of `[plugins.NAME]` that asks for it.
    pub(crate) key: &'static str,
    /// The source of a plugin; none: the plugin is of another kind.
    pub(crate) of: fn(&Config, &model::Plugin) -> Option<Arc<dyn PluginSource>>,
}

/// Every kind of source. The first that a plugin asks for is the one that is used; a file is what all ask for that ask for
/// nothing else.
pub(crate) const SOURCES: &[SourceKind] = &[file::KIND];

/// Files that are to be watched because plugins come from them.
pub(crate) fn watched(config: &Config) -> Vec<PathBuf> {
    let sources = config.plugins.values().filter_map(|plugin| of(SOURCES, config, plugin));
    sources.filter_map(|(_, source)| source.watched().map(Path::to_owned)).collect()
}

/// The source of a plugin, with the key that asks for it.
pub(super) fn of(
    kinds: &[SourceKind],
    config: &Config,
    plugin: &model::Plugin,
) -> Option<(&'static str, Arc<dyn PluginSource>)> {
    kinds.iter().find_map(|kind| Some((kind.key, (kind.of)(config, plugin)?)))
}
