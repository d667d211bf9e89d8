//! The form in which a client is told of a fault.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The form in which a client is told of a fault. It is determined once for each request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A problem document (RFC 9457) with the status of the fault.
    #[default]
    Problem,
    /// A response of gRPC that consists of trailers only, for the kinds of faults that have a gRPC status. Other
    /// faults are problem documents in this dialect too.
    Grpc,
}

impl Dialect {
    /// The dialect of a request with these headers: gRPC if the content type begins with `application/grpc`.
    pub fn of(headers: &HeaderMap) -> Self {
        match headers.get(CONTENT_TYPE) {
            Some(kind) if kind.as_bytes().starts_with(b"application/grpc") => Dialect::Grpc,
            _ => Dialect::Problem,
        }
    }
}
