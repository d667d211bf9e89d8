//! One thread and one current-thread runtime a core. A connection lives and dies on its core.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::accept;
use super::bound::{BoundListener, ConnectionPermit, Generation};
use super::data_plane::CoreShared;
use crate::telemetry::per_core;

/// Task polls between two looks at sockets and timers: tokio's default. Fewer would let timers fire sooner behind plugins
/// that spin, each up to its CPU budget. But a request that yields goes behind the tasks of one such turn, and with 16
/// the upstream is woken more often: four plugins with fresh tokens cost 2.25 times nginx's plain request instead of 2.15
/// (untrained builds, six interleaved rounds).
const EVENT_INTERVAL: u32 = 61;

/// What a core is told.
pub(crate) enum CoreCommand {
    /// Accept from this socket.
    Listen(Arc<BoundListener>, TcpListener),
    /// Serve a connection that another core accepted.
    Take(Handover),
    /// Drop everything and end.
    Stop,
}

/// A fresh connection on its way to a less busy core.
pub(crate) struct Handover {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) generation: Arc<Generation>,
    pub(crate) place: ConnectionPermit,
}

/// How busy a core is, for all to see.
#[derive(Debug, Default)]
pub(crate) struct Load {
    connections: AtomicUsize,
}

impl Load {
    /// Connections open on this core.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// The address of a core: how busy it is, and where its orders go.
pub(crate) struct CoreHandle {
    pub(crate) load: Load,
    pub(crate) orders: UnboundedSender<CoreCommand>,
}

impl CoreHandle {
    /// A handle and the end at which its core listens.
    pub(crate) fn new() -> (CoreHandle, UnboundedReceiver<CoreCommand>) {
        let (orders, receiver) = unbounded_channel();
        (CoreHandle { load: Load::default(), orders }, receiver)
    }
}

/// What tasks of one core share.
pub(crate) struct Core {
    /// Which core this is.
    pub(crate) index: usize,
    /// The plane it belongs to.
    pub(crate) plane: Arc<CoreShared>,
}

impl Core {
    /// Counts a connection while it is open.
    pub(crate) fn occupy(self: &Rc<Self>) -> Occupied {
        self.load().connections.fetch_add(1, Ordering::Relaxed);
        Occupied(self.clone())
    }

    /// This core's load.
    pub(crate) fn load(&self) -> &Load {
        &self.plane.cores[self.index].load
    }
}

/// A connection counted in its core's load.
pub(crate) struct Occupied(Rc<Core>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.load().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the thread of a core.
///
/// # Errors
/// The system gives no thread, or no epoll descriptor.
pub(crate) fn start(
    index: usize,
    plane: Arc<CoreShared>,
    orders: UnboundedReceiver<CoreCommand>,
) -> io::Result<JoinHandle<()>> {
    let (told, built) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("witgate-core-{index}")).spawn(move || {
        // A runtime of local tasks belongs to the thread that made it.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default());
        // Whoever starts a core waits for word of it.
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(Err(error))),
        };
        drop(told.send(Ok(())));
        per_core::claim();
        runtime.block_on(run(Rc::new(Core { index, plane }), orders));
    })?;
    built.recv().map_err(io::Error::other)??;
    Ok(thread)
}

async fn run(core: Rc<Core>, mut orders: UnboundedReceiver<CoreCommand>) {
    while let Some(order) = orders.recv().await {
        match order {
            CoreCommand::Listen(bound, socket) => accept::spawn(&core, bound, socket),
            CoreCommand::Take(handover) => accept::take(&core, handover),
            CoreCommand::Stop => return,
        }
    }
}
