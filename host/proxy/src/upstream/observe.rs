//! What an attempt shows of its endpoint, and who wants to know: one place, in one order.

use std::time::Duration;

use http::StatusCode;
use witgate_exchange::fault::{Fault, FaultKind};

use super::attempt::Attempt;
use super::conduct::judge;
use crate::balancer::AttemptOutcome;

/// What an attempt has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Observation {
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
pub(super) struct Failing {
    with: With,
    failure: Failure,
}

/// What an endpoint failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// A fault of ours: not reached, reset, too late, malformed.
    Fault(FaultKind),
    /// A status that the configuration calls a failure.
    Status(StatusCode),
}

/// What matters of a failure to those who count failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// How far the endpoint got.
    pub(super) extent: Extent,
    /// As [`Fault::shared`].
    pub(super) shared: bool,
    /// Whether an earlier attempt of the same request has told of a failure. What fails again and again may be the request's
    /// own doing: of the retries of one request, one failure counts.
    pub(super) repeated: bool,
}

/// How far an endpoint got with a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// There was no connection to it.
    Unreached,
    /// There was a connection, but no whole and well-formed answer came over it in time, if anything did.
    Reached,
    /// It answered with a status that the configuration calls a failure.
    Status,
}

/// Tells everybody who wants to know.
pub(super) fn notify(attempt: &Attempt, observation: Observation) {
    judge(attempt, observation);
    concurrency(attempt, observation);
    balancer(attempt, observation);
}

fn balancer(attempt: &Attempt, observation: Observation) {
    let outcome = match observation {
        Observation::Answered { within, status } if is_in_place_of_an_answer(status) => {
            AttemptOutcome::Failed(within)
        }
        Observation::Answered { within, .. } => AttemptOutcome::Answered(within),
        Observation::Failed(_) => AttemptOutcome::Failed(attempt.elapsed()),
        Observation::Completed { .. } | Observation::Ended => return,
    };
    attempt.upstream.policy.observe(&attempt.endpoint().latency, outcome);
}

/// What a proxy or an overloaded service says in the place of an endpoint: quick as it may be, it is no reason to send it
/// more, and says nothing of how fast the endpoint is.
fn is_in_place_of_an_answer(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// An answer that did not come in time took at least so long; other failures are no measure.
fn concurrency(attempt: &Attempt, observation: Observation) {
    match observation {
        Observation::Answered { status, .. } if is_in_place_of_an_answer(status) => {}
        Observation::Answered { within, .. } => attempt.upstream.observe_latency(within),
        Observation::Failed(Failing { with: With::Fault(FaultKind::FirstByteTimeout), .. }) => {
            attempt.waited().into_iter().for_each(|waited| attempt.upstream.observe_latency(waited));
        }
        Observation::Completed { .. } | Observation::Failed(_) | Observation::Ended => {}
    }
}

impl Failing {
    /// By a fault.
    pub(super) fn of(fault: &Fault, extent: Extent) -> Failing {
        let failure = Failure { extent, shared: fault.shared, repeated: false };
        Failing { with: With::Fault(fault.kind), failure }
    }

    /// By a status that the configuration calls a failure.
    pub(super) fn by(status: StatusCode) -> Failing {
        let failure = Failure { extent: Extent::Status, shared: false, repeated: false };
        Failing { with: With::Status(status), failure }
    }

    /// The same, where an earlier attempt of the request has told of a failure. An endpoint that is not reached is not so
    /// because of the request.
    pub(super) fn repeated(self, repeated: bool) -> Failing {
        let repeated = repeated && self.failure.extent != Extent::Unreached;
        Failing { failure: Failure { repeated, ..self.failure }, ..self }
    }

    /// What matters to those who count.
    pub(super) fn failure(self) -> Failure {
        self.failure
    }

    /// Whether an active check would meet the same: garbage and statuses come from a process that may well answer its
    /// checks.
    pub(super) fn is_seen_by_checks(self) -> bool {
        !matches!(self.with, With::Status(_) | With::Fault(FaultKind::UpstreamProtocol))
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.with {
            With::Fault(kind) => formatter.write_str(kind.describe().code),
            With::Status(status) => write!(formatter, "status {}", status.as_u16()),
        }
    }
}
