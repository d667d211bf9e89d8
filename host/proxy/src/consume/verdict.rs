//! What becomes of a message by the outcome of its request.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use witgate_config::model;
use witgate_exchange::arrival::Outcome;
use witgate_exchange::fault::FaultKind;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The destination has taken it.
    Done,
    /// A stage wants it to be dropped, which is no error.
    Discard,
    /// It is tried again, if it has attempts left.
    Again(Reason),
    /// It goes to the dead letter at once.
    Refused(Reason),
    /// The gateway could not take it now. It is tried when the consumer goes on, and this was no attempt.
    Wait(Reason),
    /// The exchange vanished, so nothing is known. The message is given back.
    Vanished,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    /// The fault's code, or what the status came from.
    pub(super) code: &'static str,
    /// The status of the response.
    pub(super) status: Option<StatusCode>,
    /// The `Retry-After` of the response.
    pub(super) after: Option<Duration>,
}

/// Judges the outcome of a request.
pub(super) fn of(
    settings: &model::Consumer,
    outcome: Outcome,
    status: StatusCode,
    headers: &HeaderMap,
) -> Verdict {
    let reason = |code| Reason { code, status: Some(status), after: retry_after(headers) };
    match outcome {
        Outcome::Abandoned => Verdict::Vanished,
        Outcome::Discarded => Verdict::Discard,
        Outcome::Fault(kind) => {
            // A fault in the middle of a response comes after a head with a good status.
            let status = Some(kind.describe().status);
            let reason = Reason { code: kind.describe().code, status, after: retry_after(headers) };
            match kind {
                FaultKind::RateLimited
                | FaultKind::BreakerOpen
                | FaultKind::NoEndpoint
                | FaultKind::UpstreamOverloaded
                | FaultKind::Overloaded
                | FaultKind::BrokerOverloaded
                | FaultKind::Draining => Verdict::Wait(reason),
                _ => by_status(settings, kind.describe().status, reason),
            }
        }
        Outcome::Local if settings.drop.contains(&status.as_u16()) => Verdict::Discard,
        Outcome::Local if status.is_success() => Verdict::Refused(reason("not-the-destination")),
        Outcome::Answered if status.is_success() => Verdict::Done,
        Outcome::Local => by_status(settings, status, reason("plugin-status")),
        Outcome::Answered => by_status(settings, status, reason("status")),
    }
}

fn by_status(settings: &model::Consumer, status: StatusCode, reason: Reason) -> Verdict {
    match status.as_u16() {
        408 | 425 | 429 | 500.. => Verdict::Again(reason),
        other if settings.retry_statuses.contains(&other) => Verdict::Again(reason),
        _ => Verdict::Refused(reason),
    }
}

/// `Retry-After` in seconds (RFC 9110 section 10.2.3). A date is not respected, because the clocks may differ.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().map(Duration::from_secs).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::consume::tests::settings;

    fn code(outcome: Outcome, status: u16) -> &'static str {
        let settings = settings("retry_statuses = [404]\ndrop = [204, 409]");
        let status = StatusCode::from_u16(status).unwrap();
        match of(&settings, outcome, status, &HeaderMap::new()) {
            Verdict::Done => "done",
            Verdict::Discard => "discard",
            Verdict::Again(_) => "again",
            Verdict::Refused(_) => "refused",
            Verdict::Wait(_) => "wait",
            Verdict::Vanished => "vanished",
        }
    }

    #[test]
    fn only_a_2xx_of_the_destination_is_done() {
        for (outcome, status, expected) in [
            (Outcome::Answered, 200, "done"),
            (Outcome::Answered, 204, "done"),
            (Outcome::Answered, 302, "refused"),
            (Outcome::Answered, 304, "refused"),
            (Outcome::Answered, 400, "refused"),
            (Outcome::Answered, 404, "again"),
            (Outcome::Answered, 408, "again"),
            (Outcome::Answered, 409, "refused"),
            (Outcome::Answered, 425, "again"),
            (Outcome::Answered, 429, "again"),
            (Outcome::Answered, 500, "again"),
            (Outcome::Answered, 599, "again"),
            (Outcome::Local, 200, "refused"),
            (Outcome::Local, 204, "discard"),
            (Outcome::Local, 301, "refused"),
            (Outcome::Local, 403, "refused"),
            (Outcome::Local, 409, "discard"),
            (Outcome::Local, 503, "again"),
            (Outcome::Discarded, 200, "discard"),
            (Outcome::Abandoned, 200, "vanished"),
            (Outcome::Fault(FaultKind::RateLimited), 429, "wait"),
            (Outcome::Fault(FaultKind::BreakerOpen), 503, "wait"),
            (Outcome::Fault(FaultKind::UpstreamReset), 200, "again"),
            (Outcome::Fault(FaultKind::FirstByteTimeout), 504, "again"),
            (Outcome::Fault(FaultKind::Unauthenticated), 401, "refused"),
            (Outcome::Fault(FaultKind::Forbidden), 409, "refused"),
            (Outcome::Fault(FaultKind::NoRoute), 404, "again"),
        ] {
            assert_eq!(code(outcome, status), expected, "{outcome:?} {status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_seconds() {
        let after = |value: &str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, value.parse().unwrap())]);
            retry_after(&headers)
        };
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        assert_eq!((after("-1"), after("soon")), (None, None));
    }
}
