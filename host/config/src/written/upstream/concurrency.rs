//! `upstreams.NAME.concurrency`: a limit on requests in flight that finds itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// An adaptive limit on requests in flight, over all cores. It grows while answers are as fast as they used to be, and
/// shrinks when they get slower: then requests queue at the upstream already. Requests over it wait in the gateway, where
/// they can be dropped in time (`max_pending`, `pending_timeout`).
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Concurrency {
    /// The least limit: so many requests are always let through.
    #[schemars(range(min = 1, max = 1_000_000))]
    min: u32,
    /// The greatest limit.
    #[schemars(range(min = 1, max = 1_000_000))]
    max: u32,
    /// The limit to begin with.
    #[schemars(range(min = 1, max = 1_000_000))]
    initial: u32,
    /// How many times slower than usual answers may get before the limit shrinks.
    #[schemars(range(min = 1.0, max = 100.0))]
    tolerance: f64,
    /// How often the limit is looked at. "Usual" is the average over the last 600 looks.
    window: Text<Duration>,
}

impl Default for Concurrency {
    fn default() -> Self {
        Self { min: 4, max: 1000, initial: 20, tolerance: 1.5, window: Text::of("100ms") }
    }
}

impl Concurrency {
    /// What it means. `at` is its JSON Pointer.
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
