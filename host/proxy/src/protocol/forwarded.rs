//! The address of the client, and the forwarding headers for upstreams.
//!
//! `X-Forwarded-*`, `Forwarded` and `X-Real-IP` are accepted only from trusted proxies; from any other peer they
//! are removed. `X-Forwarded-For` (with the peer appended), `X-Forwarded-Proto`, `X-Forwarded-Host` and
//! `X-Real-IP` are always written anew. `Forwarded` (RFC 7239) is read only from trusted proxies that send no
//! `X-Forwarded-For`, and is never sent on, so that two headers cannot contradict each other.

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use witgate_config::model;
use witgate_exchange::arrival::Ingress;
use witgate_exchange::authority::Authority;

use witgate_wire::http1::field;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers outside of the `x-forwarded-` family with which proxies override the target for some frameworks.
const OVERRIDES: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-host"];

/// Whether a peer is a trusted proxy.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    !trusted.is_empty() && model::contains(trusted, peer.to_canonical())
}

/// Rewrites the forwarding headers and returns the client's address: the first from the right that is not a
/// trusted proxy. A request that did not come over a connection has no peer, so no address is written and no
/// forwarding header is believed.
pub(crate) fn apply(
    headers: &mut HeaderMap,
    ingress: &Ingress,
    authority: &Authority,
    trusted: &[IpNet],
) -> IpAddr {
    let Some(peer) = &ingress.peer else {
        strip(headers);
        return tell(headers, ingress, authority);
    };
    let peer = peer.address.ip().to_canonical();
    let believed = is_trusted(peer, trusted);
    if !believed {
        strip(headers);
    }
    let chain = if believed { chain(headers) } else { Vec::new() };
    let client = client(&chain, peer, trusted);
    let told =
        chain.iter().map(String::as_str).chain([peer.to_string().as_str()]).collect::<Vec<_>>().join(", ");
    // `Forwarded` is never sent on, so that it cannot contradict the headers below.
    headers.remove(header::FORWARDED);
    set(headers, FOR, &told);
    set(headers, REAL_IP, &client.to_string());
    if !single(headers, &PROTO, |value| matches!(value, b"http" | b"https")) {
        headers.insert(PROTO, HeaderValue::from_static(ingress.scheme.as_str()));
    }
    if !single(headers, &HOST, |value| !value.is_empty()) {
        headers.insert(HOST, authority.value.clone());
    }
    client
}

/// Fast path of [`apply`] for a peer that is no trusted proxy and sent no forwarding headers: the values are
/// prepared.
pub(crate) fn tell(headers: &mut HeaderMap, ingress: &Ingress, authority: &Authority) -> IpAddr {
    if let Some(peer) = &ingress.peer {
        field::set(headers, FOR, peer.text.clone());
        field::set(headers, REAL_IP, peer.text.clone());
    }
    field::set(headers, PROTO, HeaderValue::from_static(ingress.scheme.as_str()));
    field::set(headers, HOST, authority.value.clone());
    ingress.peer_address().ip().to_canonical()
}

/// Whether a header is accepted only from a trusted proxy.
pub(crate) fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes() {
        [b'x', b'-', ..] => {
            name.starts_with("x-forwarded-") || name == "x-real-ip" || OVERRIDES.contains(&name)
        }
        _ => name == "forwarded",
    }
}

/// Removes the headers that are accepted only from a trusted proxy.
pub(crate) fn strip(headers: &mut HeaderMap) {
    if headers.keys().any(is_forwarded) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| is_forwarded(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// The hops as the trusted peer states them, the client first.
fn chain(headers: &HeaderMap) -> Vec<String> {
    let list = |name: &HeaderName| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).map(|hop| hop.trim().to_owned()).collect::<Vec<_>>()
    };
    if headers.contains_key(&FOR) {
        return list(&FOR).into_iter().filter(|hop| !hop.is_empty()).collect();
    }
    list(&header::FORWARDED).iter().filter_map(|element| forwarded_for(element)).collect()
}

/// The `for` parameter of one element of `Forwarded`, without quotes.
fn forwarded_for(element: &str) -> Option<String> {
    let parameter = element.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    Some(parameter.trim_matches('"').to_owned())
}

/// Walks from the peer towards the client for as long as the last hop is trusted and names an address.
fn client(chain: &[String], peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for hop in chain.iter().rev() {
        if !is_trusted(client, trusted) {
            break;
        }
        match address(hop) {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Parses an address with or without port and brackets.
fn address(hop: &str) -> Option<IpAddr> {
    let bare = |hop: &str| hop.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let without_port = || hop.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip());
    bare(hop).or_else(without_port).map(|address| address.to_canonical())
}

fn single(headers: &HeaderMap, name: &HeaderName, valid: impl Fn(&[u8]) -> bool) -> bool {
    let mut values = headers.get_all(name).iter();
    matches!((values.next(), values.next()), (Some(value), None) if valid(value.as_bytes()))
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    match HeaderValue::from_str(value) {
        Ok(value) => headers.insert(name, value),
        Err(_) => headers.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use witgate_exchange::arrival::Source;

    use super::*;
    use crate::testing;

    /// The client's address, and the headers for upstreams, for a peer that sends `headers`. 10/8 and fd00::/8 are
    /// trusted.
    fn told(peer: &str, headers: &[(&str, &str)]) -> (String, HeaderMap) {
        let peer = SocketAddr::new(peer.parse().expect("an address"), 1);
        let ingress = Ingress::new(Source::Tcp, "web".into(), Some(peer), testing::limits());
        let trusted = ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("a net"));
        let mut headers = testing::head(http::Method::GET, "/", headers).headers;
        let client = apply(&mut headers, &ingress, &Authority::new("a.example"), &trusted);
        (client.to_string(), headers)
    }

    #[test]
    fn strangers_are_not_believed() {
        let spoofed = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "b"),
            ("x-forwarded-user", "root"),
            ("forwarded", "for=1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-original-url", "/admin"),
        ];
        let (client, headers) = told("192.0.2.7", &spoofed);
        assert_eq!(client, "192.0.2.7");
        assert_eq!(headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        assert_eq!(headers["x-real-ip"], "192.0.2.7");
        for gone in ["forwarded", "x-forwarded-user", "x-original-url"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn where_there_is_no_peer_nobody_is_believed_and_no_address_is_told() {
        let ingress = Ingress::new(Source::Message, "web".into(), None, testing::limits());
        let everybody = ["0.0.0.0/0".parse().expect("a net")];
        let said = [("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", "b"), ("forwarded", "for=1.1.1.1")];
        let mut headers = testing::head(http::Method::GET, "/", &said).headers;
        let client = apply(&mut headers, &ingress, &Authority::new("a.example"), &everybody);
        assert_eq!(client.to_string(), "0.0.0.0");
        assert_eq!(headers["x-forwarded-host"], "a.example");
        for gone in ["x-forwarded-for", "x-real-ip", "forwarded"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn the_client_is_the_first_untrusted_address_from_the_right() {
        let cases = [
            ("10.0.0.1", "1.1.1.1", "1.1.1.1"),
            ("10.0.0.1", "6.6.6.6, 1.1.1.1, 10.0.0.2", "1.1.1.1"),
            ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
            ("10.0.0.1", "1.1.1.1, unknown, 10.0.0.2", "10.0.0.2"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("fd00::1", "[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:10.0.0.1", "1.1.1.1:8080", "1.1.1.1"),
        ];
        for (peer, chain, expected) in cases {
            assert_eq!(told(peer, &[("x-forwarded-for", chain)]).0, expected, "{peer} says {chain}");
        }
        let (_, headers) =
            told("10.0.0.1", &[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https")]);
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 10.0.0.1");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(told("10.0.0.1", &[("forwarded", "for=\"[2001:db8::1]\";proto=https")]).0, "2001:db8::1");
    }
}
