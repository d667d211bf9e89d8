//! `upstreams.NAME.concurrency`: an adaptive limit on requests in flight.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// An adaptive limit on requests in flight, over all cores. It grows while responses are as fast as usual, and
/// shrinks when they get slower, because requests then queue at the upstream. Requests above it wait in the
/// gateway, where they can be dropped in time (`max_pending`, `pending_timeout`).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Concurrency {
    /// The smallest limit: this many requests are always let through.
    #[schemars(range(min = 1, max = 1_000_000))]
    min: u32,
    /// The largest limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    max: u32,
    /// The initial limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    initial: u32,
    /// How many times slower than usual responses may become before the limit shrinks.
    #[schemars(range(min = 1.0, max = 100.0))]
    tolerance: f64,
    /// How often the limit is adjusted. "Usual" is the average over the last 600 adjustments.
    window: Text<Duration>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 4, max: 1000, initial: 20, tolerance: 1.5, window: Text::of("100ms") }
    }
}

impl Concurrency {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Concurrency {
        if self.min > self.max {
            scope.report(&child(at, "min"), "`min` is greater than `max`", None);
        }
        if scope.is_written(&child(at, "initial")) && !(self.min..=self.max).contains(&self.initial) {
            scope.report(&child(at, "initial"), "`initial` is not between `min` and `max`", None);
        }
        model::Concurrency {
            min: self.min,
            max: self.max,
            initial: self.initial.clamp(self.min.min(self.max), self.max),
            tolerance: self.tolerance,
            window: scope.check_positive(at, "window", self.window.value.0),
        }
    }
}
