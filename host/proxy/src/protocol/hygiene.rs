//! The checks on request heads: one unambiguous, normalised head, or a refusal.
//!
//! [`crate::protocol::http1`] has already checked the framing of HTTP/1.1; the rules here hold for every version.
//! The order matters: hop-by-hop headers (`Connection` and what it names) are removed first, and only then are the
//! gateway's own headers added, so that a client cannot have those removed by naming them in `Connection`.

use std::net::IpAddr;
use std::sync::Arc;

use h2::ext::Protocol;
use http::header::{self, HeaderName};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use witgate_config::model::{EncodedSlashes, Limits};
use witgate_exchange::arrival::{Arrival, Ingress};
use witgate_exchange::body::Body;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::{Client, RequestHead};
use witgate_exchange::path;
use witgate_exchange::trace;
use witgate_exchange::turn;
use witgate_wire::http1::field;

use crate::gateway::Gateway;
use crate::pipeline::{self, exchange::Exchange};
use crate::protocol::forwarded;
use crate::protocol::upgrade::ClientSide;
use crate::snapshot::Snapshot;

/// A request that passed the checks.
pub struct Admitted {
    arrival: Arrival,
    checked: Checked,
    version: Version,
    body: Body,
    client: Option<ClientSide>,
}

impl Admitted {
    /// Begins the exchange. Returns it with the body and the client's side of the requested upgrade.
    pub fn into_exchange(
        self,
        gateway: &Gateway,
        snapshot: Arc<Snapshot>,
    ) -> (Exchange, Body, Option<ClientSide>) {
        let Checked { head, trusted_peer, protocol } = self.checked;
        let mut facts = Facts::new(head, self.version, turn::now());
        facts.trusted_peer = trusted_peer;
        facts.upgrade = protocol;
        (Exchange::begin(facts, self.arrival, gateway, snapshot), self.body, self.client)
    }
}

/// A refused request.
pub struct Refusal {
    arrival: Arrival,
    fault: Fault,
    head: Arc<RequestHead>,
    version: Version,
}

impl Refusal {
    /// A refusal that keeps nothing of the request but its method and `headers`: the fields that were read of it,
    /// which filters need to know for whom the response is (`Origin`).
    pub(crate) fn new(
        arrival: Arrival,
        method: Method,
        version: Version,
        headers: HeaderMap,
        fault: Fault,
    ) -> Self {
        let ingress = &*arrival.ingress;
        let head = RequestHead {
            method,
            target: PathAndQuery::from_static("/"),
            received_target: None,
            upstream_target: None,
            upstream_method: None,
            authority: "".into(),
            scheme: ingress.scheme,
            headers,
            trailers: None,
            client: client(ingress, ingress.peer_address().ip()),
            route: None,
            parameters: Vec::new(),
            identity: None,
            request_id: trace::request_id(&HeaderMap::new(), false),
            trace: None,
        };
        Refusal { arrival, fault, head: Arc::new(head), version }
    }

    /// The response, which passes the filters of gateway and listener. It is recorded like any other, without a
    /// route.
    pub async fn into_response(self, gateway: &Gateway, snapshot: Arc<Snapshot>) -> Response<Body> {
        let facts = Facts::new(self.head, self.version, turn::now());
        let mut exchange = Exchange::begin(facts, self.arrival, gateway, snapshot);
        let response = pipeline::refused(&mut exchange, self.fault).await;
        exchange.finish(response)
    }

    /// The response without filters.
    pub(crate) fn into_bare_response(self, gateway: &Gateway, snapshot: Arc<Snapshot>) -> Response<Body> {
        let facts = Facts::new(self.head, self.version, turn::now());
        let mut exchange = Exchange::begin(facts, self.arrival, gateway, snapshot);
        let response = exchange.facts.fault(self.fault);
        exchange.finish(response)
    }
}

/// The client of a request that came this way from this address.
fn client(ingress: &Ingress, address: IpAddr) -> Client {
    Client { address, peer: ingress.peer_address(), certificate: ingress.certificate.clone() }
}

/// Checks and normalises a request head, and takes it out of `request`. `client` is the client's side of a tunnel,
/// if the connection can provide one.
///
/// # Errors
/// A refusal, with the fault for the client.
pub fn admit(
    arrival: Arrival,
    gateway: &Gateway,
    snapshot: &Snapshot,
    request: &mut Request<Body>,
    client: Option<ClientSide>,
) -> Result<Admitted, Box<Refusal>> {
    let method = request.method().clone();
    match head(&arrival.ingress, gateway, snapshot, request) {
        Ok(mut checked) => {
            // An upgrade that nobody could take further is not asked for upstream.
            checked.protocol = checked.protocol.filter(|_| client.is_some());
            Ok(Admitted {
                arrival,
                client: client.filter(|_| checked.protocol.is_some()),
                checked,
                version: request.version(),
                body: match std::mem::replace(request.body_mut(), Body::Empty) {
                    body if http_body::Body::is_end_stream(&body) => Body::Empty,
                    body => body,
                },
            })
        }
        Err(fault) => {
            let headers = std::mem::take(request.headers_mut());
            Err(Box::new(Refusal::new(arrival, method, request.version(), headers, fault)))
        }
    }
}

/// The checked head of a request.
struct Checked {
    head: Arc<RequestHead>,
    trusted_peer: bool,
    /// The protocol it asks to switch to.
    protocol: Option<HeaderValue>,
}

fn head(
    ingress: &Ingress,
    gateway: &Gateway,
    snapshot: &Snapshot,
    request: &mut Request<Body>,
) -> Result<Checked, Fault> {
    let config = &snapshot.config;
    let settings = &config.gateway;
    if request.version() == Version::HTTP_2 {
        check_sizes(&ingress.limits, request)?;
        check_values(request.headers())?;
    }
    let census = Census::take(request.headers(), snapshot)?;
    if census.framing {
        check_framing(request.headers())?;
    }
    let authority = ingress.authority(request)?;
    let connects = extended_connect(request)?;
    let (received_target, target) = target(request, settings.encoded_slashes)?;
    let mut headers = std::mem::take(request.headers_mut());
    // Before the gateway sets its own headers, so that a client cannot have them removed by naming them in
    // `Connection`.
    let upgrade = match census.hop_by_hop {
        true => match strip_hop_by_hop(&mut headers, request.version()) {
            Ok(upgrade) => upgrade,
            Err(fault) => {
                *request.headers_mut() = headers;
                return Err(fault);
            }
        },
        false => None,
    };
    let upgrade = upgrade.or(connects);
    if request.version() == Version::HTTP_2 && upgrade.is_some() {
        headers.insert(header::SEC_WEBSOCKET_KEY, websocket_key());
    }
    if census.identity {
        strip_identity(&mut headers, snapshot);
    }
    headers.remove(header::HOST);
    if census.expect {
        // The gateway itself meets the expectation: it sends 100 once the body is read.
        headers.remove(header::EXPECT);
    }
    if census.cookies > 1 {
        join_cookies(&mut headers);
    }
    let trusted = ingress
        .peer
        .as_ref()
        .is_some_and(|peer| forwarded::is_trusted(peer.address.ip(), &settings.trusted_proxies));
    let origin = if trusted || census.forwarded {
        forwarded::apply(&mut headers, ingress, &authority, &settings.trusted_proxies)
    } else {
        forwarded::tell(&mut headers, ingress, &authority)
    };
    let head = Arc::new(RequestHead {
        method: request.method().clone(),
        target,
        received_target,
        upstream_target: None,
        upstream_method: None,
        authority: authority.text,
        scheme: origin.scheme,
        trailers: None,
        client: client(ingress, origin.address),
        route: None,
        parameters: Vec::new(),
        identity: None,
        request_id: trace::request_id(&headers, trusted),
        trace: gateway.telemetry.trace(&headers, config.telemetry.otlp.as_ref()),
        headers,
    });
    Ok(Checked { head, trusted_peer: trusted, protocol: upgrade })
}

/// Removes the fields that only the gateway may set.
fn strip_identity(headers: &mut HeaderMap, snapshot: &Snapshot) {
    let reserved = headers.keys().filter(|name| snapshot.is_identity_header(name));
    for name in reserved.cloned().collect::<Vec<_>>() {
        headers.remove(name);
    }
}

/// Turns the WebSocket handshake of HTTP/2 (RFC 8441) into that of HTTP/1.1: a GET that asks to switch protocols.
fn extended_connect(request: &mut Request<Body>) -> Result<Option<HeaderValue>, Fault> {
    let Some(protocol) = request.extensions().get::<Protocol>() else { return Ok(None) };
    if request.method() != Method::CONNECT || protocol.as_str() != "websocket" {
        return Err(bad("only `websocket` is supported over CONNECT"));
    }
    *request.method_mut() = Method::GET;
    Ok(Some(HeaderValue::from_static("websocket")))
}

/// A random `Sec-WebSocket-Key`. HTTP/2 clients do not send one, but HTTP/1.1 upstreams require it (RFC 6455
/// section 4.1).
fn websocket_key() -> HeaderValue {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut key = [b'='; 24];
    // 16 random bytes in base64 are 21 full digits, one digit whose low four bits are zero, and padding.
    for digit in &mut key[..21] {
        *digit = ALPHABET[fastrand::usize(..64)];
    }
    key[21] = ALPHABET[fastrand::usize(..4) << 4];
    HeaderValue::from_bytes(&key).expect("base64 is visible")
}

/// Applies the limits on heads to HTTP/2. For HTTP/1.1 the head reader has applied them.
fn check_sizes(limits: &Limits, request: &Request<Body>) -> Result<(), Fault> {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.url_bytes {
        return Err(Fault::new(FaultKind::TargetTooLong));
    }
    if request.headers().len() > limits.headers {
        return Err(Fault::new(FaultKind::HeadersTooLarge).detail("too many header fields"));
    }
    // RFC 9113 section 6.5.2 counts 32 bytes of overhead for each field, so that many tiny fields are not free.
    let bytes =
        request.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum::<usize>();
    if bytes > limits.header_bytes {
        return Err(Fault::new(FaultKind::HeadersTooLarge));
    }
    Ok(())
}

/// Which kinds of fields a head has, found in one pass, so that rare fields need not be looked up by name.
#[derive(Debug, Default)]
struct Census {
    /// Fields that delimit the body.
    framing: bool,
    /// Hop-by-hop fields.
    hop_by_hop: bool,
    expect: bool,
    cookies: usize,
    /// Fields that only a trusted proxy may send.
    forwarded: bool,
    /// Fields that only the gateway may set.
    identity: bool,
}

impl Census {
    /// # Errors
    /// `BadRequest` where a name has an underscore.
    fn take(headers: &HeaderMap, snapshot: &Snapshot) -> Result<Census, Fault> {
        let underscores = snapshot.config.gateway.underscores_in_headers;
        let mut census = Census::default();
        for name in headers.keys() {
            census.identity |= snapshot.is_identity_header(name);
            match *name {
                header::HOST | header::USER_AGENT | header::ACCEPT => {}
                header::CONTENT_LENGTH => census.framing = true,
                header::TRANSFER_ENCODING => {
                    census.framing = true;
                    census.hop_by_hop = true;
                }
                header::TE => census.hop_by_hop = true,
                header::EXPECT => census.expect = true,
                header::COOKIE => census.cookies = headers.get_all(name).iter().count(),
                _ => {
                    if !underscores && name.as_str().contains('_') {
                        return Err(underscored());
                    }
                    census.hop_by_hop |= HOP_BY_HOP.contains(name);
                    census.forwarded |= forwarded::is_forwarded(name);
                }
            }
        }
        Ok(census)
    }
}

fn check_fields(headers: &HeaderMap, underscores: bool) -> Result<(), Fault> {
    if !underscores && headers.keys().any(|name| name.as_str().contains('_')) {
        return Err(underscored());
    }
    check_values(headers)
}

/// Checks field values for HTTP/2 (RFC 9113 section 8.2.1). The head reader has checked those of HTTP/1.1.
fn check_values(headers: &HeaderMap) -> Result<(), Fault> {
    for value in headers.values().map(HeaderValue::as_bytes) {
        if !field::is_text(value) {
            return Err(bad("a header value has a control byte"));
        }
        // An HTTP/1.1 parser strips this white space (RFC 9112 section 5.1), so the next hop would read another
        // value.
        if value.trim_ascii().len() < value.len() {
            return Err(bad("a header value begins or ends with white space"));
        }
    }
    Ok(())
}

/// CGI and its successors read `X_User` and `X-User` as the same name, so the one with the underscore would bypass
/// rules for the other.
fn underscored() -> Fault {
    bad("a header name has an underscore")
}

/// The fields that delimit the body may occur once (RFC 9112 section 6.3).
fn check_framing(headers: &HeaderMap) -> Result<(), Fault> {
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        if lengths.next().is_some() {
            return Err(bad("Content-Length is repeated"));
        }
        if length.is_empty() || !length.as_bytes().iter().all(u8::is_ascii_digit) {
            return Err(bad("Content-Length is not a number"));
        }
    }
    if headers.contains_key(header::CONTENT_LENGTH) && headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(bad("Content-Length and Transfer-Encoding together"));
    }
    Ok(())
}

/// The path and query as received, if they differ from the normalised form, and the normalised form. Takes the URI
/// out of the request.
fn target(
    request: &mut Request<Body>,
    slashes: EncodedSlashes,
) -> Result<(Option<PathAndQuery>, PathAndQuery), Fault> {
    if request.method() == Method::CONNECT {
        return Err(bad("CONNECT is not supported: this is not a forward proxy"));
    }
    let root = || PathAndQuery::from_static("/");
    let received = std::mem::take(request.uri_mut()).into_parts().path_and_query.unwrap_or_else(root);
    if received.as_str() == "*" {
        if request.method() != Method::OPTIONS {
            return Err(bad("only OPTIONS may have the target `*`"));
        }
        // `OPTIONS *` asks about the server as a whole; it is routed like the root.
        return Ok((Some(received), root()));
    }
    if path::is_normal(received.as_str()) {
        return Ok((None, received));
    }
    let target = path::normalise(received.as_str(), slashes)?;
    Ok((Some(received), target))
}

/// Headers that are hop-by-hop even if `Connection` does not name them (RFC 9110 section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the hop-by-hop headers, except `te: trailers`. Returns the protocol to switch to.
fn strip_hop_by_hop(headers: &mut HeaderMap, version: Version) -> Result<Option<HeaderValue>, Fault> {
    let mut named = Vec::new();
    let mut switches = false;
    for value in headers.get_all(header::CONNECTION) {
        let value = value.to_str().map_err(|_| bad("Connection has bytes outside of ASCII"))?;
        for option in value.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            switches |= option.eq_ignore_ascii_case("upgrade");
            match HeaderName::from_bytes(option.as_bytes()) {
                // Removing these would change the meaning of the message or its recipient.
                Ok(name) if is_end_to_end(&name) => {
                    return Err(bad("Connection names a header that is not for this hop only"));
                }
                Ok(name) => named.push(name),
                Err(_) => return Err(bad("Connection has an option that is no header name")),
            }
        }
    }
    let upgrade = headers.remove(header::UPGRADE).filter(|protocol| !is_http(protocol));
    let upgrade = upgrade.filter(|_| switches && version == Version::HTTP_11);
    let trailers = takes_trailers(headers);
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(header::TE);
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(upgrade)
}

/// Whether an upgrade leads to another version of HTTP. Requests inside such a tunnel would bypass every rule, so
/// the offer is ignored, as RFC 9110 section 7.8 permits.
fn is_http(protocol: &HeaderValue) -> bool {
    let leads = |name: &[u8]| {
        let name = name.trim_ascii().to_ascii_lowercase();
        name.starts_with(b"h2") || name.starts_with(b"http") || name.starts_with(b"tls")
    };
    protocol.as_bytes().split(|byte| *byte == b',').any(leads)
}

fn is_end_to_end(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        header::COOKIE,
        header::CACHE_CONTROL,
        header::RANGE,
    ]
    .contains(name)
}

/// Checks trailers like headers, and removes fields that delimit, route or identify a request, which are not
/// allowed there (RFC 9110 section 6.5.1).
///
/// # Errors
/// `BadRequest`, as for headers.
pub(crate) fn trailers(mut trailers: HeaderMap, snapshot: &Snapshot) -> Result<HeaderMap, Fault> {
    check_fields(&trailers, snapshot.config.gateway.underscores_in_headers)?;
    let misplaced = [header::HOST, header::CONTENT_LENGTH, header::TE, header::AUTHORIZATION, header::COOKIE];
    for name in misplaced.iter().chain(&HOP_BY_HOP) {
        trailers.remove(name);
    }
    strip_identity(&mut trailers, snapshot);
    forwarded::strip(&mut trailers);
    Ok(trailers)
}

fn takes_trailers(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TE).iter().filter_map(|value| value.to_str().ok());
    codings.any(|value| value.split(',').any(|coding| coding.trim().eq_ignore_ascii_case("trailers")))
}

/// Joins the `cookie` fields, which HTTP/2 clients may send separately but everyone else expects as one (RFC 9113
/// section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    if crumbs.next().is_none() || crumbs.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined =
        HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).expect("valid values joined by valid bytes");
    headers.insert(header::COOKIE, joined);
}

fn bad(detail: &'static str) -> Fault {
    Fault::new(FaultKind::BadRequest).detail(detail)
}
