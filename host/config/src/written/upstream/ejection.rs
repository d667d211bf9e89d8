//! `upstreams.NAME.ejection`: outlier ejection of endpoints that fail requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// Outlier ejection: endpoints that fail requests get no requests for a while, longer with each ejection in a row.
/// One that returns and fails its first request is ejected again at once. The last endpoint in service is never
/// ejected.
///
/// A fault here is a failure for the endpoint's `breaker`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Ejection {
    /// Statuses of responses that count as faults, e.g. `[502, 503, 504]`.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// Consecutive faults that eject: not reached, reset, timed out, malformed, incomplete, or one of `statuses`.
    /// Requests that end with one HTTP/2 connection count once, and so do the retries of one request. 0 means
    /// never.
    consecutive_faults: u32,
    /// Consecutive faults or statuses from 500 that eject. 0 means never.
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
    /// Ejects endpoints whose success rate is far below the others'. Without this table rates are not compared.
    success_rate: Option<SuccessRate>,
}

/// When an endpoint's success rate is far below the others'. Faults and statuses from 500 do not count as success.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct SuccessRate {
    /// Standard deviations below the mean. A single bad endpoint among n is at most √(n - 1) of them away: 1.41
    /// among 3, 2 among 5, 3 among 10. More than that can never be met.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    deviations: f64,
    /// The least distance of the rate below the mean, as a share of 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    margin: f64,
    /// The fewest endpoints with enough requests.
    #[schemars(range(min = 2))]
    minimum_endpoints: usize,
    /// The fewest requests of an endpoint within the interval.
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
    /// Converts it to the model. `at` is its JSON Pointer.
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
