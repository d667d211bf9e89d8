//! Rules for what a plugin may return. The gateway, `witgate plugin call` and the mocks of the SDK apply them by this
//! code, so that a result that passes the tests of a plugin passes in the gateway, too.
//!
//! A rule that depends on the configuration of a gateway, for example on its identity headers, is not among them.

/// The way that a header goes. The gateway reserves other names in requests than in responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the upstream.
    Request,
    /// To the client.
    Response,
}

/// Checks the name of a header that a plugin sets, adds or removes.
///
/// # Errors
/// It is not a lower-case token (RFC 9110 section 5.6.2), or the gateway writes this header itself.
pub fn header_name(name: &str, direction: Direction) -> Result<(), String> {
    token(name)?;
    if is_framing(name) || (direction == Direction::Request && is_reserved_in_requests(name)) {
        return Err(format!("the header `{name}` is the gateway's"));
    }
    Ok(())
}

/// Checks that a name is a token without capitals.
///
/// # Errors
/// It is not.
pub fn token(name: &str) -> Result<(), &'static str> {
    let is_token = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9') || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.is_empty() && name.len() < 1 << 16 && name.bytes().all(is_token) {
        Ok(())
    } else {
        Err("a header name is not a lower-case token")
    }
}

/// Checks the value of a header (RFC 9110 section 5.5).
///
/// # Errors
/// It begins or ends with a space or tab, or has a control byte other than a tab.
pub fn header_value(value: &[u8]) -> Result<(), &'static str> {
    let is_blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    if is_blank(value.first()) || is_blank(value.last()) {
        return Err("a header value begins or ends with white space");
    }
    if value.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control()) {
        return Err("a header value contains control bytes");
    }
    Ok(())
}

/// Checks the status of a response that is final.
///
/// # Errors
/// It is not between 200 and 599.
pub fn status(status: u16) -> Result<(), String> {
    match status {
        200..=599 => Ok(()),
        _ => Err(format!("status {status} is not between 200 and 599")),
    }
}

/// Checks that a response with this status may have a body of this length in bytes.
///
/// # Errors
/// A response with status 204 or 304 has no body (RFC 9110 section 6.4.1).
pub fn body(status: u16, length: usize) -> Result<(), &'static str> {
    match status {
        204 | 304 if length > 0 => Err("a response with this status has no body"),
        _ => Ok(()),
    }
}

/// Checks a method that an upstream may see. CONNECT would change what the message means (RFC 9110 section 9.3.6),
/// and TRACE would send credentials back (section 9.3.8).
///
/// # Errors
/// It is one of these, or not a token.
pub fn method(method: &str) -> Result<(), &'static str> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if method.is_empty() || !method.bytes().all(is_token) || matches!(method, "CONNECT" | "TRACE") {
        return Err("the method is not a token, or is CONNECT or TRACE");
    }
    Ok(())
}

/// Framing and hop-by-hop headers: they belong to one connection (RFC 9110 section 7.6.1).
fn is_framing(name: &str) -> bool {
    matches!(
        name,
        "connection"
            | "content-length"
            | "http2-settings"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// Headers that upstreams believe because only the gateway can have written them, and those that decide where a
/// request goes.
fn is_reserved_in_requests(name: &str) -> bool {
    matches!(name, "expect" | "forwarded" | "host" | "traceparent" | "tracestate" | "via" | "x-real-ip")
        || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_tokens_that_are_not_the_gateways() {
        for good in ["x-user", "content-type", "x_y", "a!#$%&'*+-.^_`|~0"] {
            assert_eq!(header_name(good, Direction::Request), Ok(()), "{good}");
        }
        for bad in ["", "Content-Type", "a b", "a:", "a\n", "ä", "connection", "te", "Host"] {
            assert!(header_name(bad, Direction::Response).is_err(), "{bad}");
        }
        for reserved in ["host", "via", "x-forwarded-for", "traceparent"] {
            assert!(header_name(reserved, Direction::Request).is_err(), "{reserved}");
            assert!(header_name(reserved, Direction::Response).is_ok(), "{reserved}");
        }
    }

    #[test]
    fn values_have_no_control_bytes_and_no_blanks_around() {
        for good in [&b""[..], b"a b\tc", b"\xff", "ä".as_bytes()] {
            assert_eq!(header_value(good), Ok(()), "{good:?}");
        }
        for bad in [&b" a"[..], b"a\t", b"a\nb", b"\0", b"\x7f", b" "] {
            assert!(header_value(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn responses_are_final_and_methods_are_harmless() {
        assert!(status(200).is_ok() && status(599).is_ok());
        assert!([0, 100, 199, 600, 999].into_iter().all(|code| status(code).is_err()));
        assert!(
            body(204, 1).is_err() && body(304, 1).is_err() && body(204, 0).is_ok() && body(200, 1).is_ok()
        );
        assert!(method("GET").is_ok() && method("M-SEARCH").is_ok());
        assert!(["", "CONNECT", "TRACE", "G T"].into_iter().all(|name| method(name).is_err()));
    }
}
