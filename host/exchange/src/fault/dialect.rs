//! The form in which a client is told of a fault.

use http::{HeaderMap, HeaderName, Method, Version};

use crate::grpc::{has_type, is_grpc};
use crate::head::RequestHead;

/// The header by which clients of Connect say so.
const CONNECT_VERSION: HeaderName = HeaderName::from_static("connect-protocol-version");

/// The form in which a client is told of a fault. It is determined once for each request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dialect {
    /// A problem document (RFC 9457) with the status of the fault.
    #[default]
    Problem,
    /// A response of gRPC that consists of trailers only.
    Grpc,
    /// A response of gRPC-Web whose status is in its headers; its content type is binary, or base64 (`true`).
    GrpcWeb(bool),
    /// An error of the Connect protocol, which is JSON, with the status of HTTP that the protocol has for it.
    Connect,
}

impl Dialect {
    /// The dialect of a request with this head. gRPC is spoken over HTTP/2 only, and its calls are POSTs: whoever sends
    /// others would not understand a fault in its form. Connect is recognised by its version, which its clients send in a
    /// header, or with GET in the query, and by the content types of unary calls.
    pub fn of(head: &RequestHead, version: Version) -> Self {
        let headers = &head.headers;
        if version == Version::HTTP_2 && head.method == Method::POST && is_grpc(headers) {
            Dialect::Grpc
        } else if has_type(headers, "application/grpc-web-text") {
            Dialect::GrpcWeb(true)
        } else if has_type(headers, "application/grpc-web") {
            Dialect::GrpcWeb(false)
        } else if is_connect(head, headers) {
            Dialect::Connect
        } else {
            Dialect::Problem
        }
    }

    /// Whether the client speaks gRPC, or a protocol that stands for it.
    pub fn is_of_grpc(self) -> bool {
        self != Dialect::Problem
    }
}

fn is_connect(head: &RequestHead, headers: &HeaderMap) -> bool {
    match head.method {
        Method::POST => {
            headers.get(CONNECT_VERSION).is_some_and(|version| version == "1")
                && (has_type(headers, "application/proto") || has_type(headers, "application/json"))
        }
        Method::GET => head.query().is_some_and(|query| query.split('&').any(|pair| pair == "connect=v1")),
        _ => false,
    }
}
