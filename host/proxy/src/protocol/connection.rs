//! One client connection, from its first byte to its last, and what its requests share.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::net::TcpStream;
use witgate_config::model::Limits;

use crate::head::{ClientCertificate, Scheme};
use crate::listener::core::Core;
use crate::listener::door::{Generation, Place};
use crate::protocol::http1;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// One client connection.
pub struct Connection {
    /// Name of the listener it came in by.
    pub listener: Arc<str>,
    /// The peer.
    pub peer: SocketAddr,
    /// Whether it is TLS.
    pub scheme: Scheme,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Where its requests are recorded.
    pub telemetry: Arc<Telemetry>,
    /// The limits of its listener when it was accepted.
    pub limits: Limits,
    /// Set once it should end: its next answers say `Connection: close`.
    pub closing: Cell<bool>,
    snapshots: Arc<ArcSwap<Snapshot>>,
}

impl Connection {
    /// A cleartext connection without further facts.
    pub fn new(
        listener: Arc<str>,
        peer: SocketAddr,
        limits: Limits,
        telemetry: Arc<Telemetry>,
        snapshots: Arc<ArcSwap<Snapshot>>,
    ) -> Self {
        let (scheme, certificate) = (Scheme::Http, None);
        Connection {
            listener,
            peer,
            scheme,
            certificate,
            telemetry,
            limits,
            closing: Cell::new(false),
            snapshots,
        }
    }

    /// The snapshot in service now; read once per request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }
}

/// Serves a connection as a task of its own, so that neither a handshake nor a slow client holds up the accept loop.
pub(crate) fn spawn(
    core: &Rc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    generation: Arc<Generation>,
    place: Place,
) {
    let core = core.clone();
    tokio::task::spawn_local(async move {
        let _occupied = core.occupy();
        let _place = place;
        serve(&core, stream, peer, &generation).await;
    });
}

async fn serve(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr, generation: &Arc<Generation>) {
    // Answers are written whole; waiting to fill a packet only delays the last one.
    let _ = stream.set_nodelay(true);
    let connection = Rc::new(Connection::new(
        generation.name.clone(),
        peer,
        generation.config.limits,
        core.plane.telemetry.clone(),
        core.plane.snapshot.clone(),
    ));
    http1::serve(&core.plane, connection, stream, generation).await;
}
