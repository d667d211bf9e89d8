//! The accept loop of one listener on one core. It only accepts: TLS handshakes and requests run in the
//! connection's own task, so that a slow client never delays the next accept.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::bound::{BoundListener, ConnectionPermit, Generation};
use super::core::{Core, CoreCommand, Handover};
use super::socket::BACKLOG;
use crate::protocol::connection;

/// Pause after an accept that failed because descriptors or memory ran out. They become available again when
/// connections close.
const EXHAUSTED_REST: Duration = Duration::from_millis(50);

/// The least number of connections that another core must have fewer before a new connection is handed to it.
/// Handing over costs a wake-up of that core.
const HANDOVER_GAP: usize = 2;

/// Starts the accept loop as a task of this core.
pub(crate) fn spawn(core: &Rc<Core>, bound: Arc<BoundListener>, socket: std::net::TcpListener) {
    let core = core.clone();
    tokio::task::spawn_local(async move {
        match TcpListener::from_std(socket) {
            Ok(socket) => accept(&core, &bound, socket).await,
            Err(error) => core.plane.report("a listening socket cannot be served", &error),
        }
        bound.listening.fetch_sub(1, Ordering::AcqRel);
    });
}

async fn accept(core: &Rc<Core>, bound: &Arc<BoundListener>, socket: TcpListener) {
    let mut closed = bound.closed();
    loop {
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => break,
            accepted = socket.accept() => welcome(core, bound, accepted).await,
        }
    }
    empty_backlog(core, bound, socket).await;
}

/// Serves the connections that the kernel completed before the socket closes; otherwise the kernel would reset
/// them. The kernel is asked directly, because the runtime may not have been notified of the last ones yet.
async fn empty_backlog(core: &Rc<Core>, bound: &Arc<BoundListener>, socket: TcpListener) {
    let Ok(socket) = socket.into_std() else { return };
    for _ in 0..BACKLOG {
        let Ok((stream, peer)) = socket.accept() else { return };
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        welcome(core, bound, stream.map(|stream| (stream, peer))).await;
    }
}

async fn welcome(core: &Rc<Core>, bound: &Arc<BoundListener>, accepted: io::Result<(TcpStream, SocketAddr)>) {
    match accepted {
        Ok((stream, peer)) => {
            let place = bound.enter(core.index).await;
            place_connection(core, stream, peer, bound.generation(), place);
        }
        Err(error) if is_exhaustion(&error) => {
            core.plane.accept_exhausted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(EXHAUSTED_REST).await;
        }
        // The client closed the connection before it was accepted (ECONNABORTED and similar errors): the next
        // accept works.
        Err(_) => {}
    }
}

fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Serves a connection on this core, or hands it to a core that has clearly fewer. `SO_REUSEPORT` spreads
/// connections by a hash, which is far from even when there are few long-lived ones.
fn place_connection(
    core: &Rc<Core>,
    stream: TcpStream,
    peer: SocketAddr,
    generation: Arc<Generation>,
    mut place: ConnectionPermit,
) {
    let Some(other) = less_busy(core) else {
        return connection::spawn(core, stream, peer, generation, place);
    };
    let Ok(stream) = stream.into_std() else { return };
    place.move_to(other);
    let handover = Handover { stream, peer, generation, place };
    // A core whose receiver is gone is stopping, and its connections end with it.
    let _ = core.plane.cores[other].orders.send(CoreCommand::Take(handover));
}

fn less_busy(core: &Core) -> Option<usize> {
    let load = |index: &usize| core.plane.cores[*index].load.connections();
    let least = (0..core.plane.cores.len()).min_by_key(load)?;
    (load(&least) + HANDOVER_GAP <= load(&core.index)).then_some(least)
}

/// Serves a connection that another core accepted.
pub(crate) fn take(core: &Rc<Core>, handover: Handover) {
    let Handover { stream, peer, generation, place } = handover;
    match TcpStream::from_std(stream) {
        Ok(stream) => connection::spawn(core, stream, peer, generation, place),
        Err(error) => core.plane.report("a connection handed over cannot be served", &error),
    }
}
