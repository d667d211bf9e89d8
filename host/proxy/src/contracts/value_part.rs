//! Values that are put together for each request.

use bytes::Bytes;

/// A part of a composed value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of parts of a request, and of a response")]
pub enum ValuePart {
    Text(Bytes),
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    Route,
    PathParameter(String),
    RequestHeader(String),
    RequestId,
    TraceParent,
    Subject,
    Claim(String),
    Status,
    ResponseHeader(String),
}
