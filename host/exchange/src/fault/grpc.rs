//! Faults in gRPC's form: status 200 and only trailers ("Trailers-Only" of gRPC over HTTP/2).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::FaultKind;
use crate::body::Body;

/// A gRPC status and its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    code: u16,
    message: &'static str,
}

impl GrpcStatus {
    /// The gRPC status of a kind of fault; `None` if a gRPC client gets a problem document.
    pub(super) fn of(kind: FaultKind) -> Option<Self> {
        match kind {
            // DEADLINE_EXCEEDED
            FaultKind::RequestTimeout => Some(GrpcStatus { code: 4, message: "the deadline has passed" }),
            _ => None,
        }
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
