//! Faults as gRPC has them: status 200 and trailers only ("Trailers-Only" of gRPC over HTTP/2).

use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};

use super::FaultKind;
use crate::body::Body;

/// A status of gRPC and what is said with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GrpcStatus {
    code: u16,
    message: &'static str,
}

impl GrpcStatus {
    /// The status of a kind of fault; none: a client of gRPC is told of it by a problem document.
    pub(super) fn of(kind: FaultKind) -> Option<Self> {
        match kind {
            // DEADLINE_EXCEEDED
            FaultKind::RequestTimeout => Some(GrpcStatus { code: 4, message: "the deadline has passed" }),
            _ => None,
        }
    }

    /// The response that says so.
    pub(super) fn response(self) -> Response<Body> {
        let mut response = Response::new(Body::Empty);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from(self.code));
        headers.insert("grpc-message", HeaderValue::from_static(self.message));
        response
    }
}
