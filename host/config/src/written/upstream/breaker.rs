//! `upstreams.NAME.breaker` and `upstreams.NAME.upstream_breaker`: when an endpoint, or the upstream, gets no
//! requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// The shortest and the longest window: shorter ones hold only noise, longer ones do not fit the counters.
const WINDOWS: [std::time::Duration; 2] =
    [std::time::Duration::from_millis(100), std::time::Duration::from_secs(600)];

/// A circuit breaker. Closed, it lets all requests through; any of its rules opens it. Open, it lets no request
/// through for a while. Then it is half-open: a few probes find out whether it may close.
///
/// A call fails if the endpoint cannot be reached, closes or resets the connection without a response, does not
/// respond in time, or sends a response that is malformed or incomplete. A status is a failure only if `statuses`
/// names it. What the client did is not: a body that is too large, malformed, too slow or incomplete. The retries
/// of one request count as one failure. Ejection counts the same failures.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Breaker {
    /// Statuses of responses that count as failures, e.g. `[502, 503, 504]`. Choose only statuses that no single
    /// request can cause: otherwise one user closes the service for all.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// Consecutive failures that open it; calls that end with one HTTP/2 connection count once. 0 means never. For
    /// the last endpoint in service only failures to connect (refused, timed out, TLS) and responses with one of
    /// `statuses` count: any other failure may be caused by a single URL. The shares below apply to it as to all.
    consecutive_failures: u32,
    /// Share of failed calls in the window that opens it, up to 1. 0 means never.
    #[schemars(range(min = 0.0, max = 1.0))]
    failure_ratio: f64,
    /// Share of slow calls in the window that opens it, up to 1. 0 means never.
    #[schemars(range(min = 0.0, max = 1.0))]
    slow_ratio: f64,
    /// A call is slow if its response head takes at least this long. Only used with `slow_ratio`; then a slow
    /// probe fails too.
    slow_call: Text<Duration>,
    /// The sliding time window over which both shares are counted, from 100ms to 10m.
    window: Text<Duration>,
    /// The fewest calls in the window for the shares to apply.
    #[schemars(range(min = 1))]
    min_requests: u32,
    /// How long it stays open before probes are let through.
    open_for: Text<Duration>,
    /// Each time probes fail it stays open twice as long as before, up to this. Without it, always for `open_for`.
    max_open_for: Option<Text<Duration>>,
    /// Probes that may be in flight at once while it is half-open. If failures to connect opened the breaker of
    /// the last endpoint in service, a probe succeeds once it is connected.
    #[schemars(range(min = 1, max = 1000))]
    probes: u32,
    /// Probes that must succeed before it closes.
    #[schemars(range(min = 1, max = 1000))]
    probe_successes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            statuses: Vec::new(),
            consecutive_failures: 5,
            failure_ratio: 0.0,
            slow_ratio: 0.0,
            slow_call: Text::of("1s"),
            window: Text::of("10s"),
            min_requests: 20,
            open_for: Text::of("5s"),
            max_open_for: None,
            probes: 1,
            probe_successes: 1,
        }
    }
}

impl Breaker {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Breaker {
        let window = self.window.value.0;
        let [shortest, longest] = WINDOWS;
        if !(shortest..=longest).contains(&window) {
            scope.report(&child(at, "window"), "`window` must be from 100ms to 10m", None);
        }
        let open_for = scope.check_positive(at, "open_for", self.open_for.value.0);
        let max_open_for = self.max_open_for.map_or(open_for, |most| most.value.0);
        if max_open_for < open_for {
            let hint = Some("make it longer, or leave it out".to_owned());
            scope.report(&child(at, "max_open_for"), "`max_open_for` is shorter than `open_for`", hint);
        }
        model::Breaker {
            statuses: self.statuses.into_iter().collect(),
            consecutive_failures: self.consecutive_failures,
            failure_ratio: self.failure_ratio,
            slow_ratio: self.slow_ratio,
            slow_call: scope.check_positive(at, "slow_call", self.slow_call.value.0),
            window,
            min_requests: self.min_requests,
            open_for,
            max_open_for,
            probes: self.probes,
            probe_successes: self.probe_successes,
        }
    }
}
