//! The address of the client, and the forwarding headers for upstreams.
//!
//! `X-Forwarded-*`, `Forwarded` and `X-Real-IP` are accepted only from trusted proxies; from any other peer they
//! are removed. `X-Forwarded-For` (with the peer appended), `X-Forwarded-Proto`, `X-Forwarded-Host` and
//! `X-Real-IP` are always written anew. `Forwarded` (RFC 7239) is read only from trusted proxies that send no
//! `X-Forwarded-For`, and is never sent on, so that two headers cannot contradict each other.
//!
//! Each proxy of a chain adds an element to `X-Forwarded-For` and, if it does so at all, one to `X-Forwarded-Proto`
//! and `X-Forwarded-Host`. So the scheme and the host that the client used are the elements at the place at which
//! the client's address stands, or the last ones where only the nearest proxy wrote any.

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use witgate_config::model;
use witgate_exchange::arrival::Ingress;
use witgate_exchange::authority::Authority;
use witgate_exchange::head::Scheme;

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

/// What is known of the client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Its address.
    pub(crate) address: IpAddr,
    /// The scheme that it used.
    pub(crate) scheme: Scheme,
}

/// Rewrites the forwarding headers and returns the client's address, the first from the right that is not a
/// trusted proxy, and its scheme. A request that did not come over a connection has no peer, so no address is
/// written and no forwarding header is believed.
pub(crate) fn apply(
    headers: &mut HeaderMap,
    ingress: &Ingress,
    authority: &Authority,
    trusted: &[IpNet],
) -> Origin {
    let Some(peer) = &ingress.peer else {
        strip(headers);
        return tell(headers, ingress, authority);
    };
    let peer = peer.address.ip().to_canonical();
    let believed = is_trusted(peer, trusted);
    match believed {
        true => strip_if(headers, |name| name.as_str().contains('_') && is_forwarded(name)),
        false => strip(headers),
    }
    let chain = if believed { Chain::read(headers) } else { Chain::default() };
    let (address, depth) = client(&chain.hops, peer, trusted);
    let scheme = chain.at(&chain.schemes, depth).and_then(scheme).unwrap_or(ingress.scheme);
    let host = chain.at(&chain.hosts, depth).filter(|host| !host.is_empty());
    let host = host.and_then(|host| HeaderValue::from_str(host).ok());
    let peer = peer.to_string();
    let told = chain.hops.iter().chain([&peer]).map(String::as_str).collect::<Vec<_>>().join(", ");
    // `Forwarded` is never sent on, so that it cannot contradict the headers below.
    headers.remove(header::FORWARDED);
    set(headers, FOR, &told);
    set(headers, REAL_IP, &address.to_string());
    headers.insert(PROTO, HeaderValue::from_static(scheme.as_str()));
    headers.insert(HOST, host.unwrap_or_else(|| authority.value.clone()));
    Origin { address, scheme }
}

/// Fast path of [`apply`] for a peer that is no trusted proxy and sent no forwarding headers: the values are
/// prepared.
pub(crate) fn tell(headers: &mut HeaderMap, ingress: &Ingress, authority: &Authority) -> Origin {
    if let Some(peer) = &ingress.peer {
        field::set(headers, FOR, peer.text.clone());
        field::set(headers, REAL_IP, peer.text.clone());
    }
    field::set(headers, PROTO, HeaderValue::from_static(ingress.scheme.as_str()));
    field::set(headers, HOST, authority.value.clone());
    Origin { address: ingress.peer_address().ip().to_canonical(), scheme: ingress.scheme }
}

/// Whether a header is accepted only from a trusted proxy.
///
/// Upstreams that have environment variables for headers read underscores as dashes (RFC 3875 section 4.1.18).
pub(crate) fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    match name.as_bytes() {
        [b'x', b'-', ..] if !name.contains('_') => is_forwarded_of_x(name),
        [b'x', b'-' | b'_', ..] => is_forwarded_of_x(&name.replace('_', "-")),
        _ => name == "forwarded",
    }
}

fn is_forwarded_of_x(name: &str) -> bool {
    name.starts_with("x-forwarded-") || name == "x-real-ip" || OVERRIDES.contains(&name)
}

/// Removes the headers that are accepted only from a trusted proxy.
pub(crate) fn strip(headers: &mut HeaderMap) {
    strip_if(headers, is_forwarded);
}

fn strip_if(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| unwanted(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// What the trusted peer states, the client first.
#[derive(Default)]
struct Chain {
    hops: Vec<String>,
    schemes: Vec<String>,
    hosts: Vec<String>,
}

impl Chain {
    fn read(headers: &HeaderMap) -> Self {
        let list = |name: &HeaderName| {
            let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
            let elements = values.flat_map(|value| value.split(',')).map(str::trim);
            elements.filter(|element| !element.is_empty()).map(str::to_owned).collect::<Vec<_>>()
        };
        let mut chain = Chain { hops: list(&FOR), schemes: list(&PROTO), hosts: list(&HOST) };
        if !headers.contains_key(&FOR) {
            let values = headers.get_all(header::FORWARDED).iter().filter_map(|value| value.to_str().ok());
            let elements: Vec<&str> = values.flat_map(|value| split(value, b',')).collect();
            // An element without the parameter keeps its place, with an empty text.
            let of =
                |name| elements.iter().map(|element| parameter(element, name).unwrap_or_default()).collect();
            chain.hops = of("for");
            if chain.schemes.is_empty() {
                chain.schemes = of("proto");
            }
            if chain.hosts.is_empty() {
                chain.hosts = of("host");
            }
        }
        chain
    }

    /// The element of a list at a place in the chain of hops; the last one if the list does not have one element for
    /// each hop, or if the client is the peer itself.
    fn at<'a>(&self, list: &'a [String], depth: Option<usize>) -> Option<&'a str> {
        let element = depth.filter(|_| list.len() == self.hops.len()).and_then(|depth| list.get(depth));
        element.or(list.last()).map(String::as_str)
    }
}

/// The scheme that a proxy names. A WebSocket (RFC 6455 section 3) is told by the scheme of its handshake.
fn scheme(told: &str) -> Option<Scheme> {
    let is = |name: &str| told.eq_ignore_ascii_case(name);
    if is("https") || is("wss") {
        return Some(Scheme::Https);
    }
    (is("http") || is("ws")).then_some(Scheme::Http)
}

/// A parameter of one element of `Forwarded` (RFC 7239 section 4), without quotes.
fn parameter(element: &str, wanted: &str) -> Option<String> {
    let value = split(element, b';').into_iter().find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then_some(value.trim())
    })?;
    let Some(quoted) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
        return Some(value.to_owned());
    };
    let mut text = String::with_capacity(quoted.len());
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        text.push(if character == '\\' { characters.next().unwrap_or(character) } else { character });
    }
    Some(text)
}

/// The parts of a list, without outer white space and empty parts. A separator in a quoted string separates nothing (RFC
/// 9110 section 5.6.4).
fn split(list: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in list.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if byte == separator && !quoted => {
                parts.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[begin..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// Walks from the peer towards the client for as long as the last hop is trusted and names an address. Returns the
/// client and its place in the chain; no place if the client is the peer.
fn client(chain: &[String], peer: IpAddr, trusted: &[IpNet]) -> (IpAddr, Option<usize>) {
    let mut client = (peer, None);
    for (place, hop) in chain.iter().enumerate().rev() {
        if !is_trusted(client.0, trusted) {
            break;
        }
        match address(hop) {
            Some(address) => client = (address, Some(place)),
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
        assert_eq!(headers["x-forwarded-proto"], client.scheme.as_str(), "one scheme for all");
        (client.address.to_string(), headers)
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
        assert_eq!(client.address.to_string(), "0.0.0.0");
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

    #[test]
    fn the_scheme_is_the_one_at_the_place_of_the_client() {
        let cases: [(&[(&str, &str)], &str); 20] = [
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "wss")], "https"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "WS")], "http"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", " HTTPS ")], "https"),
            (&[("x-forwarded-proto", "https")], "https"),
            (&[("x-forwarded-for", "1.1.1.1, 10.0.0.2"), ("x-forwarded-proto", "https,http")], "https"),
            (&[("x-forwarded-for", "10.0.0.3, 10.0.0.2"), ("x-forwarded-proto", "https,http")], "https"),
            // The first element was written by a stranger.
            (&[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-proto", "https, http")], "http"),
            (&[("x-forwarded-for", "6.6.6.6, 1.1.1.1"), ("x-forwarded-proto", "http, https")], "https"),
            // The lists differ in length: only the nearest proxy is believed.
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "https, http")], "http"),
            (&[("x-forwarded-for", "1.1.1.1, 10.0.0.2"), ("x-forwarded-proto", "https")], "https"),
            (&[("x-forwarded-proto", "http"), ("x-forwarded-proto", "https")], "https"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-proto", "ftp")], "http"),
            (&[("forwarded", "for=1.1.1.1;proto=HTTPS")], "https"),
            (&[("forwarded", "for=1.1.1.1;proto=\"wss\", for=10.0.0.2;proto=http")], "https"),
            (&[("forwarded", "for=6.6.6.6;proto=https, for=1.1.1.1;proto=http")], "http"),
            // Each element keeps its place, also without the parameter.
            (&[("forwarded", "proto=https, for=9.9.9.9")], "http"),
            (&[("forwarded", "for=_x;proto=https, for=9.9.9.9")], "http"),
            // Separators in quoted strings separate nothing.
            (&[("forwarded", "for=9.9.9.9;host=\"x;proto=https\";proto=http")], "http"),
            (&[("forwarded", "for=9.9.9.9;host=\"a\\\";proto=https\";proto=http")], "http"),
            // `Forwarded` may come from the client where the proxy writes `X-Forwarded-For`.
            (&[("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1;proto=https")], "http"),
        ];
        for (headers, expected) in cases {
            assert_eq!(told("10.0.0.1", headers).1["x-forwarded-proto"], expected, "{headers:?}");
        }
    }

    #[test]
    fn the_host_is_the_one_at_the_place_of_the_client() {
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", "b.example")], "b.example"),
            (&[("x-forwarded-for", "1.1.1.1, 10.0.0.2"), ("x-forwarded-host", "b, c")], "b"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", "b, c")], "c"),
            (&[("forwarded", "for=1.1.1.1;host=\"b:8080\", for=10.0.0.2;host=c")], "b:8080"),
            (&[("x-forwarded-for", "1.1.1.1"), ("x-forwarded-host", " , ")], "a.example"),
        ];
        for (headers, expected) in cases {
            assert_eq!(told("10.0.0.1", headers).1["x-forwarded-host"], expected, "{headers:?}");
        }
    }
}
