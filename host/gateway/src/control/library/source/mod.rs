//! Where the bytes of plugins come from.
//!
//! A kind of source is a file in this folder and a row of [`SOURCES`]. Each fetch runs on a thread of its own
//! ([`Fetches`]), so that a source that hangs delays neither the control thread nor a load that does not need it.

mod fetches;
mod file;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_config::{Config, model};

pub(crate) use fetches::{FetchHandle, Fetches};

/// The source of the bytes of one plugin.
pub(crate) trait PluginSource: Send + Sync {
    /// Its name in messages, e.g. a path. Two sources with the same name have the same bytes.
    fn name(&self) -> String;

    /// The file to watch, if the bytes are those of a file.
    fn watched(&self) -> Option<&Path> {
        None
    }

    /// Fetches the bytes. Runs on a thread of its own and may block: those who need the bytes stop waiting at a
    /// deadline.
    ///
    /// # Errors
    /// Why the bytes cannot be fetched, as the end of a sentence that begins with the name.
    fn fetch(&self) -> Result<Vec<u8>, String>;
}

/// A kind of source.
#[derive(Clone, Copy)]
pub(crate) struct SourceKind {
    /// The key of `[plugins.NAME]` that selects this kind.
    pub(crate) key: &'static str,
    /// The source of a plugin; `None` if the plugin uses another kind.
    pub(crate) of: fn(&Config, &model::Plugin) -> Option<Arc<dyn PluginSource>>,
}

/// Every kind of source. The first that a plugin selects is used; the last, a file, is the default.
pub(crate) const SOURCES: &[SourceKind] = &[file::KIND];

/// The files to watch because plugins are read from them.
pub(crate) fn watched(config: &Config) -> Vec<PathBuf> {
    let sources = config.plugins.values().filter_map(|plugin| of(SOURCES, config, plugin));
    sources.filter_map(|(_, source)| source.watched().map(Path::to_owned)).collect()
}

/// The source of a plugin, with the key that selects it.
pub(super) fn of(
    kinds: &[SourceKind],
    config: &Config,
    plugin: &model::Plugin,
) -> Option<(&'static str, Arc<dyn PluginSource>)> {
    kinds.iter().find_map(|kind| Some((kind.key, (kind.of)(config, plugin)?)))
}
