//! The form in which a client is told of a fault.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

const GRPC: &[u8] = b"application/grpc";

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
    /// The dialect of a request with these headers: gRPC if the content type is `application/grpc`, with or without a
    /// message format (`+proto`) or parameters. gRPC-Web, whose content types begin alike, is another protocol.
    pub fn of(headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
        match kind.split_at_checked(GRPC.len()) {
            Some((kind, rest))
                if kind.eq_ignore_ascii_case(GRPC)
                    && matches!(rest.first(), None | Some(b'+' | b';' | b' ')) =>
            {
                Dialect::Grpc
            }
            _ => Dialect::Problem,
        }
    }
}
