//! Faults: how the gateway itself ends a request, who is to blame, what the client and the log are told.

mod dialect;
mod grpc;
mod problem;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION};
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};

use crate::body::Body;
use crate::grpc::Code;
use crate::trace::REQUEST_ID;
pub use dialect::Dialect;
pub use grpc::connect_error;

/// `Proxy-Status` (RFC 9209).
pub const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Every way in which the gateway itself ends a request. The code is stable: clients and dashboards may match on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each row of `describe` documents its kind")]
pub enum FaultKind {
    BadRequest,
    BadPath,
    Unauthenticated,
    Forbidden,
    NoRoute,
    MethodNotAllowed,
    HeaderTimeout,
    BodyTimeout,
    BodyTooLarge,
    TargetTooLong,
    HeadersTooLarge,
    TransferCoding,
    UnsupportedEncoding,
    RateLimited,
    ClientGone,
    UpgradeRefused,
    MisdirectedRequest,
    BadClientHello,
    BadProxyHeader,
    PluginFailed,
    UpstreamUnreachable,
    UpstreamReset,
    UpstreamProtocol,
    UpstreamTls,
    UpstreamOverloaded,
    NoEndpoint,
    BreakerOpen,
    ConnectTimeout,
    FirstByteTimeout,
    RequestTimeout,
    BadMessage,
    MessageTooLarge,
    MessageUnroutable,
    BrokerUnreachable,
    BrokerOverloaded,
    BrokerRefused,
    BrokerLost,
    BrokerTimeout,
    Overloaded,
    Draining,
    Internal,
}

/// Who is to blame for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client's request.
    Client,
    /// A plugin.
    Plugin,
    /// The upstream.
    Upstream,
    /// The gateway or its operator.
    Gateway,
}

/// The fixed properties of a kind of fault.
#[derive(Debug, Clone, Copy)]
pub struct Description {
    /// The status of the response.
    pub status: StatusCode,
    /// The stable code.
    pub code: &'static str,
    /// The title of the problem document (RFC 9457 section 3.1.3).
    pub title: &'static str,
    /// Who is to blame.
    pub blame: Blame,
    /// The `Proxy-Status` error type (RFC 9209 section 2.3), if one fits.
    pub proxy_error: Option<&'static str>,
}

impl FaultKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: &[FaultKind] = &[
        FaultKind::BadRequest,
        FaultKind::BadPath,
        FaultKind::Unauthenticated,
        FaultKind::Forbidden,
        FaultKind::NoRoute,
        FaultKind::MethodNotAllowed,
        FaultKind::HeaderTimeout,
        FaultKind::BodyTimeout,
        FaultKind::BodyTooLarge,
        FaultKind::TargetTooLong,
        FaultKind::HeadersTooLarge,
        FaultKind::TransferCoding,
        FaultKind::UnsupportedEncoding,
        FaultKind::RateLimited,
        FaultKind::ClientGone,
        FaultKind::UpgradeRefused,
        FaultKind::MisdirectedRequest,
        FaultKind::BadClientHello,
        FaultKind::BadProxyHeader,
        FaultKind::PluginFailed,
        FaultKind::UpstreamUnreachable,
        FaultKind::UpstreamReset,
        FaultKind::UpstreamProtocol,
        FaultKind::UpstreamTls,
        FaultKind::UpstreamOverloaded,
        FaultKind::NoEndpoint,
        FaultKind::BreakerOpen,
        FaultKind::ConnectTimeout,
        FaultKind::FirstByteTimeout,
        FaultKind::RequestTimeout,
        FaultKind::BadMessage,
        FaultKind::MessageTooLarge,
        FaultKind::MessageUnroutable,
        FaultKind::BrokerUnreachable,
        FaultKind::BrokerOverloaded,
        FaultKind::BrokerRefused,
        FaultKind::BrokerLost,
        FaultKind::BrokerTimeout,
        FaultKind::Overloaded,
        FaultKind::Draining,
        FaultKind::Internal,
    ];

    /// Whether the rest of the request body is ambiguous or not worth reading, so that the connection cannot be
    /// kept alive.
    fn ends_connection(self) -> bool {
        matches!(
            self,
            FaultKind::BadRequest
                | FaultKind::HeaderTimeout
                | FaultKind::BodyTimeout
                | FaultKind::BodyTooLarge
                | FaultKind::TargetTooLong
                | FaultKind::HeadersTooLarge
                | FaultKind::TransferCoding
                | FaultKind::Draining
        )
    }

    /// The gRPC status for callers of gRPC.
    pub fn grpc_code(self) -> Code {
        grpc::code(self)
    }

    /// The value of `Proxy-Status` (RFC 9209), if an error type fits.
    pub fn proxy_status(self) -> Option<HeaderValue> {
        let error = self.describe().proxy_error?;
        let status = format!("witgate; error={error}");
        Some(HeaderValue::from_str(&status).expect("the table's words are tokens"))
    }

    /// The properties of this kind.
    pub fn describe(self) -> Description {
        use Blame::{Client, Gateway, Plugin, Upstream};
        use FaultKind as K;
        #[rustfmt::skip] // A table is read by its rows.
        let (status, code, title, blame, proxy_error) = match self {
            K::BadRequest => (400, "bad-request", "The request is malformed or ambiguous", Client, Some("http_request_error")),
            K::BadPath => (400, "bad-path", "The path cannot be interpreted safely", Client, Some("http_request_error")),
            K::Unauthenticated => (401, "unauthenticated", "The caller is not authenticated", Client, None),
            K::Forbidden => (403, "forbidden", "The caller may not do this", Client, Some("http_request_denied")),
            K::NoRoute => (404, "no-route", "No route matches", Client, Some("destination_not_found")),
            K::MethodNotAllowed => (405, "method-not-allowed", "The route does not allow this method", Client, None),
            K::HeaderTimeout => (408, "header-timeout", "The request head did not arrive in time", Client, None),
            K::BodyTimeout => (408, "body-timeout", "The request body did not arrive in time", Client, None),
            K::BodyTooLarge => (413, "body-too-large", "The request body is over the limit", Client, None),
            K::TargetTooLong => (414, "target-too-long", "The request target is over the limit", Client, None),
            K::HeadersTooLarge => (431, "headers-too-large", "The header section is over the limit", Client, None),
            K::TransferCoding => (501, "transfer-coding", "The transfer coding of the request body is unknown", Client, Some("http_request_error")),
            K::UnsupportedEncoding => (415, "unsupported-encoding", "The content coding of the request is not supported", Client, None),
            K::RateLimited => (429, "rate-limited", "Too many requests", Client, None),
            K::ClientGone => (499, "client-gone", "The client went away", Client, None),
            K::UpgradeRefused => (400, "upgrade-refused", "This upgrade cannot be forwarded", Client, None),
            K::MisdirectedRequest => (421, "misdirected-request", "TLS of this connection is not for this host", Client, Some("http_request_error")),
            K::BadClientHello => (400, "bad-client-hello", "The connection does not begin with an acceptable TLS ClientHello", Client, None),
            K::BadProxyHeader => (400, "bad-proxy-header", "The connection does not begin with an acceptable PROXY header, or must not have one", Client, None),
            K::PluginFailed => (503, "plugin-failed", "A plugin failed", Plugin, Some("proxy_internal_error")),
            K::UpstreamUnreachable => (502, "upstream-unreachable", "The upstream could not be reached", Upstream, Some("connection_refused")),
            K::UpstreamReset => (502, "upstream-reset", "The upstream closed the connection", Upstream, Some("connection_terminated")),
            K::UpstreamProtocol => (502, "upstream-protocol", "The upstream's response is malformed", Upstream, Some("http_protocol_error")),
            K::UpstreamTls => (502, "upstream-tls", "No trusted TLS connection to the upstream", Upstream, Some("tls_protocol_error")),
            K::UpstreamOverloaded => (503, "upstream-overloaded", "The upstream is at its limit", Upstream, Some("connection_limit_reached")),
            K::NoEndpoint => (503, "no-endpoint", "The upstream has no endpoint in service", Upstream, Some("destination_unavailable")),
            K::BreakerOpen => (503, "breaker-open", "The circuit breaker of the upstream is open", Upstream, Some("destination_unavailable")),
            K::ConnectTimeout => (504, "connect-timeout", "The upstream did not accept a connection in time", Upstream, Some("connection_timeout")),
            K::FirstByteTimeout => (504, "first-byte-timeout", "The upstream did not respond in time", Upstream, Some("http_response_timeout")),
            K::RequestTimeout => (504, "request-timeout", "The request took longer than its route allows", Upstream, Some("http_response_timeout")),
            K::BadMessage => (400, "bad-message", "The request cannot become a message", Client, None),
            K::MessageTooLarge => (413, "message-too-large", "The message is larger than the broker takes", Client, None),
            K::MessageUnroutable => (502, "message-unroutable", "No queue takes the message, so it was not stored", Upstream, Some("destination_not_found")),
            K::BrokerUnreachable => (503, "broker-unreachable", "The broker is not connected, so the message was not stored", Upstream, Some("destination_unavailable")),
            K::BrokerOverloaded => (503, "broker-overloaded", "There is no room for the message, so it was not stored", Upstream, Some("connection_limit_reached")),
            K::BrokerRefused => (503, "broker-refused", "The broker refused the message, so it was not stored", Upstream, Some("destination_unavailable")),
            K::BrokerLost => (503, "broker-lost", "The connection to the broker was lost; the message may have been stored", Upstream, Some("connection_terminated")),
            K::BrokerTimeout => (504, "broker-timeout", "The broker did not confirm in time; the message may have been stored", Upstream, Some("http_response_timeout")),
            K::Overloaded => (503, "overloaded", "The gateway is at its limit", Gateway, Some("proxy_internal_response")),
            K::Draining => (503, "draining", "The gateway is shutting down", Gateway, Some("proxy_internal_response")),
            K::Internal => (500, "internal", "The gateway failed", Gateway, Some("proxy_internal_error")),
        };
        let status = StatusCode::from_u16(status).expect("every row of the table has a valid status");
        Description { status, code, title, blame, proxy_error }
    }
}

/// One failure of one request.
#[derive(Debug)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// What the client is told beyond the title. Never names endpoints, files or messages of plugins.
    pub detail: Option<Cow<'static, str>>,
    /// What only the log is told.
    pub cause: Option<Cow<'static, str>>,
    /// Headers of the response, e.g. `Allow`, `Retry-After`, `WWW-Authenticate`.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether no byte of the request can have reached the upstream, so that it may be sent again.
    pub unsent: bool,
    /// Whether this is the end of a connection shared by many requests that another request has already reported.
    /// Consecutive failures count such an end once.
    pub shared: bool,
    /// Whether the request's own body ended the exchange: it was too large, malformed or too slow, a plugin failed
    /// on it, or its client left. Then the upstream is not to blame, whatever the kind, and nothing is sent again.
    pub by_request: bool,
    /// Whether the endpoint was given up because its health checks failed while the request, which may be sent to another
    /// endpoint, waited for it.
    pub checks_failed: bool,
    /// A plugin's response, which the client gets in place of the fault's own.
    pub instead: Option<Box<Response<Bytes>>>,
}

impl Fault {
    /// A fault without details.
    pub fn new(kind: FaultKind) -> Self {
        Fault {
            kind,
            detail: None,
            cause: None,
            headers: Vec::new(),
            unsent: false,
            shared: false,
            by_request: false,
            checks_failed: false,
            instead: None,
        }
    }

    /// Adds a detail for the client.
    pub fn detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Adds a cause for the log.
    pub fn cause(mut self, cause: impl Into<Cow<'static, str>>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Adds a header to the response.
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Marks that no byte can have reached the upstream.
    pub fn unsent(mut self) -> Self {
        self.unsent = true;
        self
    }

    /// The response for the client, in its dialect, with the request id, `Proxy-Status` (RFC 9209), and the fault's own
    /// headers. It contains nothing that is meant only for the log. `Connection: close` is dropped later for HTTP/2,
    /// which has no such header.
    pub fn into_response(self, dialect: Dialect, request_id: &str, method: &Method) -> Response<Body> {
        let mut response = match dialect.is_of_grpc() {
            true => grpc::response(&self, dialect, method),
            false => problem::response(&self, request_id, method),
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(REQUEST_ID, id);
        }
        if let Some(status) = self.kind.proxy_status() {
            headers.insert(PROXY_STATUS, status);
        }
        if self.kind.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

/// Turns a refusal, which has a status of HTTP, into the form of a dialect of gRPC. Its message is its text, or what its
/// problem document says; headers that describe no body, such as those of rate limits, stay.
pub fn refuse(response: &mut Response<Body>, dialect: Dialect, method: &Method) {
    if dialect.is_of_grpc() {
        grpc::refuse(response, dialect, method);
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let description = self.kind.describe();
        write!(formatter, "{}", description.title)?;
        if let Some(detail) = &self.detail {
            write!(formatter, ": {detail}")?;
        }
        if let Some(cause) = &self.cause {
            write!(formatter, " ({cause})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Version;
    use http::header::RETRY_AFTER;
    use http_body::Body as _;

    use super::*;
    use crate::facts::Facts;
    use crate::testing;

    /// `RetryInfo` with three seconds, in base64.
    const DETAILS: &str = "CAQSF3RoZSBkZWFkbGluZSBoYXMgcGFzc2VkGjAKKHR5cGUuZ29vZ2xlYXBpcy5jb20vZ29vZ2xlLnJwYy5SZXRyeUluZm8SBAoCCAM";

    fn told(kind: FaultKind, dialect: Dialect, method: &Method) -> Response<Body> {
        let fault = Fault::new(kind).cause("10.0.0.1:80").header(RETRY_AFTER, HeaderValue::from(3));
        fault.into_response(dialect, "an-id", method)
    }

    #[test]
    fn a_client_of_grpc_is_told_of_its_deadline_in_trailers_only() {
        for method in [Method::POST, Method::HEAD] {
            let response = told(FaultKind::RequestTimeout, Dialect::Grpc, &method);
            assert_eq!(response.status(), StatusCode::OK);
            let mut headers: Vec<_> = response
                .headers()
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_str().expect("ASCII")))
                .collect();
            headers.sort_unstable();
            let expected = [
                ("cache-control", "no-store"),
                ("content-type", "application/grpc"),
                ("grpc-message", "the deadline has passed"),
                ("grpc-status", "4"),
                ("grpc-status-details-bin", DETAILS),
                ("proxy-status", "witgate; error=http_response_timeout"),
                ("retry-after", "3"),
                ("x-request-id", "an-id"),
            ];
            assert_eq!(headers, expected);
            assert!(response.body().is_end_stream());
        }
    }

    fn grpc_outcome(response: &Response<Body>) -> u16 {
        response.headers()["grpc-status"].to_str().expect("ASCII").parse().expect("a number")
    }

    /// The gRPC status of every kind of fault, in the order of [`FaultKind::ALL`].
    const CODES: [u16; FaultKind::ALL.len()] = [
        3, 3, 16, 7, 12, 12, 4, 4, 8, 8, 8, 12, 12, 8, 1, 3, 3, 3, 3, 13, 14, 14, 13, 14, 14, 14, 14, 14, 4,
        4, 3, 8, 14, 14, 14, 14, 14, 4, 14, 14, 13,
    ];

    #[test]
    fn every_fault_is_told_in_the_dialect_of_grpc_with_its_code() {
        for (kind, code) in FaultKind::ALL.iter().zip(CODES) {
            for (dialect, content_type) in [
                (Dialect::Grpc, "application/grpc"),
                (Dialect::GrpcWeb(false), "application/grpc-web+proto"),
                (Dialect::GrpcWeb(true), "application/grpc-web-text+proto"),
            ] {
                let response = told(*kind, dialect, &Method::POST);
                assert_eq!(response.status(), StatusCode::OK, "{kind:?}");
                assert_eq!(response.headers()["content-type"], content_type);
                assert_eq!(grpc_outcome(&response), code, "{kind:?}");
                assert!(!response.headers()["grpc-message"].is_empty());
                assert!(!response.headers()["grpc-status-details-bin"].is_empty(), "there is a Retry-After");
                assert!(response.body().is_end_stream());
            }
        }
    }

    #[test]
    fn every_fault_is_told_as_an_error_of_connect() {
        for (kind, code) in FaultKind::ALL.iter().zip(CODES) {
            let response = told(*kind, Dialect::Connect, &Method::POST);
            let code = Code::of(code.into());
            assert_eq!(response.status(), code.http_status(), "{kind:?}");
            assert_eq!(response.headers()["content-type"], "application/json");
            let body = testing::run(testing::bytes(response.into_body())).expect("a body");
            let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(document["code"], code.name());
            assert_eq!(document["details"][0]["type"], "google.rpc.RetryInfo");
            assert!(!document.to_string().contains("10.0.0.1"));
        }
    }

    #[test]
    fn refusals_of_plugins_and_filters_are_told_in_the_dialect_too() {
        let refused = |status: u16, kind: &'static str, body: &'static str, dialect| {
            let mut response = Response::new(Body::from(Bytes::from_static(body.as_bytes())));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            response.headers_mut().insert("content-type", HeaderValue::from_static(kind));
            response.headers_mut().insert("ratelimit", HeaderValue::from_static("r=0"));
            response.headers_mut().insert("content-length", HeaderValue::from(body.len()));
            refuse(&mut response, dialect, &Method::POST);
            response
        };
        for (status, code) in [
            (400, 3),
            (401, 16),
            (403, 7),
            (404, 12),
            (413, 8),
            (429, 8),
            (499, 1),
            (503, 14),
            (504, 4),
            (500, 13),
            (422, 3),
        ] {
            let response = refused(status, "text/plain", "not so", Dialect::Grpc);
            assert_eq!((response.status().as_u16(), grpc_outcome(&response)), (200, code), "{status}");
            assert_eq!(response.headers()["grpc-message"], "not so");
            assert_eq!(response.headers()["ratelimit"], "r=0");
            assert!(!response.headers().contains_key("content-length"));
        }
        let response =
            refused(403, "application/problem+json", "{\"detail\": \"not for you\"}", Dialect::Grpc);
        assert_eq!(response.headers()["grpc-message"], "not for you");
        let response = refused(403, "text/html", "<p>", Dialect::GrpcWeb(false));
        assert_eq!(response.headers()["grpc-message"], "Forbidden");
        let response = refused(403, "text/plain", "no", Dialect::Connect);
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        let body = testing::run(testing::bytes(response.into_body())).expect("a body");
        assert_eq!(body, r#"{"code":"permission_denied","message":"no"}"#);
    }

    #[test]
    fn a_grpc_client_does_not_repeat_a_call_that_may_have_been_processed() {
        let told = |kind| grpc_outcome(&told(kind, Dialect::Grpc, &Method::POST));
        for kind in [FaultKind::RequestTimeout, FaultKind::FirstByteTimeout, FaultKind::BodyTimeout] {
            assert_eq!(told(kind), 4, "{kind:?}");
        }
        for kind in [FaultKind::UpstreamProtocol, FaultKind::PluginFailed] {
            assert_eq!(told(kind), 13, "{kind:?}");
        }
        assert_eq!(told(FaultKind::BodyTooLarge), 8);
        for kind in [FaultKind::UpstreamUnreachable, FaultKind::ConnectTimeout, FaultKind::BreakerOpen] {
            assert_eq!(told(kind), 14, "nothing was sent: {kind:?}");
        }
    }

    #[test]
    fn every_fault_is_a_problem_document_for_other_clients() {
        for kind in FaultKind::ALL {
            let response = told(*kind, Dialect::Problem, &Method::POST);
            assert_eq!(response.status(), kind.describe().status);
            assert!(!response.headers().contains_key("grpc-status"), "{kind:?}");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let length = response.headers()["content-length"].clone();
            let body = testing::run(testing::bytes(response.into_body())).expect("a body");
            assert_eq!(length, HeaderValue::from(body.len()));
            let document: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(document["code"], kind.describe().code);
            assert!(!document.to_string().contains("10.0.0.1"));
        }
    }

    #[test]
    fn the_dialect_is_that_of_the_client_and_is_found_once() {
        let facts = |version, method, kind| {
            let head = testing::head(method, "/", &[("content-type", kind)]);
            Facts::new(std::sync::Arc::new(head), version, std::time::Instant::now())
        };
        let dialect = |kind| facts(Version::HTTP_2, Method::POST, kind).dialect;
        assert_eq!(dialect("application/grpc"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc+proto"), Dialect::Grpc);
        assert_eq!(dialect("application/grpc; charset=utf-8"), Dialect::Grpc);
        assert_eq!(dialect("Application/gRPC"), Dialect::Grpc);
        for other in ["application/json", "application/grpcs", "application/grpc-webs", "application/proto"] {
            assert_eq!(dialect(other), Dialect::Problem, "{other}");
        }
        for (version, method) in [
            (Version::HTTP_11, Method::POST),
            (Version::HTTP_10, Method::POST),
            (Version::HTTP_2, Method::GET),
            (Version::HTTP_2, Method::PUT),
        ] {
            let other = facts(version, method.clone(), "application/grpc").dialect;
            assert_eq!(other, Dialect::Problem, "{version:?} {method}");
        }
        assert_eq!(dialect("application/grpc-web"), Dialect::GrpcWeb(false));
        assert_eq!(dialect("application/grpc-web-text+proto"), Dialect::GrpcWeb(true));
        let connect =
            |method, target, headers: &[_]| testing::facts(testing::head(method, target, headers)).dialect;
        let version = ("connect-protocol-version", "1");
        let kind = ("content-type", "application/proto");
        assert_eq!(connect(Method::POST, "/a.B/C", &[version, kind]), Dialect::Connect);
        assert_eq!(connect(Method::GET, "/a.B/C?message=&connect=v1", &[]), Dialect::Connect);
        assert_eq!(connect(Method::GET, "/a.B/C?connect=v10", &[]), Dialect::Problem);
        assert_eq!(connect(Method::PUT, "/a.B/C", &[version, kind]), Dialect::Problem);
        let mut facts = facts(Version::HTTP_2, Method::POST, "application/grpc");
        let head = std::sync::Arc::make_mut(&mut facts.head);
        head.headers.insert("content-type", HeaderValue::from_static("application/json"));
        let response = facts.fault(Fault::new(FaultKind::RequestTimeout));
        assert_eq!(response.headers()["grpc-status"], "4", "a filter does not change what the client speaks");
    }
}
