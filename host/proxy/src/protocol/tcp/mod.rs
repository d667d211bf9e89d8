//! Connections that are forwarded as they are.
//!
//! | file | what happens there |
//! |---|---|
//! | this | the walk of a session: ClientHello or handshake, route, upstream, bytes, record |
//! | [`hello`] | the ClientHello of a client, read in a bounded time and put back |
//! | [`mod@carry`] | bytes in both directions |
//!
//! A session holds its two connections, its permits and its record; it does not hold the snapshot, so that it goes on through
//! reloads. A drain leaves it alone until its time is up.

pub(crate) mod carry;
pub(crate) mod hello;

use std::sync::Arc;
use std::time::Instant;

use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_telemetry::request_guard::CUT_BY_DRAIN;
use witgate_telemetry::session::{SessionEnd, SessionGuard};
use witgate_upstream::{Connecting, Session, Upstream};
use witgate_wire::client_hello::{Alert, ClientHello};
use witgate_wire::proxy_protocol::{Addresses, Client, TlsFacts};
use witgate_wire::socket::Transport;
use witgate_wire::tcp::Tcp;

use self::carry::{End, carry};
use crate::listener::tls::Tls;
use crate::protocol::connection::Incoming;
use crate::router::tcp::{TcpRoute, TcpRouter};

/// Serves a connection to a listener for TCP.
pub(crate) async fn serve(incoming: &Incoming, stream: Tcp) {
    let mut record = incoming.record();
    let served = until_cut(incoming, forward(incoming, stream, &mut record)).await;
    end(record, served);
}

/// Serves a connection whose hello chose a route. The hello has been put back.
pub(crate) async fn serve_passed(incoming: &Incoming, stream: Tcp, hello: ClientHello, route: Arc<TcpRoute>) {
    let mut record = incoming.record();
    let passed = pass_through(incoming, stream, hello, Some(route), &mut record);
    let served = until_cut(incoming, passed).await;
    end(record, served);
}

async fn until_cut(
    incoming: &Incoming,
    session: impl Future<Output = Result<(), Fault>>,
) -> Result<(), Fault> {
    tokio::select! {
        served = session => served,
        () = incoming.guard.until_sessions_are_cut() => {
            incoming.guard.count_cut();
            Err(Fault::new(FaultKind::Draining).cause(CUT_BY_DRAIN))
        }
    }
}

fn end(mut record: SessionGuard, served: Result<(), Fault>) {
    if let Err(fault) = served {
        record.fault(fault);
    }
}

/// From the hello or the handshake to the route.
async fn forward(incoming: &Incoming, mut stream: Tcp, record: &mut SessionGuard) -> Result<(), Fault> {
    let generation = &incoming.generation;
    if let Some(tls) = &generation.tls {
        // Boxed, so that sessions without TLS do not reserve memory for it.
        return Box::pin(terminate(incoming, stream, tls, record)).await;
    }
    let needs_hello = incoming.with_router(|router| router.needs_hello);
    let find = |hello: &ClientHello| incoming.with_router(|router| router.find(hello).cloned());
    if !needs_hello {
        let route = find(&ClientHello::default()).ok_or_else(no_route)?;
        return join(incoming, &mut stream, &route, Client::default(), record).await;
    }
    let hello = Box::pin(hello::read(incoming, &mut stream)).await?;
    let route = find(&hello);
    pass_through(incoming, stream, hello, route, record).await
}

/// Forwards a connection whose TLS is the business of the upstream.
async fn pass_through(
    incoming: &Incoming,
    mut stream: Tcp,
    hello: ClientHello,
    route: Option<Arc<TcpRoute>>,
    record: &mut SessionGuard,
) -> Result<(), Fault> {
    record.entry.sni.clone_from(&hello.server_name);
    let Some(route) = route else {
        let alert = match hello.alpn.is_empty() || hello.server_name.is_some() {
            true => Alert::UnrecognizedName,
            false => Alert::NoApplicationProtocol,
        };
        Box::pin(hello::refuse(&mut stream, alert)).await;
        return Err(no_route());
    };
    let client =
        Client { authority: hello.server_name, alpn: hello.alpn.into_iter().next(), ..Client::default() };
    let joined = join(incoming, &mut stream, &route, client, record).await;
    if joined.is_err() {
        Box::pin(hello::refuse(&mut stream, Alert::InternalError)).await;
    }
    joined
}

/// Ends the TLS of the client here, and forwards what is in it.
async fn terminate(
    incoming: &Incoming,
    stream: Tcp,
    tls: &Tls,
    record: &mut SessionGuard,
) -> Result<(), Fault> {
    record.entry.terminated = true;
    let limit = incoming.generation.config.limits.handshake_timeout;
    let shaken = tokio::select! {
        biased;
        shaken = timeout(limit, tls.acceptor.accept(stream)) => shaken,
        () = incoming.until_silence_is_over() => return Err(Fault::new(FaultKind::Draining)),
    };
    let mut stream = match shaken {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(
                Fault::new(FaultKind::BadClientHello).cause(format!("no TLS with the client: {error}"))
            );
        }
        Err(_) => {
            let cause = format!("no complete TLS handshake within {limit:?} (`limits.handshake_timeout`)");
            return Err(Fault::new(FaultKind::HeaderTimeout).cause(cause));
        }
    };
    let (hello, facts) = negotiated(&stream);
    record.entry.sni.clone_from(&hello.server_name);
    let route = incoming.with_router(|router| router.find(&hello).cloned()).ok_or_else(no_route)?;
    let client = Client {
        authority: hello.server_name,
        alpn: hello.alpn.into_iter().next(),
        tls: Some(facts),
        ..Client::default()
    };
    join(incoming, &mut stream, &route, client, record).await
}

/// What a handshake has agreed on.
fn negotiated(stream: &TlsStream<Tcp>) -> (ClientHello, TlsFacts) {
    let session = stream.get_ref().1;
    let name = session.server_name().map(|name| name.trim_end_matches('.').to_ascii_lowercase());
    let hello = ClientHello {
        server_name: name.map(String::into_boxed_str),
        alpn: session.alpn_protocol().map(Box::from).into_iter().collect(),
    };
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    };
    (hello, TlsFacts { version, certificate: session.peer_certificates().is_some() })
}

/// Opens the session with the upstream and carries bytes until it ends.
async fn join<T: Transport>(
    incoming: &Incoming,
    stream: &mut T,
    route: &TcpRoute,
    client: Client,
    record: &mut SessionGuard,
) -> Result<(), Fault> {
    let upstream = route.upstream().ok_or_else(no_route)?;
    record.routed(&route.name, &upstream.name);
    let deadline = route.lifetime.map(|lifetime| Instant::now() + lifetime);
    let idle = upstream.config.idle_timeout;
    let mut session = Box::pin(open(incoming, stream, upstream, client, record)).await?;
    let entry = &mut record.entry;
    let told = |received, sent| (entry.received, entry.sent) = (received, sent);
    let end = carry(stream, &mut session, idle, deadline, told).await;
    record.entry.end = match end {
        End::Closed => SessionEnd::Closed,
        End::Idle => SessionEnd::Idle,
        End::TimedOut => SessionEnd::TimedOut,
        End::Client => {
            session.reset_on_close();
            SessionEnd::ClientReset
        }
        End::Upstream => {
            stream.reset_on_close();
            SessionEnd::UpstreamReset
        }
    };
    Ok(())
}

async fn open<T: Transport>(
    incoming: &Incoming,
    stream: &T,
    upstream: &Arc<Upstream>,
    client: Client,
    record: &mut SessionGuard,
) -> Result<Session, Fault> {
    let local = incoming.local.or_else(|| stream.socket().local_addr().ok()).unwrap_or(incoming.client);
    let client = Client {
        addresses: Some(Addresses { source: incoming.client, destination: local }),
        received: incoming.tlvs.clone(),
        ..client
    };
    let mut connecting = Connecting::default();
    let opened = upstream.open(&client, &mut connecting).await;
    let entry = &mut record.entry;
    (entry.endpoint, entry.attempts, entry.connect) =
        (connecting.endpoint, connecting.attempts, connecting.time);
    opened
}

fn no_route() -> Fault {
    Fault::new(FaultKind::NoRoute).cause("no route of the listener takes this connection")
}

impl Incoming {
    /// Reads the routes of the listener in the snapshot in service.
    fn with_router<R>(&self, read: impl FnOnce(&TcpRouter) -> R) -> R {
        let snapshot = self.core.gateway.snapshot();
        match snapshot.tcp.get(&*self.generation.name) {
            Some(router) => read(router),
            None => read(&TcpRouter::default()),
        }
    }
}
