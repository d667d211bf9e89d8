//! A plugin file of this machine, by its absolute path or in the plugin folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use witgate_config::{Config, file, model};

use super::{PluginSource, SourceKind};

/// The row of this kind.
pub(super) const KIND: SourceKind = SourceKind { key: "file", of };

fn of(config: &Config, plugin: &model::Plugin) -> Option<Arc<dyn PluginSource>> {
    Some(Arc::new(PluginFile(config.gateway.plugin_folder.join(&plugin.file))))
}

/// The file.
struct PluginFile(PathBuf);

impl PluginSource for PluginFile {
    fn name(&self) -> String {
        self.0.display().to_string()
    }

    fn watched(&self) -> Option<&Path> {
        Some(&self.0)
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        file::read(&self.0, file::PLUGIN).map_err(|error| format!("cannot be read: {error}"))
    }
}
