//! Validates the response of an endpoint before it is forwarded.

pub(crate) mod download;
pub(crate) mod failure;
pub(crate) mod observed_body;
pub(crate) mod resumed;
pub(crate) mod tunnel;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, StatusCode};
use witgate_exchange::fault::{Fault, FaultKind};

use witgate_wire::http1::field;

/// The error for a head with more fields than the upstream's settings allow.
pub(crate) const TOO_MANY: &str = "too many header fields; the upstream's `response_headers` is the limit";

/// Validates and cleans the head of an HTTP/2 response, which may have `most` fields. For HTTP/1.1 the same rules are applied while the head is
/// read.
///
/// # Errors
/// `UpstreamProtocol`.
pub(crate) fn admit(status: StatusCode, headers: &mut HeaderMap, most: usize) -> Result<(), Fault> {
    if headers.len() > most {
        return Err(malformed(TOO_MANY));
    }
    self::status(status.as_str().as_bytes()).map_err(malformed)?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(malformed("101 that was not asked for"));
    }
    one_length(headers)?;
    strip_for_next_hop(headers);
    Ok(())
}

/// Parses a status. One outside of 100 to 599 is invalid (RFC 9110 section 15); a client would take it for anything.
pub(crate) fn status(digits: &[u8]) -> Result<StatusCode, &'static str> {
    let status = StatusCode::from_bytes(digits).map_err(|_| "the status is no number of three digits")?;
    match status.as_u16() {
        100..600 => Ok(status),
        _ => Err("the status is not between 100 and 599"),
    }
}

/// Accepts a length that is repeated with the same value, and keeps one.
fn one_length(headers: &mut HeaderMap) -> Result<(), Fault> {
    let Some(first) = headers.get(CONTENT_LENGTH) else { return Ok(()) };
    let digits = |value: &HeaderValue| !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    if !digits(first) || values.any(|value| value != first) {
        return Err(malformed("a Content-Length that is no number"));
    }
    let repeated = headers.get_all(CONTENT_LENGTH).iter().nth(1).is_some();
    if repeated {
        let first = first.clone();
        headers.insert(CONTENT_LENGTH, first);
    }
    Ok(())
}

/// Removes hop-by-hop headers (RFC 9110 section 7.6.1): those that `Connection` lists, and those known to be
/// hop-by-hop.
fn strip_for_next_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        strip_named(headers, &named);
    }
    field::strip_hop_by_hop(headers);
}

/// Removes the headers that `Connection` lists, except for `Content-Length`: otherwise an endpoint could remove
/// the framing.
pub(crate) fn strip_named(headers: &mut HeaderMap, named: &[HeaderName]) {
    for name in named.iter().filter(|name| **name != CONTENT_LENGTH) {
        headers.remove(name);
    }
}

fn malformed(cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol).cause(cause)
}
