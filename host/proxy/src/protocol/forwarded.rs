//! Who the client really is, and what upstreams are told about it.
//!
//! `X-Forwarded-*`, `Forwarded` and `X-Real-IP` are believed only from trusted proxies; from anyone else they are
//! removed. What goes on is always written anew: `X-Forwarded-For` with the peer appended, `X-Forwarded-Proto`,
//! `X-Forwarded-Host`, `X-Real-IP`. `Forwarded` (RFC 7239) is read from trusted proxies that send nothing else, and never
//! sent on, so that two accounts of one fact cannot differ.

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue};
use ipnet::IpNet;
use witgate_config::model;

use crate::protocol::connection::Connection;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");

/// Headers outside of the `x-forwarded-` family by which frameworks let a proxy override what they see.
const OVERRIDES: [&str; 3] = ["x-original-url", "x-rewrite-url", "x-original-host"];

/// Whether a peer's forwarded headers are believed.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    !trusted.is_empty() && model::contains(trusted, peer.to_canonical())
}

/// Rewrites the forwarded headers and returns the client's address: the first from the right that is not trusted.
pub(crate) fn apply(
    headers: &mut HeaderMap,
    connection: &Connection,
    authority: &str,
    trusted: &[IpNet],
) -> IpAddr {
    let peer = connection.peer.ip().to_canonical();
    let believed = is_trusted(peer, trusted);
    if !believed {
        strip(headers);
    }
    let chain = if believed { chain(headers) } else { Vec::new() };
    let client = client(&chain, peer, trusted);
    let told =
        chain.iter().map(String::as_str).chain([peer.to_string().as_str()]).collect::<Vec<_>>().join(", ");
    headers.remove(header::FORWARDED);
    set(headers, FOR, &told);
    set(headers, REAL_IP, &client.to_string());
    if !single(headers, &PROTO, |value| matches!(value, b"http" | b"https")) {
        set(headers, PROTO, connection.scheme.as_str());
    }
    if !single(headers, &HOST, |value| !value.is_empty()) {
        set(headers, HOST, authority);
    }
    client
}

/// Removes what only a trusted proxy may say.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let forged = |name: &HeaderName| {
        let name = name.as_str();
        name == "forwarded"
            || name == "x-real-ip"
            || name.starts_with("x-forwarded-")
            || OVERRIDES.contains(&name)
    };
    if headers.keys().any(forged) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| forged(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// The hops as the trusted peer tells them, the client first.
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

/// The `for` parameter of one element of `Forwarded`, quotes and port removed.
fn forwarded_for(element: &str) -> Option<String> {
    let parameter = element.split(';').map(str::trim).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    Some(parameter.trim_matches('"').to_owned())
}

/// Walks from the peer towards the client, as long as who tells is trusted and tells an address.
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

/// An address with or without port and brackets.
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
