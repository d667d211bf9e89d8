//! Checks that a switch of protocols is the one that was asked for.
//!
//! A client of HTTP/1.1 checks a 101 itself. A client of HTTP/2 cannot: the fields of the handshake do not reach it (RFC
//! 8441 section 5). So the gateway checks every 101, before any byte of the tunnel is passed on.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use witgate_exchange::fault::{Fault, FaultKind};

use crate::request::UpstreamRequest;

/// What a server appends to the key of a WebSocket handshake (RFC 6455 section 1.3).
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What is wrong with a 101 that does not answer the request; `None` for every other response.
pub(super) fn fault<T>(order: &UpstreamRequest<'_>, response: &Response<T>) -> Option<Fault> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return None;
    }
    let checked = check(order.upgrade, order.headers, response.headers());
    checked.err().map(|cause| Fault::new(FaultKind::UpstreamProtocol).cause(cause))
}

fn check(asked: Option<&HeaderValue>, request: &HeaderMap, response: &HeaderMap) -> Result<(), &'static str> {
    let asked: Vec<&[u8]> = asked.map(elements_of).into_iter().flatten().collect();
    let mut chosen = elements(response, &UPGRADE).peekable();
    if chosen.peek().is_none() {
        // RFC 9110 section 7.8: a 101 names the protocol.
        return Err("a 101 without `Upgrade`");
    }
    let mut websocket = false;
    for protocol in chosen {
        if !asked.iter().any(|asked| asked.eq_ignore_ascii_case(protocol)) {
            return Err("a 101 to a protocol that was not asked for");
        }
        websocket |= protocol.eq_ignore_ascii_case(b"websocket");
    }
    if websocket { check_websocket(request, response) } else { Ok(()) }
}

/// The checks that RFC 6455 section 4.1 requires of clients.
fn check_websocket(request: &HeaderMap, response: &HeaderMap) -> Result<(), &'static str> {
    if !elements(response, &CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return Err("a 101 to a WebSocket without `Connection: upgrade`");
    }
    let key =
        only(request, &SEC_WEBSOCKET_KEY).ok_or("a 101 to a WebSocket that was asked for without a key")?;
    match only(response, &SEC_WEBSOCKET_ACCEPT) {
        None => Err("a 101 to a WebSocket without `Sec-WebSocket-Accept`, once"),
        Some(accept) if accept.as_bytes() != websocket_accept(key.as_bytes()).as_bytes() => {
            Err("the `Sec-WebSocket-Accept` of a 101 does not match the key of the request")
        }
        Some(_) => Ok(()),
    }
}

/// The value of `Sec-WebSocket-Accept` for a value of `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub(crate) fn websocket_accept(key: &[u8]) -> String {
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &[key, WEBSOCKET_GUID].concat()))
}

/// The value of a field that occurs once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

/// The elements of the list in all fields of this name.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(elements_of)
}

fn elements_of(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let elements = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and accept of RFC 6455 section 1.3.
    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    const ACCEPT: (&str, &str) = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
        let mut headers = HeaderMap::new();
        fields.for_each(|(name, value): (HeaderName, HeaderValue)| {
            headers.append(name, value);
        });
        headers
    }

    fn outcome(
        asked: &'static str,
        request: &[(&'static str, &'static str)],
        response: &[(&'static str, &'static str)],
    ) -> Result<(), &'static str> {
        check(Some(&HeaderValue::from_static(asked)), &headers(request), &headers(response))
    }

    #[test]
    fn a_websocket_is_one_only_if_the_key_was_read() {
        let (upgrade, connection) = (("upgrade", "WebSocket"), ("connection", "keep-alive, Upgrade"));
        assert_eq!(outcome("websocket", &[KEY], &[upgrade, connection, ACCEPT]), Ok(()));
        let other = ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOO=");
        let lower = ("sec-websocket-accept", "S3PPLMBITXAQ9KYGZZHZRBK+XOO=");
        for (request, response) in [
            (&[KEY][..], &[upgrade, connection][..]),
            (&[KEY], &[upgrade, connection, other]),
            (&[KEY], &[upgrade, connection, lower]),
            (&[KEY], &[upgrade, connection, ACCEPT, ACCEPT]),
            (&[KEY], &[upgrade, ACCEPT]),
            (&[KEY], &[connection, ACCEPT]),
            (&[], &[upgrade, connection, ACCEPT]),
            (&[KEY, KEY], &[upgrade, connection, ACCEPT]),
        ] {
            assert!(outcome("websocket", request, response).is_err(), "{request:?} {response:?}");
        }
    }

    #[test]
    fn the_protocol_is_one_that_was_asked_for() {
        assert_eq!(outcome("chat/2, irc", &[], &[("upgrade", "IRC")]), Ok(()));
        assert_eq!(outcome("chat/2, irc", &[], &[("upgrade", "chat/2, irc")]), Ok(()));
        for response in [&[][..], &[("upgrade", "")], &[("upgrade", "chat")], &[("upgrade", "irc, chat/3")]] {
            assert!(outcome("chat/2, irc", &[], response).is_err(), "{response:?}");
        }
        assert!(outcome("websocket", &[KEY], &[("upgrade", "chat"), ACCEPT]).is_err());
    }
}
