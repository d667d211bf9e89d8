//! `upstreams.NAME.breaker` and `upstreams.NAME.upstream_breaker`: when an endpoint, or the upstream, is left alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, Text};
use crate::written::Scope;

/// Windows that are told apart from noise, and that fit the counters.
const WINDOWS: [std::time::Duration; 2] =
    [std::time::Duration::from_millis(100), std::time::Duration::from_secs(600)];

/// A circuit breaker. Closed, it lets everything through and watches; any of its rules opens it. Open, it lets nothing
/// through for a while. Then it is half-open: a few probes find out whether it may close.
///
/// A call fails if the endpoint cannot be reached, closes or resets without an answer, does not answer in time, or answers
/// with what is malformed or breaks off. A status is a failure only if `statuses` names it. What the client did is none: a
/// body that is too large, malformed, too slow or broken off. Of the retries of one request, one failure counts. Ejection
/// sees the same failures.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Breaker {
    /// Statuses of answers that are failures, e.g. `[502, 503, 504]`. Choose them only where no single request can cause
    /// them: otherwise one user closes the service for all.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// Failures in a row that open it; calls that end with one HTTP/2 connection are one of them. 0 means never. For the last
    /// endpoint in service only failures to connect (refused, timed out, TLS) and answers with one of `statuses` count: any
    /// other may be the doing of a single URL. The shares below hold for it as for all.
    consecutive_failures: u32,
    /// Share of failed calls in the window that opens it, up to 1. 0 means never.
    #[schemars(range(min = 0.0, max = 1.0))]
    failure_ratio: f64,
    /// Share of slow calls in the window that opens it, up to 1. 0 means never.
    #[schemars(range(min = 0.0, max = 1.0))]
    slow_ratio: f64,
    /// A call is slow if the head of its answer takes so long. Only with `slow_ratio`, where a slow probe fails too.
    slow_call: Text<Duration>,
    /// The time over which both shares are counted, from 100ms to 10m. It slides.
    window: Text<Duration>,
    /// Calls there must be in the window before a share means anything.
    #[schemars(range(min = 1))]
    min_requests: u32,
    /// How long it stays open before probes are let through.
    open_for: Text<Duration>,
    /// Each time probes fail it stays open twice as long as before, up to this. Without it, always for `open_for`.
    max_open_for: Option<Text<Duration>>,
    /// Probes that may be under way at once while it is half-open. If failures to connect opened that of the last endpoint in
    /// service, a probe has succeeded once it is connected.
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
    /// What it means. `at` is its JSON Pointer.
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
