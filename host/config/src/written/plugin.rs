//! `[plugins.NAME]`: the plugins that may be used.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::pointer::{child, segments};
use crate::scalar::{Digest, Size, Text};

/// A plugin that may be used. A file in the plugin folder that is not declared does nothing.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plugin {
    /// The component, absolute or relative to `gateway.plugin_folder`. Without it, the plugin's name and `.wasm`.
    #[schemars(length(min = 1))]
    file: Option<String>,
    /// The digest that the file must have, `"sha256:"` and 64 hexadecimal digits. Without it, any file is
    /// accepted.
    digest: Option<Text<Digest>>,
    /// Bytes that its store may hold, in all spaces together.
    store_bytes: Text<Size>,
    /// The state in which its store is kept, by its name under `[state]`. Without it, a built-in state of kind `memory`.
    state: Option<String>,
    /// Loads a component that uses version 0.2.0 of the plugin contracts. That version is a draft and may change with
    /// the next release of the gateway; then the plugin has to be built again. Without this key, such a component is
    /// refused.
    unstable: bool,
}

impl Default for Plugin {
    fn default() -> Self {
        Self { file: None, digest: None, store_bytes: Text::of("16MiB"), state: None, unstable: false }
    }
}

impl Section for Plugin {
    type Meant = model::Plugin;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Plugin> {
        let name = segments(at).last().unwrap_or_default();
        let file = PathBuf::from(self.file.unwrap_or_else(|| format!("{name}.wasm")));
        if file.file_name().is_none() {
            scope.report(&child(at, "file"), "this is not the path of a file", None);
        }
        scope.check_state(&child(at, "state"), self.state.as_deref());
        Some(model::Plugin {
            file,
            digest: self.digest.map(|digest| digest.value.0),
            store_bytes: self.store_bytes.value.in_memory(),
            state: self.state,
            unstable: self.unstable,
        })
    }
}
