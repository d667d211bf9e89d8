//! The data plane as the control plane sees it: start, swap, drain.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use witgate_config::{Problem, Problems, model};
use witgate_telemetry::Telemetry;
use witgate_upstream::Keeper;
use witgate_wire::inherited::Inherited;

use super::bound::{BoundListener, DrainPhase, Generation};
use super::core::{self, CoreCommand, CoreHandle};
use super::expose;
use super::opening::{self, ListenerTls, Opening};
use super::retire::Retire;
use super::tls::Tls;
use crate::consume::running::RunningConsumers;
use crate::snapshot::Snapshot;
use crate::snapshot::in_service::UpstreamsInService;

/// Interval at which a wait checks its condition.
const ROUND: Duration = Duration::from_millis(5);

/// Time that connections have to end once they are cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// Time that the accept loops of a closed listener have to end when its address is to be bound again.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// Time for a broker to be told of the last messages.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(2);

/// What the cores share.
pub(crate) struct CoreShared {
    /// The snapshot in service.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where requests are recorded.
    pub(crate) telemetry: Arc<Telemetry>,
    /// The handles of all cores, by index.
    pub(crate) cores: Vec<CoreHandle>,
    /// Requests and tunnels that were ended early because the time of a drain was up.
    pub(crate) cut: AtomicUsize,
    /// Accepts that failed because descriptors or memory ran out.
    pub(crate) accept_exhausted: AtomicUsize,
    /// Snapshots that are out of service but not dropped yet.
    pub(crate) retired: Arc<AtomicUsize>,
}

impl CoreShared {
    /// Logs an error that belongs to no request.
    pub(crate) fn report(&self, what: &'static str, error: &std::io::Error) {
        self.telemetry.log(model::LogLevel::Error, what, &[("error", error)]);
    }
}

/// The running data plane: one thread and one runtime for each core.
pub struct DataPlane {
    plane: Arc<CoreShared>,
    listeners: Mutex<BoundListeners>,
    consumers: Mutex<RunningConsumers>,
    inherited: Mutex<Inherited>,
    retire: Retire,
    threads: Vec<JoinHandle<()>>,
    keeper: Keeper,
}

/// All listeners that have a socket or connections.
#[derive(Default)]
struct BoundListeners {
    /// Those that accept.
    open: Vec<Arc<BoundListener>>,
    /// Those that are closed and still have connections.
    leaving: Vec<Arc<BoundListener>>,
    /// Replaced generations whose connections drain.
    draining: Vec<Weak<Generation>>,
}

impl BoundListeners {
    /// Removes the listeners and generations that have ended.
    fn sweep(&mut self) {
        self.leaving.retain(|bound| !bound.is_deserted());
        self.draining.retain(|generation| generation.strong_count() > 0);
    }
}

/// One listener, as the admin listener shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundStatus {
    /// Name of the listener.
    pub name: String,
    /// The address it is bound to.
    pub address: SocketAddr,
    /// Connections open on each core.
    pub open: Vec<usize>,
    /// Connections accepted so far.
    pub accepted: usize,
    /// Connections that had to wait because the listener was at its limit.
    pub waited: usize,
}

impl DataPlane {
    /// Binds every listener (or takes inherited descriptors) and starts the cores.
    ///
    /// # Errors
    /// Addresses that cannot be bound, certificates that cannot be read.
    pub fn start(snapshot: Arc<Snapshot>, telemetry: Arc<Telemetry>) -> Result<DataPlane, Problems> {
        let workers = snapshot.config.gateway.workers.max(1);
        telemetry.metrics().expect(snapshot.names(), snapshot.ways());
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| CoreHandle::new()).unzip();
        let plane = Arc::new(CoreShared {
            snapshot: Arc::new(ArcSwap::new(snapshot.clone())),
            telemetry,
            cores,
            cut: AtomicUsize::new(0),
            accept_exhausted: AtomicUsize::new(0),
            retired: Arc::default(),
        });
        let mut inherited = Inherited::from_environment();
        let config = snapshot.config.clone();
        let tls = ListenerTls::read(&config)?;
        let opening = opening::prepare(&config.listeners, tls, &[], &mut inherited, workers)?;
        let mut threads = Vec::with_capacity(workers);
        for (index, orders) in receivers.into_iter().enumerate() {
            threads.push(core::start(index, plane.clone(), orders).map_err(no_thread)?);
        }
        let upstreams = Arc::new(UpstreamsInService(plane.snapshot.clone()));
        let keeper = Keeper::start(upstreams, plane.telemetry.clone()).map_err(no_thread)?;
        let retire = Retire::start(plane.retired.clone()).map_err(no_thread)?;
        let data_plane = DataPlane {
            plane,
            listeners: Mutex::default(),
            consumers: Mutex::default(),
            inherited: Mutex::new(inherited),
            retire,
            threads,
            keeper,
        };
        data_plane.settle(opening, Instant::now());
        data_plane.consumers().follow(&data_plane.plane, &snapshot.consumers);
        expose::register(&data_plane.plane);
        Ok(data_plane)
    }

    /// The addresses that the listeners are bound to, by name. They differ from the configured ones for port 0.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let listeners = self.listeners();
        listeners.open.iter().map(|bound| (bound.generation().name.to_string(), bound.address)).collect()
    }

    /// Every listener with its counters.
    pub fn status(&self) -> Vec<BoundStatus> {
        let status = |bound: &Arc<BoundListener>| BoundStatus {
            name: bound.generation().name.to_string(),
            address: bound.address,
            open: bound.open_by_core(),
            accepted: bound.accepted(),
            waited: bound.waited(),
        };
        self.listeners().open.iter().map(status).collect()
    }

    /// Puts a new snapshot in service in one step: opens new listeners, drains those that are gone or whose
    /// connection settings changed. `tls` holds the TLS files of its listeners; the caller reads them before,
    /// because reading takes as long as the file system does. A failure leaves everything as it was.
    ///
    /// # Errors
    /// Addresses that cannot be bound.
    pub fn put_in_service(&self, snapshot: Arc<Snapshot>, tls: ListenerTls) -> Result<(), Problems> {
        let config = snapshot.config.clone();
        let opening = {
            let mut listeners = self.listeners();
            listeners.sweep();
            wait_for_addresses(&listeners.leaving, &config.listeners);
            let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
            opening::prepare(&config.listeners, tls, &listeners.open, &mut inherited, self.plane.cores.len())?
        };
        // Everything that can fail has been done: from here on nothing is undone.
        self.swap_plugins(snapshot.clone());
        self.settle(opening, Instant::now() + config.gateway.drain_timeout);
        self.consumers().follow(&self.plane, &snapshot.consumers);
        Ok(())
    }

    /// Puts a snapshot in service that has the same listeners as the one in service, as [`Snapshot::with_plugins`]
    /// makes it. Nothing is bound or read, so this cannot fail.
    pub fn swap_plugins(&self, snapshot: Arc<Snapshot>) {
        self.plane.telemetry.metrics().expect(snapshot.names(), snapshot.ways());
        let before = self.plane.snapshot.swap(snapshot);
        self.keeper.follow();
        self.retire.snapshot(before);
    }

    /// Reads the TLS files of a snapshot and puts it in service.
    #[cfg(test)]
    pub(crate) fn swap(&self, snapshot: Arc<Snapshot>) -> Result<(), Problems> {
        let tls = ListenerTls::read(&snapshot.config)?;
        self.put_in_service(snapshot, tls)
    }

    /// Opens, renews and closes listeners until they are the wanted ones.
    fn settle(&self, wanted: Vec<Opening<'_>>, deadline: Instant) {
        let listeners = &mut *self.listeners();
        let mut before = std::mem::take(&mut listeners.open);
        for Opening { listener, tls, bound } in wanted {
            let present = before.iter().position(|bound| opening::serves(bound, listener));
            match (bound, present) {
                (Some((address, sockets)), _) => {
                    listeners.open.push(self.listen(listener, tls, address, sockets))
                }
                (None, Some(index)) => {
                    let bound = before.swap_remove(index);
                    if let Some(old) = bound.renew(listener, tls) {
                        self.retire.generation(&old, deadline);
                        listeners.draining.push(Arc::downgrade(&old));
                    }
                    listeners.open.push(bound);
                }
                (None, None) => {}
            }
        }
        for bound in before {
            bound.close();
            self.retire.generation(&bound.generation(), deadline);
            self.retire.generation(bound.sessions(), deadline);
            listeners.leaving.push(bound);
        }
    }

    /// The snapshot in service.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.plane.snapshot.load_full()
    }

    /// Closes the listeners, lets requests in flight end within `timeout`, then ends them. Listeners with `drain =
    /// "last"` go on accepting until the other listeners, whose requests may call them, have nothing in flight.
    /// Blocks until done. Returns how many requests and tunnels were cut.
    pub fn drain(self, timeout: Duration) -> usize {
        let begun = Instant::now();
        let deadline = begun + timeout;
        let BoundListeners { open, leaving, draining } = std::mem::take(&mut *self.listeners());
        let config = self.snapshot().config.clone();
        let mut consumers = std::mem::take(&mut *self.consumers());
        consumers.stop();
        let (last, open): (Vec<_>, Vec<_>) = open.into_iter().partition(|bound| drains_last(bound, &config));
        let first: Vec<_> = open.into_iter().chain(leaving).collect();
        first.iter().for_each(|bound| leave(bound));
        for generation in draining.iter().filter_map(Weak::upgrade) {
            generation.advance(DrainPhase::Leaving);
        }
        // A request may already be on its way on an idle connection, so such a connection counts until
        // `drain_idle` is over.
        let idle_until = begun + config.gateway.drain_idle;
        let is_over = |bound: &Arc<BoundListener>| {
            bound.is_quiet() && (bound.open() == 0 || Instant::now() >= idle_until)
        };
        if !last.is_empty() {
            wait_until(deadline, || first.iter().all(is_over) && consumers.are_over());
        }
        last.iter().for_each(|bound| leave(bound));
        let listeners: Vec<_> = first.into_iter().chain(last).collect();
        let deserted = || listeners.iter().all(|bound| bound.is_deserted()) && consumers.are_over();
        wait_until(deadline, deserted);
        for generation in draining.iter().filter_map(Weak::upgrade) {
            generation.advance(DrainPhase::Cut);
        }
        for bound in &listeners {
            bound.generation().advance(DrainPhase::Cut);
            bound.sessions().advance(DrainPhase::Cut);
        }
        wait_until(Instant::now() + CUT_GRACE, deserted);
        for broker in self.snapshot().brokers.values() {
            broker.close(LAST_SETTLEMENTS);
        }
        for core in &self.plane.cores {
            // A core whose receiver is gone has ended already.
            let _ = core.orders.send(CoreCommand::Stop);
        }
        for thread in self.threads {
            // A panic of the core was reported when it happened.
            let _ = thread.join();
        }
        self.plane.cut.load(Ordering::Acquire)
    }

    fn listen(
        &self,
        listener: &model::Listener,
        tls: Option<Tls>,
        address: SocketAddr,
        sockets: Vec<TcpListener>,
    ) -> Arc<BoundListener> {
        let generation = Generation::new(listener.clone(), tls);
        let bound = BoundListener::new(listener.address, address, generation, self.plane.cores.len());
        bound.listening.store(sockets.len(), Ordering::Release);
        for (core, socket) in self.plane.cores.iter().zip(sockets) {
            // A core ends only after the plane, so its receiver exists.
            let _ = core.orders.send(CoreCommand::Listen(bound.clone(), socket));
        }
        bound
    }

    fn consumers(&self) -> MutexGuard<'_, RunningConsumers> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn listeners(&self) -> MutexGuard<'_, BoundListeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a listener drains only after the others have nothing in flight. The configuration in service is asked,
/// because a reload may have changed this setting without a new generation.
fn drains_last(bound: &BoundListener, config: &model::Config) -> bool {
    let name = bound.generation().name.clone();
    let listener = config.listeners.iter().find(|listener| *listener.name == *name);
    listener.is_some_and(|listener| listener.drain == model::DrainOrder::Last)
}

/// Stops accepting, and lets the connections end.
fn leave(bound: &BoundListener) {
    bound.close();
    bound.generation().advance(DrainPhase::Leaving);
}

/// Waits for accept loops that still hold an address which is to be bound again.
fn wait_for_addresses(leaving: &[Arc<BoundListener>], wanted: &[model::Listener]) {
    for bound in leaving {
        if wanted.iter().any(|listener| listener.address == bound.configured) {
            wait_until(Instant::now() + CLOSE_GRACE, || bound.listening.load(Ordering::Acquire) == 0);
        }
    }
}

fn no_thread(error: std::io::Error) -> Problems {
    vec![Problem {
        message: format!("a worker cannot be started: {error}"),
        span: None,
        key: "gateway.workers".into(),
        hint: Some("raise the limits on threads and open files, or ask for fewer workers".into()),
    }]
}

fn wait_until(deadline: Instant, done: impl Fn() -> bool) {
    while !done() && Instant::now() < deadline {
        std::thread::park_timeout(ROUND);
    }
}
