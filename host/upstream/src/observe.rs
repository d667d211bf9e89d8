//! Observations: what an attempt shows about its endpoint, and who is notified of it, in one place and one order.

pub(crate) mod conduct;
pub(crate) mod ejection;
pub(crate) mod events;

use std::time::Duration;

use http::StatusCode;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::Code;

use crate::balancer::AttemptOutcome;
use crate::observe::conduct::judge;
use crate::pick::attempt::Attempt;

/// What an attempt has shown about its endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// A response head came, and its status does not count as a failure. The body may still break off.
    Answered {
        /// The time from the first byte of the request to the head.
        within: Duration,
        /// The status of the response.
        status: StatusCode,
    },
    /// The whole response came, after such a head.
    Completed {
        /// The status of the response.
        status: StatusCode,
    },
    /// The endpoint failed. Reported at most once for each attempt, and nothing but `Ended` follows.
    Failed(Failing),
    /// The attempt is over, with or without a response. Reported once, after all other observations.
    Ended,
}

/// How an endpoint failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failing {
    with: With,
    failure: Failure,
}

/// What an endpoint failed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum With {
    /// A fault of the gateway: the endpoint was not reached, or it reset, timed out or sent malformed data.
    Fault(FaultKind),
    /// A status that the configuration counts as a failure.
    Status(StatusCode),
    /// A gRPC status that the configuration counts as a failure.
    Grpc(Code),
}

/// The details of a failure that matter for counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failure {
    /// How far the endpoint got with the request.
    pub(crate) extent: Extent,
    /// As [`Fault::shared`].
    pub(crate) shared: bool,
    /// Whether an earlier attempt of the same request has reported a failure. The request itself may be the cause
    /// of repeated failures, so the retries of one request count as one failure.
    pub(crate) repeated: bool,
}

/// How far an endpoint got with a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// There was no connection to the endpoint.
    Unreached,
    /// There was a connection, but no complete and well-formed response came in time.
    Reached,
    /// The endpoint responded with a status that the configuration counts as a failure.
    Status,
    /// The endpoint responded with a gRPC status that the configuration counts as a failure. It takes no endpoint out of
    /// service that is the last one.
    GrpcStatus,
}

/// Notifies everything that uses observations.
pub(crate) fn notify(attempt: &Attempt, observation: Observation) {
    judge(attempt, observation);
    concurrency(attempt, observation);
    balancer(attempt, observation);
    if let Observation::Answered { within, .. } = observation {
        attempt.endpoint().times.record(within);
    }
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

/// Statuses that a proxy or an overloaded service sends instead of the endpoint's response. However fast they
/// come, they are no reason to send more requests, and show nothing about the latency of the endpoint.
fn is_in_place_of_an_answer(status: StatusCode) -> bool {
    matches!(status, StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT)
}

/// Passes latencies to the adaptive limit. A timeout shows that the latency was at least this long; other failures
/// show nothing.
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
    /// A failure by a fault.
    pub(crate) fn of(fault: &Fault, extent: Extent) -> Failing {
        let failure = Failure { extent, shared: fault.shared, repeated: false };
        Failing { with: With::Fault(fault.kind), failure }
    }

    /// A failure by a status that the configuration counts as one.
    pub(crate) fn by(status: StatusCode) -> Failing {
        let failure = Failure { extent: Extent::Status, shared: false, repeated: false };
        Failing { with: With::Status(status), failure }
    }

    /// A failure by a gRPC status that the configuration counts as one.
    pub(crate) fn by_grpc(code: Code) -> Failing {
        let failure = Failure { extent: Extent::GrpcStatus, shared: false, repeated: false };
        Failing { with: With::Grpc(code), failure }
    }

    /// The same failure, if an earlier attempt of the request has reported one. If the endpoint was not reached,
    /// the request is not the cause, so the failure counts.
    pub(crate) fn repeated(self, repeated: bool) -> Failing {
        let repeated = repeated && self.failure.extent != Extent::Unreached;
        Failing { failure: Failure { repeated, ..self.failure }, ..self }
    }

    /// The details that matter for counting.
    pub(crate) fn failure(self) -> Failure {
        self.failure
    }

    /// Whether an active check would detect the same failure. Malformed responses and failure statuses come from a
    /// process that may well pass its checks.
    pub(crate) fn is_seen_by_checks(self) -> bool {
        !matches!(self.with, With::Status(_) | With::Grpc(_) | With::Fault(FaultKind::UpstreamProtocol))
    }
}

impl std::fmt::Display for Failing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.with {
            With::Fault(kind) => formatter.write_str(kind.describe().code),
            With::Status(status) => write!(formatter, "status {}", status.as_u16()),
            With::Grpc(code) => write!(formatter, "gRPC status {} ({})", code.number(), code.name()),
        }
    }
}
