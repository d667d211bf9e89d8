//! `upstreams.NAME.hedge`: slow requests are sent to another endpoint too.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// Hedging: an idempotent request whose response takes long is sent to another endpoint too; the first response is
/// used and the other attempts are given up. Hedges use the retry budget. One of `delay` and `percentile` says
/// what is long.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Hedge {
    /// A fixed time, e.g. `"50ms"`.
    delay: Option<Text<Duration>>,
    /// The time within which this share of the latest requests got a response, e.g. 0.95.
    #[schemars(range(min = 0.5, max = 0.999))]
    percentile: Option<f64>,
    /// The fewest requests that must have been observed for `percentile`. Until then nothing is hedged.
    #[schemars(range(min = 1, max = 1_000_000))]
    min_samples: u32,
    /// The most additional attempts for a request.
    #[schemars(range(min = 1, max = 5))]
    max_extra: u32,
}

impl Default for Hedge {
    fn default() -> Self {
        Self { delay: None, percentile: None, min_samples: 100, max_extra: 1 }
    }
}

impl Hedge {
    /// Converts it to the model; `None` if it does not say when. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Hedge> {
        scope.exclude(at, &["delay", "percentile"]);
        if self.percentile.is_none() && scope.is_written(&child(at, "min_samples")) {
            scope.report_key(&child(at, "min_samples"), "`min_samples` needs `percentile`", None);
        }
        let after = match (self.delay, self.percentile) {
            (Some(delay), _) => model::HedgeAfter::Delay(scope.check_positive(at, "delay", delay.value.0)),
            (None, Some(share)) => model::HedgeAfter::Percentile { share, min_samples: self.min_samples },
            (None, None) => {
                let hint = "set `delay` or `percentile`";
                scope.report(at, "this does not say when a request is hedged", Some(hint.to_owned()));
                return None;
            }
        };
        Some(model::Hedge { after, max_extra: self.max_extra })
    }
}
