//! Tunnels: what remains of an exchange after both sides have switched protocols.
//!
//! No byte of the client's goes upstream before the upstream has responded with 101: until then it stays unread in
//! the client's connection. A tunnel holds the two connections, the permit under its listener's limit and the log
//! entry; it does not hold the snapshot. A drain leaves a tunnel alone until its time is up.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::time::Duration;

use futures_util::TryFutureExt;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, UPGRADE};
use http::{HeaderValue, Response, StatusCode, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until};
use witgate_exchange::body::Body;
use witgate_exchange::facts::Switched;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_telemetry::request_guard::{CUT_BY_DRAIN, RequestGuard};
use witgate_wire::stream::{Side, Stream};

use crate::listener::bound::DrainPhase;
use crate::pipeline::exchange::Exchange;
use crate::protocol::connection::ConnectionGuard;

/// Size of the copy buffer of each direction, in bytes.
const BUFFER: usize = 8 * 1024;

/// Only the HTTP/1.1 handshake has this field (RFC 8441 section 5).
const WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// The client's side of a tunnel that it may ask for.
pub struct ClientSide {
    /// The side.
    pub side: Side,
    /// How the listener counts the client's connection, so that a drain waits for the tunnel; none: it has no listener.
    pub(crate) guard: Option<ConnectionGuard>,
}

/// Replaces a response that would tell the client of a tunnel that there is not: a 101 without an upgrade that was
/// asked for, and a 2xx to an extended CONNECT, which is the name of a 101 in HTTP/2 (RFC 8441 section 5). `asked`:
/// whether the client asks for a tunnel.
pub fn check(exchange: &mut Exchange, asked: bool, response: Response<Body>) -> Response<Body> {
    let (kind, cause) = match response.status() {
        StatusCode::SWITCHING_PROTOCOLS if asked && exchange.facts.switched.is_some() => return response,
        StatusCode::SWITCHING_PROTOCOLS => {
            (FaultKind::UpstreamProtocol, "a 101 response to a request that did not ask for an upgrade")
        }
        status if status.is_success() && asked && exchange.facts.version == Version::HTTP_2 => {
            match exchange.facts.local_response || exchange.facts.upstream.is_none() {
                true => (FaultKind::UpgradeRefused, "the response was made here"),
                false => (FaultKind::UpstreamProtocol, "the upstream did not switch protocols"),
            }
        }
        _ => return response,
    };
    exchange.facts.fault(Fault::new(kind).cause(cause))
}

/// If the response is a 101 that the client asked for, joins both sides once it has been sent. Responses of stages on
/// the way up are checked like those of the destination.
pub fn join(exchange: &mut Exchange, client: Option<ClientSide>, response: Response<Body>) -> Response<Body> {
    let mut response = check(exchange, client.is_some(), response);
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    let upstream = exchange.facts.switched.take().and_then(Switched::into_side::<Side>);
    let (Some(client), Some(upstream), Some(protocol)) = (client, upstream, exchange.facts.upgrade.clone())
    else {
        let fault =
            Fault::new(FaultKind::Internal).cause("a switch of protocols without a side of the tunnel");
        return exchange.facts.fault(fault);
    };
    let tunnel = Tunnel {
        idle: idle_timeout(exchange),
        guard: client.guard,
        request_guard: RequestGuard::take(
            &mut exchange.facts,
            exchange.series.take(),
            &exchange.telemetry,
            &exchange.ingress,
            StatusCode::SWITCHING_PROTOCOLS,
        ),
    };
    tokio::task::spawn_local(tunnel.run(client.side, upstream));
    *response.body_mut() = Body::Empty;
    announce(&mut response, exchange.facts.version, protocol);
    response
}

/// Writes the response that announces the switch, as the client's version of HTTP has it (RFC 9110 section 7.8,
/// RFC 8441 section 5).
fn announce(response: &mut Response<Body>, version: Version, protocol: HeaderValue) {
    let headers = response.headers_mut();
    headers.remove(CONTENT_LENGTH);
    if version == Version::HTTP_2 {
        for name in [CONNECTION, UPGRADE, WEBSOCKET_ACCEPT] {
            headers.remove(name);
        }
        *response.status_mut() = StatusCode::OK;
    } else {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.entry(UPGRADE).or_insert(protocol);
    }
}

/// The longest silence in a tunnel: the `idle_timeout` of its upstream.
fn idle_timeout(exchange: &Exchange) -> Option<Duration> {
    let name = exchange.facts.upstream.as_deref()?;
    exchange.snapshot.config.upstreams.get(name)?.idle_timeout
}

/// A tunnel about to be opened.
struct Tunnel {
    idle: Option<Duration>,
    guard: Option<ConnectionGuard>,
    request_guard: RequestGuard,
}

impl Tunnel {
    async fn run(mut self, client: Side, upstream: Side) {
        // The tunnel also ends here if a connection ended before its 101 was sent.
        let (Some(client), Some(upstream)) = tokio::join!(client.switched(), upstream.switched()) else {
            return;
        };
        let traffic = Traffic { last: Cell::new(Instant::now()), sent: Cell::new(0) };
        tokio::select! {
            ended = carry(client, upstream, &traffic) => match ended {
                Ok(()) => self.request_guard.complete(),
                Err(Broken::Upstream(error)) => {
                    self.request_guard.cut(FaultKind::UpstreamReset, Some(&error.to_string()));
                }
                // Without a call of the guard, the client is the one that left.
                Err(Broken::Client) => {}
            },
            () = traffic.silence(self.idle) => {
                let cause = "nothing was transferred in the tunnel for the upstream's `idle_timeout`";
                self.request_guard.cut(FaultKind::RequestTimeout, Some(cause));
            }
            () = cut(self.guard.as_ref()) => {
                self.request_guard.cut(FaultKind::Draining, Some(CUT_BY_DRAIN));
            }
        }
        self.request_guard.sent(traffic.sent.get());
    }
}

/// Waits until the time of a drain is up, and counts the tunnel as cut.
async fn cut(guard: Option<&ConnectionGuard>) {
    match guard {
        Some(guard) => {
            guard.until(DrainPhase::Cut).await;
            guard.count_cut();
        }
        None => std::future::pending().await,
    }
}

/// The traffic of a tunnel.
struct Traffic {
    last: Cell<Instant>,
    /// Bytes sent to the client.
    sent: Cell<u64>,
}

impl Traffic {
    /// Waits until nothing has been transferred for `idle`.
    async fn silence(&self, idle: Option<Duration>) {
        let Some(idle) = idle else { return std::future::pending().await };
        loop {
            let due = self.last.get() + idle;
            if due <= Instant::now() {
                return;
            }
            sleep_until(due).await;
        }
    }
}

/// The side of a tunnel that failed.
enum Broken {
    Client,
    Upstream(io::Error),
}

/// Copies in both directions until both sides have closed theirs, or one fails.
fn carry(client: Stream, upstream: Stream, traffic: &Traffic) -> impl Future<Output = Result<(), Broken>> {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_upstream, to_upstream) = tokio::io::split(upstream);
    async move {
        let up = copy(from_client, to_upstream, |_| traffic.last.set(Instant::now()));
        let down = copy(from_upstream, to_client, |bytes| {
            traffic.last.set(Instant::now());
            traffic.sent.set(traffic.sent.get() + bytes as u64);
        });
        let up = up.map_err(|failed| match failed {
            Failed::Source(_) => Broken::Client,
            Failed::Target(error) => Broken::Upstream(error),
        });
        let down = down.map_err(|failed| match failed {
            Failed::Source(error) => Broken::Upstream(error),
            Failed::Target(_) => Broken::Client,
        });
        tokio::try_join!(up, down).map(drop)
    }
}

/// The end of a copy that failed.
enum Failed {
    Source(io::Error),
    Target(io::Error),
}

async fn copy<R, W>(mut from: R, mut to: W, note: impl Fn(usize)) -> Result<(), Failed>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.map_err(Failed::Source)?;
        if read == 0 {
            // A half-close is passed on: the other direction stays open.
            return to.shutdown().await.map_err(Failed::Target);
        }
        note(read);
        to.write_all(&buffer[..read]).await.map_err(Failed::Target)?;
        to.flush().await.map_err(Failed::Target)?;
    }
}
