//! `upstreams.NAME.ejection`: endpoints that fail requests are left out for a while.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// Endpoints that fail requests are left out for a while, the longer the more often in a row. One that comes back and
/// fails its first request is left out again at once. The last endpoint in service is never left out.
///
/// What is a fault here is a failure to the endpoint's `breaker`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ejection {
    /// Statuses of answers that are faults, e.g. `[502, 503, 504]`.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// Faults in a row that eject: not reached, reset, too late, malformed, broken off, or one of `statuses`. Requests that
    /// end with one HTTP/2 connection are one of them, and so are the retries of one request. 0 means never.
    consecutive_faults: u32,
    /// Faults or any status from 500 in a row that eject. 0 means never.
    consecutive_server_errors: u32,
    /// How often success rates are compared, and after how long in service one ejection is forgotten.
    interval: Text<Duration>,
    /// How long the first ejection lasts; the second in a row lasts twice as long, the third three times.
    base_time: Text<Duration>,
    /// The longest an ejection lasts.
    max_time: Text<Duration>,
    /// The share of the endpoints that may be ejected at once, in percent, rounded up to whole endpoints.
    #[schemars(range(max = 100))]
    max_ejected: u32,
    /// Ejects endpoints whose success rate is far below that of all. Without this table rates are not compared.
    success_rate: Option<SuccessRate>,
}

/// When an endpoint's success rate is far below that of all. Faults and statuses from 500 are no success.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SuccessRate {
    /// Standard deviations below the mean. A single bad endpoint among n is at most √(n - 1) of them away: 1.41
    /// among 3, 2 among 5, 3 among 10. More than that can never be met.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    deviations: f64,
    /// How far below the mean the rate must be in any case, as a share of 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    margin: f64,
    /// Endpoints with enough requests that there must be.
    #[schemars(range(min = 2))]
    minimum_endpoints: usize,
    /// Requests of an endpoint within the interval that are enough to judge it.
    #[schemars(range(min = 1))]
    minimum_requests: u64,
}

impl Default for Ejection {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            consecutive_faults: 5,
            consecutive_server_errors: 0,
            interval: Text::of("10s"),
            base_time: Text::of("5s"),
            max_time: Text::of("1m"),
            max_ejected: 50,
            success_rate: None,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { deviations: 1.1, margin: 0.1, minimum_endpoints: 3, minimum_requests: 100 }
    }
}

impl Ejection {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Ejection {
        let base_time = scope.check_positive(at, "base_time", self.base_time.value.0);
        let max_time = self.max_time.value.0;
        if max_time < base_time {
            let written = if scope.is_written(&child(at, "max_time")) { "max_time" } else { "base_time" };
            scope.report(&child(at, written), "`max_time` is shorter than `base_time`", None);
        }
        model::Ejection {
            statuses: self.statuses.into_iter().collect(),
            consecutive_faults: self.consecutive_faults,
            consecutive_server_errors: self.consecutive_server_errors,
            interval: scope.check_positive(at, "interval", self.interval.value.0),
            base_time,
            max_time,
            max_ejected: self.max_ejected,
            success_rate: self.success_rate.map(|rate| model::SuccessRate {
                deviations: rate.deviations,
                margin: rate.margin,
                minimum_endpoints: rate.minimum_endpoints,
                minimum_requests: rate.minimum_requests,
            }),
        }
    }
}
