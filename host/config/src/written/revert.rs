//! `bindings.NAME.revert`: when a new version of a plugin is reverted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::scalar::{Duration, Text};

/// When a new version of the plugin is reverted to the previous one: if at least five of its calls failed, and
/// clearly more of them (with 99 per cent confidence) than of the latest calls of the previous version.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Revert {
    /// Calls of a new version that are watched; a request in which several functions are called counts as one
    /// call. 0 means that it is never reverted.
    calls: u32,
    /// How long a new version is watched if it gets fewer calls than that.
    time: Text<Duration>,
    /// Share of failed calls, above 0 and up to 1, that also reverts the version if the previous one stayed below
    /// it, even if the difference between the two is not clear.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    failure_ratio: f64,
}

impl Default for Revert {
    fn default() -> Self {
        Self { calls: 1000, time: Text::of("10m"), failure_ratio: 0.5 }
    }
}

impl Revert {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(&self, at: &str, scope: &mut Scope) -> model::Revert {
        model::Revert {
            calls: self.calls,
            time: scope.check_positive(at, "time", self.time.value.0),
            failure_ratio: self.failure_ratio,
        }
    }
}
