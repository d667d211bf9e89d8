//! What of a request is part of its message.

use bytes::Bytes;
use http::HeaderName;
use http::header::CONTENT_TYPE;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::trace::{BAGGAGE, TRACEPARENT, TRACESTATE};

/// Headers that every message has if its request has them, besides the media type.
const ALWAYS: [HeaderName; 3] = [TRACEPARENT, TRACESTATE, BAGGAGE];

/// The headers of the message of a request: those that are named, and those that carry the trace. A repeated header is joined
/// as RFC 9110 section 5.3 says.
///
/// # Errors
/// `BadMessage` if a value is no text, which brokers cannot hold.
pub(super) fn headers(head: &RequestHead, named: &[String]) -> Result<Vec<(String, Bytes)>, Fault> {
    let mut headers = Vec::new();
    if let Some(trace) = &head.trace {
        // The span of this hop is the parent of what the consumer does.
        headers
            .push((TRACEPARENT.as_str().to_owned(), Bytes::copy_from_slice(&trace.traceparent(&trace.span))));
    }
    let always = ALWAYS;
    for name in always.iter().map(HeaderName::as_str).chain(named.iter().map(String::as_str)) {
        if name == CONTENT_TYPE.as_str() || headers.iter().any(|(known, _)| known == name) {
            continue;
        }
        if let Some(value) = joined(head, name)? {
            headers.push((name.to_owned(), value.into()));
        }
    }
    Ok(headers)
}

/// The media type of the body.
///
/// # Errors
/// `BadMessage` if it is no text.
pub(super) fn content_type(head: &RequestHead) -> Result<Option<String>, Fault> {
    joined(head, CONTENT_TYPE.as_str())
}

fn joined(head: &RequestHead, name: &str) -> Result<Option<String>, Fault> {
    let mut joined: Option<String> = None;
    for value in head.headers.get_all(name) {
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            Fault::new(FaultKind::BadMessage).detail(format!("the header `{name}` is not UTF-8"))
        })?;
        joined = Some(joined.map_or_else(|| value.to_owned(), |before| format!("{before}, {value}")));
    }
    Ok(joined)
}

/// A new id of a message: 128 random bits in hexadecimal.
pub(crate) fn new_id() -> String {
    format!("{:032x}", fastrand::u128(..))
}
