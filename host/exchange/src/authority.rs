//! The authority of a request: `Host`, `:authority` or the authority of an absolute target, which must agree.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Uri, Version, header, uri};

use crate::fault::{Fault, FaultKind};

/// The host that a request is for, in lower case, with the port if one was given.
#[derive(Debug, Clone)]
pub struct Authority {
    /// As text, for the router.
    pub text: Arc<str>,
    /// As a field value, for upstreams.
    pub value: HeaderValue,
}

impl Authority {
    /// An authority whose text was checked.
    pub fn new(text: &str) -> Self {
        // The text was checked to hold only the characters of a host and a port.
        let value = HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static(""));
        Authority { text: text.into(), value }
    }
}

/// The authority of a request.
///
/// # Errors
/// `BadRequest` if it is missing, repeated, malformed, contains user information, or differs between the places
/// that state it (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub fn of(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Authority, Fault> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("Host is repeated"));
    }
    let host = host.map(|host| normalise(host.as_bytes())).transpose()?;
    let target = uri.authority().map(|authority| normalise(authority.as_str().as_bytes())).transpose()?;
    match (host, target) {
        (_, Some(_)) if version < Version::HTTP_2 && uri.scheme().is_none() => {
            Err(bad("the request target has no scheme"))
        }
        (Some(host), Some(target)) if host != target => Err(bad("Host and the request target disagree")),
        (_, Some(target)) => Ok(Authority::new(&target)),
        (Some(host), None) => Ok(Authority::new(&host)),
        (None, None) if version == Version::HTTP_10 => Ok(Authority::new("")),
        (None, None) => Err(bad("Host is missing")),
    }
}

/// The host in lower case, with the port if there is one.
fn normalise(authority: &[u8]) -> Result<String, Fault> {
    if authority.is_empty() {
        return Ok(String::new());
    }
    if authority.contains(&b'@') {
        return Err(bad("the authority names a user"));
    }
    let parsed = uri::Authority::try_from(authority).map_err(|_| bad("Host is malformed"))?;
    let host = parsed.host();
    let bracketed = host.starts_with('[');
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let literal = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.' | b'[' | b']');
    if host.is_empty() || !host.bytes().all(|byte| if bracketed { literal(byte) } else { plain(byte) }) {
        return Err(bad("Host is malformed"));
    }
    let rest = &parsed.as_str()[host.len()..];
    let port = rest.strip_prefix(':').unwrap_or_default();
    if !port.bytes().all(|byte| byte.is_ascii_digit()) || (!port.is_empty() && parsed.port_u16().is_none()) {
        return Err(bad("Host is malformed"));
    }
    let host = host.strip_suffix('.').filter(|host| !host.is_empty()).unwrap_or(host).to_ascii_lowercase();
    Ok(if port.is_empty() { host } else { format!("{host}:{port}") })
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}
