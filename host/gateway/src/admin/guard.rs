//! Checks who may send which admin request.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, Method, StatusCode};
use witgate_config::model::Admin;

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// By the Unix socket: its mode 0600 ensures that the peer is the gateway's own user.
    Socket,
    /// By TCP: anybody who can reach the address, including web pages in a browser on this machine.
    Tcp,
}

/// Why a request is refused: the status and the message.
pub(crate) type Refusal = (StatusCode, &'static str);

/// Checks that a request over TCP is addressed to this listener. A web page that points its own host name at this
/// address (DNS rebinding) is recognised by that name.
///
/// # Errors
/// 421 (RFC 9110 section 15.5.20).
pub(crate) fn check_host(admin: &Admin, entrance: Entrance, headers: &HeaderMap) -> Result<(), Refusal> {
    if entrance == Entrance::Socket {
        return Ok(());
    }
    let mut hosts = headers.get_all(HOST).iter();
    let host = match (hosts.next().map(|host| host.to_str()), hosts.next()) {
        (Some(Ok(host)), None) => without_port(host).to_ascii_lowercase(),
        _ => return Err((StatusCode::BAD_REQUEST, "one Host header is needed")),
    };
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if is_address || host == "localhost" || admin.hosts.iter().any(|known| known.eq_ignore_ascii_case(&host))
    {
        Ok(())
    } else {
        Err((StatusCode::MISDIRECTED_REQUEST, "this Host is not listed in admin.hosts"))
    }
}

/// Checks that a request may read: everybody may, unless there is a token for reading. Whether the gateway is alive and ready
/// may be read in any case, because what asks for it often has no token.
///
/// # Errors
/// 401.
pub(crate) fn check_read(
    admin: &Admin,
    entrance: Entrance,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    let Some(read_token) = &admin.read_token else { return Ok(()) };
    if entrance == Entrance::Socket || matches!(path, "/healthz" | "/readyz") {
        return Ok(());
    }
    // Who may change something may read.
    check_token([Some(read_token), admin.token.as_ref()].into_iter().flatten(), headers)
}

/// Checks that a request offers one of these bearer tokens.
fn check_token<'t>(tokens: impl Iterator<Item = &'t String>, headers: &HeaderMap) -> Result<(), Refusal> {
    let offered =
        headers.get(AUTHORIZATION).map(|value| value.as_bytes()).and_then(bearer).unwrap_or_default();
    // All are compared, so that the time does not tell which one is near.
    let found = tokens.fold(false, |found, token| equal(offered, token.as_bytes()) | found);
    if found { Ok(()) } else { Err((StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong")) }
}

/// Checks that a request may change something: it must be a POST, by the socket or with the token.
///
/// # Errors
/// 405, 401, or 403 if no token is configured.
pub(crate) fn check_change(
    admin: &Admin,
    entrance: Entrance,
    method: &Method,
    headers: &HeaderMap,
) -> Result<(), Refusal> {
    if method != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "changes must be requested with POST"));
    }
    if entrance == Entrance::Socket {
        return Ok(());
    }
    let Some(token) = &admin.token else {
        return Err((
            StatusCode::FORBIDDEN,
            "changes over TCP need admin.token; without one, use the admin socket",
        ));
    };
    check_token([token].into_iter(), headers)
}

/// The credentials of the scheme `Bearer`, whose name is case-insensitive (RFC 9110 section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked(b"bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
}

/// Compares digests, so that the time depends neither on where two tokens differ nor on their lengths (timing
/// attacks).
fn equal(offered: &[u8], token: &[u8]) -> bool {
    use sha2::{Digest, Sha256};
    let (offered, token) = (Sha256::digest(offered), Sha256::digest(token));
    offered.iter().zip(token.iter()).fold(0_u8, |difference, (a, b)| difference | (a ^ b)) == 0
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => &host[..colon],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn admin(token: Option<&str>) -> Admin {
        let hosts = vec!["gateway.internal".to_owned()];
        Admin { address: None, socket: None, token: token.map(str::to_owned), read_token: None, hosts }
    }

    fn headers(name: http::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn only_names_of_its_own_reach_it() {
        for host in
            ["127.0.0.1:9900", "[::1]:9900", "[::1]", "LOCALHOST:1", "localhost", "gateway.internal:9900"]
        {
            assert_eq!(check_host(&admin(None), Entrance::Tcp, &headers(HOST, host)), Ok(()), "{host}");
        }
        for host in ["rebound.example", "rebound.example:9900", "127.0.0.1.rebound.example", ""] {
            let refusal = check_host(&admin(None), Entrance::Tcp, &headers(HOST, host));
            assert_eq!(refusal.unwrap_err().0, StatusCode::MISDIRECTED_REQUEST, "{host}");
        }
        let none = check_host(&admin(None), Entrance::Tcp, &HeaderMap::new());
        assert_eq!(none.unwrap_err().0, StatusCode::BAD_REQUEST);
        assert_eq!(check_host(&admin(None), Entrance::Socket, &HeaderMap::new()), Ok(()));
    }

    #[test]
    fn changes_over_tcp_need_the_token() {
        let ask = |token: Option<&str>, header: &str| {
            let headers = headers(AUTHORIZATION, header);
            check_change(&admin(token), Entrance::Tcp, &Method::POST, &headers).map_err(|refusal| refusal.0)
        };
        assert_eq!(ask(Some("s3cret"), "Bearer s3cret"), Ok(()));
        assert_eq!(ask(Some("s3cret"), "bearer s3cret"), Ok(()));
        for wrong in ["Bearer s3cre", "Bearer s3crett", "Bearer", "Bearer ", "Basic s3cret", "s3cret"] {
            assert_eq!(ask(Some("s3cret"), wrong), Err(StatusCode::UNAUTHORIZED), "{wrong}");
        }
        assert_eq!(ask(None, "Bearer "), Err(StatusCode::FORBIDDEN));
    }

    #[test]
    fn a_token_closes_reading_over_tcp() {
        let closed = Admin { read_token: Some("for-reading".to_owned()), ..admin(Some("for-changes")) };
        let ask = |admin: &Admin, entrance, path, token: &str| {
            let headers = headers(AUTHORIZATION, &format!("Bearer {token}"));
            check_read(admin, entrance, path, &headers).map_err(|refusal| refusal.0)
        };
        for path in ["/metrics", "/status", "/upstreams", "/cache"] {
            assert_eq!(ask(&admin(None), Entrance::Tcp, path, ""), Ok(()));
            assert_eq!(ask(&closed, Entrance::Socket, path, ""), Ok(()));
            for token in ["for-reading", "for-changes"] {
                assert_eq!(ask(&closed, Entrance::Tcp, path, token), Ok(()));
            }
            for wrong in ["", "for", "for-reading-not"] {
                assert_eq!(ask(&closed, Entrance::Tcp, path, wrong), Err(StatusCode::UNAUTHORIZED));
            }
        }
        assert_eq!(ask(&closed, Entrance::Tcp, "/readyz", ""), Ok(()));
        let change = check_change(
            &closed,
            Entrance::Tcp,
            &Method::POST,
            &headers(AUTHORIZATION, "Bearer for-reading"),
        );
        assert_eq!(change.unwrap_err().0, StatusCode::UNAUTHORIZED, "reading is not changing");
    }

    #[test]
    fn changes_are_only_asked_for_by_post() {
        for entrance in [Entrance::Tcp, Entrance::Socket] {
            let refusal = check_change(&admin(None), entrance, &Method::GET, &HeaderMap::new());
            assert_eq!(refusal.unwrap_err().0, StatusCode::METHOD_NOT_ALLOWED);
        }
        assert_eq!(check_change(&admin(None), Entrance::Socket, &Method::POST, &HeaderMap::new()), Ok(()));
    }
}
