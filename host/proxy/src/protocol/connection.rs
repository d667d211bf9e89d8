//! One client connection, from its first byte to its last, and what its requests share.
//!
//! Most connections are idle, so the future of a connection must stay small: what only a TLS handshake, HTTP/2 or
//! the first moments need is boxed. A test at the end of this file asserts the sizes.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use bytes::BytesMut;
use http::header::HOST;
use http::{HeaderValue, Request, Version};
use tokio::net::TcpStream;
use tokio::time::timeout;
use witgate_config::model::Limits;

use crate::fault::Fault;
use crate::head::{ClientCertificate, Scheme};
use crate::listener::bound::{ConnectionPermit, DrainPhase, Generation};
use crate::listener::certificate;
use crate::listener::core::{Core, Occupied};
use crate::listener::tls::Tls;
use crate::protocol::authority::{self, Authority};
use crate::protocol::preface::{self, Spoken};
use crate::protocol::{http1, http2, lifetime, socket};
use crate::snapshot::Snapshot;
use crate::tcp::Tcp;
use crate::telemetry::Telemetry;
use crate::telemetry::metrics::OpenConnection;
use crate::turn;

/// One client connection.
pub struct Connection {
    /// Name of the listener that accepted it.
    pub listener: Arc<str>,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// The scheme: `https` over TLS.
    pub scheme: Scheme,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Where its requests are recorded.
    pub telemetry: Arc<Telemetry>,
    /// The listener's limits at the time of the accept.
    pub limits: Limits,
    /// Whether the client may half-close the connection and still get its response.
    pub half_close: bool,
    /// Set once the connection is to end: the next responses say `Connection: close`.
    pub closing: Cell<bool>,
    /// The peer's address as a field value.
    pub(crate) peer_text: HeaderValue,
    /// The last `Host` or `:authority` and its result: most clients repeat it with every request.
    last_authority: RefCell<Option<(Box<[u8]>, Authority)>>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    guard: Option<ConnectionGuard>,
}

/// Keeps a connection counted in its listener. A tunnel takes a clone, so that a drain waits for the tunnel.
#[derive(Clone)]
pub(crate) struct ConnectionGuard {
    generation: Arc<Generation>,
    core: Rc<Core>,
    held: Rc<ConnectionCounts>,
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

    /// Counts a request or tunnel that was ended because the time of a drain was up.
    pub(crate) fn count_cut(&self) {
        self.core.plane.cut.fetch_add(1, Ordering::AcqRel);
    }
}

impl Connection {
    /// A cleartext connection, with default values for the rest.
    pub fn new(
        listener: Arc<str>,
        peer: SocketAddr,
        limits: Limits,
        telemetry: Arc<Telemetry>,
        snapshots: Arc<ArcSwap<Snapshot>>,
    ) -> Self {
        let (scheme, certificate) = (Scheme::Http, None);
        let peer_text = HeaderValue::from_str(&peer.ip().to_canonical().to_string());
        Connection {
            listener,
            peer,
            scheme,
            certificate,
            telemetry,
            limits,
            half_close: false,
            closing: Cell::new(false),
            peer_text: peer_text.expect("an address is digits and punctuation"),
            last_authority: RefCell::new(None),
            snapshots,
            guard: None,
        }
    }

    /// The snapshot in service. Read once for each request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }

    /// The authority of a request.
    ///
    /// # Errors
    /// As [`authority::of`].
    pub(crate) fn authority<B>(&self, request: &Request<B>) -> Result<Authority, Fault> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let told = match (hosts.next(), hosts.next(), request.uri().authority()) {
            (Some(host), None, None) => host.as_bytes(),
            (None, None, Some(target)) if request.version() == Version::HTTP_2 => target.as_str().as_bytes(),
            _ => return authority::of(request.uri(), request.headers(), request.version()),
        };
        if let Some((known, authority)) = &*self.last_authority.borrow()
            && **known == *told
        {
            return Ok(authority.clone());
        }
        let found = authority::of(request.uri(), request.headers(), request.version())?;
        // The bytes are copied, because the field value would keep the whole head in memory.
        self.last_authority.replace(Some((told.into(), found.clone())));
        Ok(found)
    }

    /// Whether the next response is to be the last on the connection.
    pub(crate) fn is_closing(&self) -> bool {
        // The listener is asked as well, because the connection's own task may learn of a drain only after this
        // request.
        self.closing.get() || self.guard.as_ref().is_some_and(|guard| guard.generation.is_draining())
    }

    /// Tells the listener whether the connection is idle. Called only while the listener drains.
    pub(crate) fn count_idle(&self, idle: bool) {
        if let Some(guard) = &self.guard {
            guard.held.place.count_idle(idle);
        }
    }

    /// The guard of its listener's counts; `None` for a connection without a listener.
    pub(crate) fn guard(&self) -> Option<&ConnectionGuard> {
        self.guard.as_ref()
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
        let connection = Rc::new(Connection {
            guard: Some(guard),
            half_close: generation.config.half_close,
            ..Connection::new(
                generation.name.clone(),
                peer,
                generation.config.limits,
                core.plane.telemetry.clone(),
                core.plane.snapshot.clone(),
            )
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
    });
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
            shaken = timeout(connection.limits.handshake_timeout, tls.acceptor.accept(stream)) => shaken.ok()?.ok(),
            () = lifetime::until_silence_is_over(&connection, generation) => None,
        }
    });
    let Some(stream) = handshake.await else { return };
    let session = stream.get_ref().1;
    let presented = session.peer_certificates().and_then(|chain| chain.first());
    let facts = Rc::get_mut(&mut connection).expect("nobody else knows the connection yet");
    facts.certificate = presented.and_then(certificate::describe).map(Arc::new);
    facts.scheme = Scheme::Https;
    if session.alpn_protocol() == Some(b"h2") {
        http2::serve(&core.plane, connection, stream, BytesMut::new(), generation).await;
    } else {
        http1::serve(&core.plane, connection, stream, BytesMut::new(), generation).await;
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
        spoken = timeout(connection.limits.header_timeout, preface::detect(stream, arrived)) => spoken.ok()?.ok(),
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
