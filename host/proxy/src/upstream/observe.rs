//! What an attempt shows of its endpoint, and who wants to know: one place, in one order.

use std::time::Duration;

use http::StatusCode;

use super::attempt::Attempt;
use super::breaker::Change;
use super::events::EventKind;
use crate::balancer::Outcome;
use crate::fault::FaultKind;

/// What an attempt has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A response head came that speaks for the endpoint. Its body may still break off.
    Answered {
        /// From the first byte of the request to the head.
        within: Duration,
    },
    /// The whole response came, after such a head.
    Completed,
    /// The endpoint failed. Told once for each attempt, and nothing is told after it.
    Failed(Failing),
}

/// How an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failing {
    /// With a fault of ours: not reached, reset, too late, malformed.
    Fault(FaultKind),
    /// With an answer that a proxy or an overloaded service in its place gives.
    Status(StatusCode),
}

/// Tells everybody who wants to know.
pub(super) fn tell(attempt: &Attempt, sign: Sign) {
    breaker(attempt, sign);
    balancer(attempt, sign);
}

fn balancer(attempt: &Attempt, sign: Sign) {
    let outcome = match sign {
        Sign::Answered { within } => Outcome::Answered(within),
        Sign::Failed(_) => Outcome::Failed(attempt.elapsed()),
        Sign::Completed => return,
    };
    attempt.upstream.policy.observe(&attempt.endpoint().latency, outcome);
}

fn breaker(attempt: &Attempt, sign: Sign) {
    let breaker = &attempt.endpoint().breaker;
    let change = match sign {
        Sign::Answered { .. } => breaker.answered(attempt.pass),
        Sign::Completed => {
            breaker.succeeded();
            None
        }
        Sign::Failed(_) => breaker.failed(attempt.pass, &attempt.upstream.config.breaker),
    };
    let Some(change) = change else { return };
    let (kind, why) = match (change, sign) {
        (Change::Opened, Sign::Failed(failing)) => (EventKind::BreakerOpened, failing.to_string()),
        (Change::Opened, _) => (EventKind::BreakerOpened, String::new()),
        (Change::Closed, _) => (EventKind::BreakerClosed, "a probe was answered".to_owned()),
    };
    attempt.upstream.events.record(kind, Some(&attempt.endpoint().name), why);
}

impl std::fmt::Display for Failing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failing::Fault(kind) => formatter.write_str(kind.describe().code),
            Failing::Status(status) => write!(formatter, "status {}", status.as_u16()),
        }
    }
}
