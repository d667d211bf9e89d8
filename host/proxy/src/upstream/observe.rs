//! What an attempt shows of its endpoint, and who wants to know: one place, in one order.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::attempt::Attempt;
use super::breaker::Change;
use super::events::{EventKind, Events};
use crate::balancer::Outcome;
use crate::fault::{Fault, FaultKind};

/// What an attempt has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A response head came that speaks for the endpoint. Its body may still break off.
    Answered {
        /// From the first byte of the request to the head.
        within: Duration,
        /// What the head says.
        status: StatusCode,
    },
    /// The whole response came, after such a head.
    Completed {
        /// What the head said.
        status: StatusCode,
    },
    /// The endpoint failed. Told once for each attempt, and nothing is told after it.
    Failed(Failing),
    /// Nothing more will be shown, whether it was answered or not. Told once, after all else.
    Ended,
}

/// How an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// With a fault of ours: not reached, reset, too late, malformed. `shared`: as [`Fault::shared`].
    Fault { kind: FaultKind, shared: bool },
    /// With an answer that a proxy or an overloaded service in its place gives.
    Status(StatusCode),
}

/// Tells everybody who wants to know.
pub(super) fn tell(attempt: &Attempt, sign: Sign) {
    breaker(attempt, sign);
    concurrency(attempt, sign);
    ejection(attempt, sign);
    balancer(attempt, sign);
}

fn balancer(attempt: &Attempt, sign: Sign) {
    let outcome = match sign {
        Sign::Answered { within, .. } => Outcome::Answered(within),
        Sign::Failed(_) => Outcome::Failed(attempt.elapsed()),
        Sign::Completed { .. } | Sign::Ended => return,
    };
    attempt.upstream.policy.observe(&attempt.endpoint().latency, outcome);
}

fn breaker(attempt: &Attempt, sign: Sign) {
    let (call, breaker) = (&attempt.call, &attempt.endpoint().breaker);
    let settings = &attempt.upstream.config.breaker;
    let change = match sign {
        Sign::Answered { within, .. } => call.answered(breaker, within, settings),
        Sign::Completed { .. } => call.completed(breaker, settings),
        Sign::Failed(failing) => call.failed(breaker, failing.is_shared(), settings),
        Sign::Ended => call.abandoned(breaker, || attempt.waited(), settings),
    };
    if change.is_some() {
        let last = if let Sign::Failed(failing) = sign { failing.to_string() } else { String::new() };
        note_change(&attempt.upstream.events, Some(&attempt.endpoint().name), change, &last);
    }
}

/// An answer that did not come in time took at least so long; other failures are no measure.
fn concurrency(attempt: &Attempt, sign: Sign) {
    match sign {
        Sign::Answered { within, .. } => attempt.upstream.observe_latency(within),
        Sign::Failed(Failing::Fault { kind: FaultKind::FirstByteTimeout, .. }) => {
            attempt.waited().into_iter().for_each(|waited| attempt.upstream.observe_latency(waited));
        }
        Sign::Completed { .. } | Sign::Failed(_) | Sign::Ended => {}
    }
}

/// Notes that a breaker has changed. `last`: what the last call ended with, where that tells more.
pub(super) fn note_change(events: &Events, endpoint: Option<&Arc<str>>, change: Option<Change>, last: &str) {
    let Some(change) = change else { return };
    let (kind, why) = match change {
        Change::Opened(reason) if last.is_empty() => (EventKind::BreakerOpened, reason.to_string()),
        Change::Opened(reason) => (EventKind::BreakerOpened, format!("{reason}, the last with {last}")),
        Change::HalfOpened => (EventKind::BreakerHalfOpened, "its rest is over".to_owned()),
        Change::Closed => (EventKind::BreakerClosed, "enough probes were answered".to_owned()),
    };
    events.record(kind, endpoint, why);
}

fn ejection(attempt: &Attempt, sign: Sign) {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    match sign {
        // Half an answer is no success. A tunnel has no end that could be waited for.
        Sign::Answered { status: StatusCode::SWITCHING_PROTOCOLS, .. } => endpoint.ejection.succeeded(),
        Sign::Answered { .. } | Sign::Ended => {}
        Sign::Completed { status } if status.is_server_error() => upstream.erred(endpoint, status.as_u16()),
        Sign::Completed { .. } => endpoint.ejection.succeeded(),
        Sign::Failed(failing) => upstream.faulted(endpoint, failing),
    }
}

impl Failing {
    pub(super) fn of(fault: &Fault) -> Failing {
        Failing::Fault { kind: fault.kind, shared: fault.shared }
    }

    /// Whether another request has told of the same event.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Failing::Fault { shared: true, .. })
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failing::Fault { kind, .. } => formatter.write_str(kind.describe().code),
            Failing::Status(status) => write!(formatter, "status {}", status.as_u16()),
        }
    }
}
