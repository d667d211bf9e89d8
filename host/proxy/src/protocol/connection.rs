//! One client connection, from its first byte to its last, and what its requests share.
//!
//! Most connections are idle, so the future of a connection must stay small: what only a TLS handshake, HTTP/2 or
//! the first moments need is boxed. A test at the end of this file asserts the sizes.

use std::cell::Cell;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use rustls::{ProtocolVersion, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;
use witgate_exchange::arrival::{Ingress, Source};
use witgate_exchange::head::{Scheme, TlsSession};
use witgate_exchange::turn;
use witgate_telemetry::metrics::OpenConnection;
use witgate_telemetry::session::SessionGuard;
use witgate_wire::preface::{self, Spoken};
use witgate_wire::proxy_protocol::Tlvs;
use witgate_wire::socket;
use witgate_wire::tcp::Tcp;

use crate::gateway::Gateway;
use crate::listener::bound::{ConnectionPermit, DrainPhase, Generation};
use crate::listener::certificate;
use crate::listener::core::{Core, Occupied};
use crate::listener::tls::Tls;
use crate::protocol::{first_bytes, http1, http2, lifetime};

/// One client connection.
pub struct Connection {
    /// The way by which its requests come in.
    pub ingress: Rc<Ingress>,
    /// What serves its requests.
    pub gateway: Gateway,
    /// Whether the client may half-close the connection and still get its response.
    pub half_close: bool,
    /// Set once the connection is to end: the next responses say `Connection: close`.
    pub closing: Cell<bool>,
    guard: ConnectionGuard,
}

/// Keeps a connection counted in its listener. A tunnel takes a clone, so that a drain waits for the tunnel.
#[derive(Clone)]
pub(crate) struct ConnectionGuard {
    generation: Arc<Generation>,
    core: Rc<Core>,
    held: Rc<ConnectionCounts>,
}

/// A connection that was accepted, before it is known what it carries.
pub(crate) struct Incoming {
    pub(crate) core: Rc<Core>,
    /// The settings of its listener.
    pub(crate) generation: Arc<Generation>,
    pub(crate) guard: ConnectionGuard,
    /// The other end of the socket.
    pub(crate) peer: SocketAddr,
    /// The client: the peer, or what the PROXY protocol reports.
    pub(crate) client: SocketAddr,
    /// The address that the client has connected to, as far as the PROXY protocol reports it.
    pub(crate) local: Option<SocketAddr>,
    /// The additional fields of the PROXY header.
    pub(crate) tlvs: Tlvs,
}

impl Incoming {
    /// A record of the connection, which is written when it is dropped.
    pub(crate) fn record(&self) -> SessionGuard {
        let mut record = SessionGuard::new(&self.core.gateway.telemetry, &self.generation.name, self.peer);
        record.entry.client = self.client;
        record
    }

    /// Waits until the gateway shuts down and `drain_idle` has passed.
    pub(crate) async fn until_silence_is_over(&self) {
        lifetime::until_silence(&self.generation, &self.core.gateway).await;
    }
}

/// Every counter that counts the connection while it is open.
struct ConnectionCounts {
    _occupied: Occupied,
    place: ConnectionPermit,
    _counted: OpenConnection,
}

impl ConnectionGuard {
    /// Waits until the connection's listener reaches a phase.
    pub(crate) async fn until(&self, phase: DrainPhase) {
        lifetime::until(&mut self.generation.phase(), phase).await;
    }

    /// Waits until the time is up that a closed listener gives to connections that are forwarded as they are.
    pub(crate) async fn until_sessions_are_cut(&self) {
        lifetime::until(&mut self.held.place.sessions().phase(), DrainPhase::Cut).await;
    }

    /// Counts a request or tunnel that was ended because the time of a drain was up.
    pub(crate) fn count_cut(&self) {
        self.core.plane.cut.fetch_add(1, Ordering::AcqRel);
    }
}

impl Connection {
    /// Whether the next response is to be the last on the connection.
    pub(crate) fn is_closing(&self) -> bool {
        // The listener is asked as well, because the connection's own task may learn of a drain only after this
        // request.
        self.closing.get() || self.guard.generation.is_draining()
    }

    /// Tells the listener whether the connection is idle. Called only while the listener drains.
    pub(crate) fn count_idle(&self, idle: bool) {
        self.guard.held.place.count_idle(idle);
    }

    /// The guard of its listener's counts.
    pub(crate) fn guard(&self) -> &ConnectionGuard {
        &self.guard
    }
}

/// Serves a connection in a task of its own, so that neither a handshake nor a slow client delays the accept loop.
pub(crate) fn spawn(
    core: &Rc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    generation: Arc<Generation>,
    place: ConnectionPermit,
) {
    let core = core.clone();
    tokio::task::spawn_local(async move {
        let held = ConnectionCounts {
            _occupied: core.occupy(),
            place,
            _counted: core.plane.telemetry.metrics().connection(&generation.name),
        };
        socket::prepare(&stream);
        let stream = Tcp::new(stream);
        let guard =
            ConnectionGuard { generation: generation.clone(), core: core.clone(), held: Rc::new(held) };
        let tlvs = Tlvs::default();
        let incoming =
            Incoming { core: core.clone(), generation, guard, peer, client: peer, local: None, tlvs };
        if incoming.begins_with_its_protocol() {
            return serve_http(incoming, stream).await;
        }
        if let Some((incoming, stream)) = Box::pin(first_bytes::read(incoming, stream)).await {
            serve_http(incoming, stream).await;
        }
    });
}

/// Serves the requests of a connection.
async fn serve_http(incoming: Incoming, stream: Tcp) {
    let Incoming { core, generation, guard, client, local, .. } = incoming;
    let mut ingress =
        Ingress::new(Source::Tcp, generation.name.clone(), Some(client), generation.config.limits);
    if core.gateway.snapshot().tells_clients {
        ingress.local = local.or_else(|| stream.get_ref().local_addr().ok());
    }
    let connection = Rc::new(Connection {
        ingress: Rc::new(ingress),
        gateway: core.gateway.clone(),
        half_close: generation.config.half_close,
        closing: Cell::new(false),
        guard,
    });
    // Boxed: otherwise every idle connection would reserve memory for what few connections need, or only at
    // their start.
    match &generation.tls {
        Some(tls) => {
            let served = serve_tls(&core, connection, stream, tls, &generation);
            turn::by_turns(Box::pin(served).as_mut()).await;
        }
        None => turn::by_turns(pin!(serve_cleartext(&core, connection, stream, &generation))).await,
    }
}

async fn serve_tls(
    core: &Core,
    mut connection: Rc<Connection>,
    stream: Tcp,
    tls: &Tls,
    generation: &Arc<Generation>,
) {
    // A handshake that fails or times out is dropped silently: the client knows of it.
    let handshake = Box::pin(async {
        tokio::select! {
            biased;
            shaken = timeout(connection.ingress.limits.handshake_timeout, tls.acceptor.accept(stream)) => shaken.ok()?.ok(),
            () = lifetime::until_silence_is_over(&connection, generation) => None,
        }
    });
    let Some(stream) = handshake.await else { return };
    let session = stream.get_ref().1;
    let presented = session.peer_certificates().and_then(|chain| chain.first());
    let identified_by = tls.client_identity.as_ref();
    let certificate = presented.and_then(|der| certificate::describe(der, identified_by)).map(Arc::new);
    let ingress = Rc::get_mut(&mut connection).and_then(|connection| Rc::get_mut(&mut connection.ingress));
    let ingress = ingress.expect("nobody else knows the connection yet");
    (ingress.certificate, ingress.scheme) = (certificate, Scheme::Https);
    ingress.serves_host = session.server_name().and_then(|name| tls.hosts_of(name));
    ingress.tls = Some(Arc::new(tls_session(session)));
    if session.alpn_protocol() == Some(b"h2") {
        http2::serve(&core.plane, connection, stream, BytesMut::new(), generation).await;
    } else {
        http1::serve(&core.plane, connection, stream, BytesMut::new(), generation).await;
    }
}

/// What was agreed on in a handshake.
fn tls_session(session: &ServerConnection) -> TlsSession {
    let protocol = session.alpn_protocol().and_then(|name| std::str::from_utf8(name).ok());
    TlsSession {
        version: match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        },
        server_name: session.server_name().map(|name| name.to_ascii_lowercase().into()),
        protocol: protocol.map(Into::into),
    }
}

async fn serve_cleartext(
    core: &Core,
    connection: Rc<Connection>,
    mut stream: Tcp,
    generation: &Arc<Generation>,
) {
    let mut arrived = BytesMut::new();
    let spoken = match generation.config.http2 {
        true => Box::pin(spoken(&connection, &mut stream, &mut arrived, generation)).await,
        false => Some(Spoken::Http1),
    };
    match spoken {
        Some(Spoken::Http2) => {
            Box::pin(http2::serve(&core.plane, connection, stream, arrived, generation)).await;
        }
        Some(Spoken::Http1) => http1::serve(&core.plane, connection, stream, arrived, generation).await,
        None => {}
    }
}

/// The protocol that the client begins to speak. `None` if nothing arrives within `header_timeout`.
async fn spoken(
    connection: &Connection,
    stream: &mut Tcp,
    arrived: &mut BytesMut,
    generation: &Generation,
) -> Option<Spoken> {
    tokio::select! {
        biased;
        spoken = timeout(connection.ingress.limits.header_timeout, preface::detect(stream, arrived)) => spoken.ok()?.ok(),
        () = lifetime::until_silence_is_over(connection, generation) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The size, in bytes, of the future that an async function returns.
    fn size<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_has_no_room_for_what_it_does_not_do() {
        let cleartext = |core: &'static Core, connection, stream, generation: &'static Arc<Generation>| {
            serve_cleartext(core, connection, stream, generation)
        };
        assert!(size(cleartext) <= 1024, "{} bytes", size(cleartext));
        let tls =
            |core: &'static Core, connection, stream, bound: (&'static Tls, &'static Arc<Generation>)| {
                serve_tls(core, connection, stream, bound.0, bound.1)
            };
        assert!(size(tls) <= 2560, "{} bytes", size(tls));
    }
}
