//! `bindings.NAME.revert`: when a new version of a plugin is taken back.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::scalar::{Duration, Text};

/// When a new version of the plugin is taken back for the one before: where at least five of its calls failed, and clearly
/// more of them (with 99 per cent confidence) than of the latest calls of the version before.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Revert {
    /// Calls of a new version that are watched; a request in which several functions are called counts as one call. 0 means
    /// that it is never taken back.
    calls: u32,
    /// For how long a new version is watched, if it is not called as often as that before.
    time: Text<Duration>,
    /// Share of failed calls, above 0 and up to 1, that takes it back also where the version before may have failed as
    /// often, if that one kept below it.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    failure_ratio: f64,
}

impl Default for Revert {
    fn default() -> Self {
        Self { calls: 1000, time: Text::of("10m"), failure_ratio: 0.5 }
    }
}

impl Revert {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(&self, at: &str, scope: &mut Scope) -> model::Revert {
        model::Revert {
            calls: self.calls,
            time: scope.check_positive(at, "time", self.time.value.0),
            failure_ratio: self.failure_ratio,
        }
    }
}
