//! Makes up a request for commands: to call a plugin with, or to look up its route.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use witgate_exchange::head::{Client, RequestHead, Scheme};
use witgate_exchange::trace;

/// Parses `name: value`.
pub(super) fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written as `name: value`")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}

/// The head of a request from this machine, over cleartext HTTP, without identity.
pub(super) fn head(
    method: Method,
    target: PathAndQuery,
    authority: &str,
    headers: &[(HeaderName, HeaderValue)],
) -> RequestHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(name, value.clone());
    }
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    RequestHead {
        method,
        received_target: None,
        target,
        upstream_target: None,
        upstream_method: None,
        authority: Arc::from(authority.to_ascii_lowercase()),
        scheme: Scheme::Http,
        trailers: None,
        client: Client {
            address,
            peer: SocketAddr::new(address, 0),
            certificate: None,
            local: None,
            tls: None,
        },
        route: None,
        parameters: Vec::new(),
        notes: None,
        settling: None,
        identity: None,
        request_id: trace::request_id(&map, true),
        trace: None,
        headers: map,
    }
}
