//! `upstreams.NAME.slow_start`: slow start of new endpoints.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::scalar::{DurationOrOff, Text};
use crate::written::Scope;

/// The weight of an endpoint that is new after a reload grows from a small share to the full weight, so that it
/// can fill its caches.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct SlowStart {
    /// The time until the endpoint has its full weight, or `"off"`.
    window: Text<DurationOrOff>,
    /// The share of its weight, above 0 and up to 1, that it starts with.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    least: f64,
    /// Whether an endpoint that has recovered (its circuit breaker has closed, its checks succeed again) starts
    /// slowly again.
    after_recovery: bool,
}

impl Default for SlowStart {
    fn default() -> Self {
        Self { window: Text::of("off"), least: 0.1, after_recovery: false }
    }
}

impl SlowStart {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::SlowStart> {
        let window = scope.check_positive(at, "window", self.window.value.0?);
        Some(model::SlowStart { window, least: self.least, after_recovery: self.after_recovery })
    }
}
