//! Decides whether a failure is a reason to send a request again, by the rules of the route or, where it has none,
//! of the upstream.

use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use witgate_config::model;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::Code;

use crate::response::failure::blames_endpoint;

const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The retry rules for one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) upstream: &'a model::Retry,
    route: Option<&'a model::RouteRetry>,
    /// Whether the request is sent once, whatever the settings are.
    once: bool,
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The endpoint cannot have processed anything: there was no connection, or the stream was refused.
    Connect,
    /// The health checks of the endpoint failed while the request waited there.
    Unhealthy,
    /// The connection or stream ended without a response head.
    Reset,
    /// No response head came in time.
    Timeout,
    /// The response was malformed.
    Malformed,
    /// The status of the response.
    Status,
    /// The gRPC status of the response.
    Grpc,
}

impl Reason {
    /// Every reason, in the order of the declaration.
    pub(crate) const ALL: [Reason; 7] = [
        Reason::Connect,
        Reason::Unhealthy,
        Reason::Reset,
        Reason::Timeout,
        Reason::Malformed,
        Reason::Status,
        Reason::Grpc,
    ];

    /// The value of the label in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Reason::Connect => "connect",
            Reason::Unhealthy => "unhealthy",
            Reason::Reset => "reset",
            Reason::Timeout => "timeout",
            Reason::Malformed => "malformed",
            Reason::Status => "status",
            Reason::Grpc => "grpc",
        }
    }

    /// Whether the endpoint is not tried again for the same request. An endpoint that could not be reached is
    /// unlikely to be reachable a moment later, and one that timed out may time out again.
    pub(crate) fn bars_endpoint(self) -> bool {
        matches!(self, Reason::Connect | Reason::Timeout | Reason::Unhealthy)
    }

    /// Whether the request is sent again at once and outside of the retry budget. An endpoint that has processed nothing
    /// of it, or that will not respond, gets no additional load by that.
    pub(crate) fn is_free(self) -> bool {
        matches!(self, Reason::Connect | Reason::Unhealthy)
    }
}

impl<'a> Rules<'a> {
    /// The rules for an upstream, and for the route that the request took.
    pub(crate) fn new(upstream: &'a model::Retry, route: Option<&'a model::RouteRetry>) -> Rules<'a> {
        Rules { upstream, route, once: false }
    }

    /// The same rules for a request that its sender sends again if it fails: then it is sent once, so that the attempts of
    /// both do not multiply.
    pub(crate) fn retried_by_sender(self, once: bool) -> Rules<'a> {
        Rules { once, ..self }
    }

    /// The rules for the same request at another upstream.
    pub(crate) fn of<'b>(self, upstream: &'b model::Retry) -> Rules<'b>
    where
        'a: 'b,
    {
        Rules { upstream, route: self.route, once: self.once }
    }

    /// The value of the route, or else of the upstream.
    fn choose<T>(
        &self,
        route: impl Fn(&'a model::RouteRetry) -> Option<T>,
        upstream: impl Fn(&'a model::Retry) -> T,
    ) -> T {
        self.route.and_then(route).unwrap_or_else(|| upstream(self.upstream))
    }

    /// The most attempts of a request.
    pub(crate) fn attempts(&self) -> u32 {
        if self.once { 1 } else { self.choose(|route| route.attempts, |upstream| upstream.attempts) }
    }

    /// Whether a request may be sent again whatever its method is.
    pub(crate) fn any_method(&self) -> bool {
        self.choose(|route| route.non_idempotent, |upstream| upstream.non_idempotent)
    }

    /// The methods of gRPC whose calls may be sent again although they may have been processed.
    pub(crate) fn safe_methods(&self) -> &'a [model::GrpcMethod] {
        self.choose(|route| route.safe_methods.as_deref(), |upstream| upstream.safe_methods.as_slice())
    }

    /// The timeout of one attempt until the response head.
    pub(crate) fn per_try_timeout(&self) -> Option<Duration> {
        self.choose(|route| route.per_try_timeout, |upstream| upstream.per_try_timeout)
    }

    /// Returns the reason if a fault is one. `repeatable` is whether the request may be sent again although it may
    /// have been processed.
    pub(crate) fn after_fault(&self, fault: &Fault, repeatable: bool) -> Option<Reason> {
        if fault.checks_failed {
            return Some(Reason::Unhealthy);
        }
        if !blames_endpoint(fault) {
            return None;
        }
        let on = self.choose(|route| route.on, |upstream| upstream.on);
        if fault.unsent {
            return on.connect.then_some(Reason::Connect);
        }
        let (chosen, reason) = match fault.kind {
            FaultKind::UpstreamReset => (on.reset, Reason::Reset),
            FaultKind::FirstByteTimeout => (on.timeout, Reason::Timeout),
            FaultKind::UpstreamProtocol => (on.malformed, Reason::Malformed),
            _ => return None,
        };
        (chosen && repeatable).then_some(reason)
    }

    /// Returns the reason if a response is one.
    pub(crate) fn after_answer(
        &self,
        status: StatusCode,
        headers: &HeaderMap,
        repeatable: bool,
    ) -> Option<Reason> {
        if !repeatable {
            return None;
        }
        let statuses =
            self.choose(|route| route.statuses.as_deref(), |upstream| upstream.statuses.as_slice());
        if statuses.contains(&status.as_u16()) {
            return Some(Reason::Status);
        }
        let codes =
            self.choose(|route| route.grpc_statuses.as_deref(), |upstream| upstream.grpc_statuses.as_slice());
        let code = Code::among(headers).filter(|_| !codes.is_empty());
        let chosen = code.is_some_and(|code| codes.contains(&code.number()))
            && pushback(headers).is_none_or(|pushback| pushback.is_some());
        chosen.then_some(Reason::Grpc)
    }
}

/// How long the endpoint wants a call not to be sent again; `Some(None)`: it does not want it at all, which a negative number
/// or nonsense says (gRPC retry design, "Pushback").
pub(crate) fn pushback(headers: &HeaderMap) -> Option<Option<Duration>> {
    let value = headers.get(PUSHBACK)?.to_str().ok();
    let digits = value.filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    Some(
        digits
            .and_then(|digits| digits.parse::<u32>().ok())
            .map(|millis| Duration::from_millis(millis.into())),
    )
}

#[cfg(test)]
mod tests {
    use witgate_exchange::grpc::GRPC_STATUS;

    use super::*;

    fn retry() -> model::Retry {
        crate::testing::upstream(&[]).retry
    }

    #[test]
    fn what_may_have_been_processed_is_sent_again_only_if_it_may() {
        let retry = retry();
        let rules = Rules::new(&retry, None);
        let cases = [
            (
                Fault::new(FaultKind::UpstreamUnreachable).unsent(),
                Some(Reason::Connect),
                Some(Reason::Connect),
            ),
            (Fault::new(FaultKind::ConnectTimeout).unsent(), Some(Reason::Connect), Some(Reason::Connect)),
            (Fault::new(FaultKind::UpstreamReset).unsent(), Some(Reason::Connect), Some(Reason::Connect)),
            (Fault::new(FaultKind::UpstreamReset), None, Some(Reason::Reset)),
            (Fault::new(FaultKind::FirstByteTimeout), None, Some(Reason::Timeout)),
            (Fault::new(FaultKind::UpstreamProtocol), None, Some(Reason::Malformed)),
            (Fault::new(FaultKind::UpstreamOverloaded).unsent(), None, None),
            (Fault::new(FaultKind::RequestTimeout), None, None),
            (Fault::new(FaultKind::ClientGone), None, None),
            (Fault::new(FaultKind::BodyTooLarge), None, None),
        ];
        for (fault, once, repeatable) in cases {
            assert_eq!(rules.after_fault(&fault, false), once, "{fault}, not repeatable");
            assert_eq!(rules.after_fault(&fault, true), repeatable, "{fault}, repeatable");
        }
    }

    #[test]
    fn a_route_has_the_last_word_on_what_it_sets() {
        let upstream = model::Retry { statuses: vec![503], ..retry() };
        let route = model::RouteRetry {
            on: Some(model::RetryOn::default()),
            attempts: Some(2),
            per_try_timeout: Some(None),
            ..model::RouteRetry::default()
        };
        let rules = Rules::new(&upstream, Some(&route));
        let reset = Fault::new(FaultKind::UpstreamReset);
        assert_eq!((rules.attempts(), rules.after_fault(&reset, true)), (2, None));
        let headers = HeaderMap::new();
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(rules.after_answer(unavailable, &headers, true), Some(Reason::Status));
        assert_eq!(rules.after_answer(unavailable, &headers, false), None);
        assert_eq!(rules.after_answer(StatusCode::BAD_GATEWAY, &headers, true), None);
    }

    #[test]
    fn a_grpc_status_counts_in_the_head_only() {
        let upstream = model::Retry { grpc_statuses: vec![14], ..retry() };
        let rules = Rules::new(&upstream, None);
        let mut headers = HeaderMap::new();
        assert_eq!(rules.after_answer(StatusCode::OK, &headers, true), None);
        headers.insert(GRPC_STATUS, http::HeaderValue::from_static("14"));
        assert_eq!(rules.after_answer(StatusCode::OK, &headers, true), Some(Reason::Grpc));
        for (pushback, again) in [("20", true), ("0", true), ("-1", false), ("soon", false), ("", false)] {
            headers.insert(PUSHBACK, http::HeaderValue::from_static(pushback));
            let expected = again.then_some(Reason::Grpc);
            assert_eq!(rules.after_answer(StatusCode::OK, &headers, true), expected, "{pushback:?}");
        }
        headers.remove(PUSHBACK);
        headers.insert(GRPC_STATUS, http::HeaderValue::from_static("5"));
        assert_eq!(rules.after_answer(StatusCode::OK, &headers, true), None);
    }
}
