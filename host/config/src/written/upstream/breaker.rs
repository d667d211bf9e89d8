//! `upstreams.NAME.breaker`: when endpoints are left alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// A circuit breaker: failures in a row open it, then one probe at a time finds out whether the endpoint is back.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Breaker {
    /// Failures in a row that open it. 0 means never.
    consecutive_failures: u32,
    /// How long it stays open before a probe is let through.
    open_for: Text<Duration>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { consecutive_failures: 5, open_for: Text::of("5s") }
    }
}

impl Breaker {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Breaker {
        model::Breaker {
            consecutive_failures: self.consecutive_failures,
            open_for: scope.check_positive(at, "open_for", self.open_for.value.0),
        }
    }
}
