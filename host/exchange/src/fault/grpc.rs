//! Faults in gRPC's form: status 200 and only trailers ("Trailers-Only" of gRPC over HTTP/2).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::FaultKind;
use crate::body::Body;

// Codes of gRPC ("Status codes and their use in gRPC").
const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
const INTERNAL: u16 = 13;

/// A gRPC status and its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    code: u16,
    message: &'static str,
}

impl GrpcStatus {
    /// The gRPC status of a kind of fault; `None` if a gRPC client gets a problem document.
    ///
    /// A client reads the statuses 502, 503 and 504 of a problem document as UNAVAILABLE, and may then send the call
    /// again ("HTTP to gRPC Status Code Mapping"). So every fault of these statuses after which the endpoint may have
    /// processed the call has a gRPC status that is not repeated. The exception is a connection that broke off,
    /// which gRPC itself calls UNAVAILABLE.
    pub(super) fn of(kind: FaultKind) -> Option<Self> {
        let (code, message) = match kind {
            FaultKind::RequestTimeout => (DEADLINE_EXCEEDED, "the deadline has passed"),
            FaultKind::FirstByteTimeout => (DEADLINE_EXCEEDED, "the upstream did not respond in time"),
            FaultKind::BodyTimeout => (DEADLINE_EXCEEDED, "the request did not arrive in time"),
            FaultKind::BodyTooLarge => (RESOURCE_EXHAUSTED, "a message of the request is over the limit"),
            FaultKind::UpstreamProtocol => (INTERNAL, "the response of the upstream is malformed"),
            FaultKind::PluginFailed => (INTERNAL, "a plugin failed"),
            _ => return None,
        };
        Some(GrpcStatus { code, message })
    }

    /// The response with this status.
    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(self.code));
        headers.insert("grpc-message", HeaderValue::from_static(self.message));
        response
    }
}
