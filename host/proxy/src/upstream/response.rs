//! The response of an endpoint, before it is believed.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Response, StatusCode, Version};
use hyper::body::Incoming;

use crate::fault::{Fault, FaultKind};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Checks and cleans the head of a response. `asked` says whether the request asked to switch protocols.
///
/// hyper has refused control bytes, malformed lines and lengths that contradict each other. What it accepts and this
/// refuses: a length beside a transfer coding (RFC 9112 section 6.3), and codings it would hand on undecoded.
///
/// # Errors
/// `UpstreamProtocol`.
pub(super) fn admit(response: &mut Response<Incoming>, asked: bool) -> Result<(), Fault> {
    let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !asked {
        return Err(malformed("101 that was not asked for"));
    }
    let http1 = response.version() < Version::HTTP_2;
    let headers = response.headers_mut();
    if http1 {
        check_framing(headers)?;
    }
    one_length(headers)?;
    if !switching {
        strip_hop_by_hop(headers);
    }
    Ok(())
}

fn check_framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(_), _) if headers.contains_key(CONTENT_LENGTH) => {
            Err(malformed("Content-Length beside Transfer-Encoding"))
        }
        (Some(coding), None) if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(malformed("a transfer coding other than chunked")),
    }
}

/// The same length said twice is said once.
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

/// RFC 9110 section 7.6.1: what `Connection` names, and what is known to be meant for one hop.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named.iter().filter(|name| **name != CONTENT_LENGTH) {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

fn malformed(cause: &'static str) -> Fault {
    Fault::new(FaultKind::UpstreamProtocol).cause(cause)
}
