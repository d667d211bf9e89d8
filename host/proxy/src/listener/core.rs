//! One thread and one current-thread runtime for each core. A connection stays on its core until it ends.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use witgate_exchange::contracts::broker::Delivery;
use witgate_exchange::per_core;

use super::accept;
use super::bound::{BoundListener, ConnectionPermit, Generation};
use super::data_plane::CoreShared;
use crate::consume::{Consumer, deliver, running};
use crate::gateway::Gateway;

/// Task polls between two checks of sockets and timers (tokio's default). A smaller number would fire timers
/// sooner behind plugins that use their whole CPU budget, but makes requests that yield slower.
const EVENT_INTERVAL: u32 = 61;

/// A command to a core.
pub(crate) enum CoreCommand {
    /// Accept from this socket.
    Listen(Arc<BoundListener>, TcpListener),
    /// Serve a connection that another core accepted.
    Take(Handover),
    /// Fetch for this consumer.
    Fetch(Arc<Consumer>),
    /// Take a message of this consumer to its end.
    Deliver(Arc<Consumer>, Delivery),
    /// Drop everything and end the thread.
    Stop,
}

/// An accepted connection on its way to a less busy core.
pub(crate) struct Handover {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) generation: Arc<Generation>,
    pub(crate) place: ConnectionPermit,
}

/// The number of connections of a core, readable by every core.
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

/// What other threads know of a core: its load, and the channel for commands to it.
pub(crate) struct CoreHandle {
    pub(crate) load: Load,
    pub(crate) orders: UnboundedSender<CoreCommand>,
}

impl CoreHandle {
    /// A handle, and the receiver of its commands for the core.
    pub(crate) fn new() -> (CoreHandle, UnboundedReceiver<CoreCommand>) {
        let (orders, receiver) = unbounded_channel();
        (CoreHandle { load: Load::default(), orders }, receiver)
    }
}

/// What the tasks of one core share.
pub(crate) struct Core {
    /// Index of this core.
    pub(crate) index: usize,
    /// The state that all cores share.
    pub(crate) plane: Arc<CoreShared>,
    /// What serves its requests.
    pub(crate) gateway: Gateway,
}

impl Core {
    fn new(index: usize, plane: Arc<CoreShared>) -> Self {
        let gateway = Gateway::new(plane.telemetry.clone(), plane.snapshot.clone());
        Core { index, plane, gateway }
    }

    /// Counts a connection in this core's load until the returned guard is dropped.
    pub(crate) fn occupy(self: &Rc<Self>) -> Occupied {
        self.load().connections.fetch_add(1, Ordering::Relaxed);
        Occupied(self.clone())
    }

    /// This core's load.
    pub(crate) fn load(&self) -> &Load {
        &self.plane.cores[self.index].load
    }
}

/// Guard: the connection is counted in its core's load until this is dropped.
pub(crate) struct Occupied(Rc<Core>);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.load().connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Starts the thread of a core, and returns once its runtime is built.
///
/// # Errors
/// The system refuses a thread or an epoll descriptor.
pub(crate) fn start(
    index: usize,
    plane: Arc<CoreShared>,
    orders: UnboundedReceiver<CoreCommand>,
) -> io::Result<JoinHandle<()>> {
    let (told, built) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("witgate-core-{index}")).spawn(move || {
        // A runtime of local tasks must be built on the thread that runs it.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .event_interval(EVENT_INTERVAL)
            .build_local(LocalOptions::default());
        // `start` waits for this result.
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(told.send(Err(error))),
        };
        drop(told.send(Ok(())));
        per_core::claim();
        runtime.block_on(run(Rc::new(Core::new(index, plane)), orders));
    })?;
    built.recv().map_err(io::Error::other)??;
    Ok(thread)
}

async fn run(core: Rc<Core>, mut orders: UnboundedReceiver<CoreCommand>) {
    while let Some(order) = orders.recv().await {
        match order {
            CoreCommand::Listen(bound, socket) => accept::spawn(&core, bound, socket),
            CoreCommand::Take(handover) => accept::take(&core, handover),
            CoreCommand::Fetch(consumer) => {
                tokio::task::spawn_local(running::fetch(core.plane.clone(), consumer));
            }
            CoreCommand::Deliver(consumer, delivery) => deliver::spawn(&core.gateway, consumer, delivery),
            CoreCommand::Stop => return,
        }
    }
}
