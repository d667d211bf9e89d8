//! `upstreams.NAME.slow_start`: how new endpoints come in.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::scalar::{DurationOrOff, Text};
use crate::written::Scope;

/// The weight of an endpoint that a reload has brought grows from a small share to all of it, so that it can fill its
/// caches.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SlowStart {
    /// The time until the endpoint has all of its weight, or `"off"`.
    window: Text<DurationOrOff>,
    /// The share of its weight, above 0 and up to 1, that it begins with.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    least: f64,
    /// Whether an endpoint that has recovered (its breaker has closed, its checks succeed again) is new again.
    after_recovery: bool,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Text::of("off"), least: 0.1, after_recovery: false }
    }
}

impl SlowStart {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::SlowStart> {
        let window = scope.check_positive(at, "window", self.window.value.0?);
        Some(model::SlowStart { window, least: self.least, after_recovery: self.after_recovery })
    }
}
