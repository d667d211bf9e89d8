//! The data plane as the control plane sees it: start, swap, drain.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use witgate_config::{Problem, Problems, model};

use super::core::{self, CoreHandle, Order};
use super::door::{Door, Generation, Phase};
use super::inherited::Inherited;
use super::retire::Retire;
use super::socket;
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// How often a drain looks whether it is done.
const DRAIN_ROUND: Duration = Duration::from_millis(5);

/// Time that connections have to end once they are cut.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// What the cores share.
pub(crate) struct Plane {
    /// The snapshot in service.
    pub(crate) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Where requests are recorded.
    pub(crate) telemetry: Arc<Telemetry>,
    /// All cores.
    pub(crate) cores: Vec<CoreHandle>,
    /// Requests and tunnels that were ended before they were done, because a drain ran out of time.
    pub(crate) cut: AtomicUsize,
    /// Accepts that failed for want of descriptors or memory.
    pub(crate) accept_exhausted: AtomicUsize,
}

impl Plane {
    /// Something the operator should know that belongs to no request.
    pub(crate) fn report(&self, what: &str) {
        eprintln!("witgate: {what}");
    }
}

/// The running data plane: one thread and runtime a core.
pub struct DataPlane {
    plane: Arc<Plane>,
    doors: Mutex<Vec<Arc<Door>>>,
    inherited: Mutex<Inherited>,
    retire: Retire,
    threads: Vec<JoinHandle<()>>,
}

/// One listener, for the admin listener to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorStatus {
    /// Name of the listener.
    pub name: String,
    /// The address it really has.
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
        let (cores, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| CoreHandle::new()).unzip();
        let plane = Arc::new(Plane {
            snapshot: Arc::new(ArcSwap::new(snapshot.clone())),
            telemetry,
            cores,
            cut: AtomicUsize::new(0),
            accept_exhausted: AtomicUsize::new(0),
        });
        let mut inherited = Inherited::from_environment();
        let opened = open_all(&snapshot.config.listeners, &[], &mut inherited, workers)?;
        let mut threads = Vec::with_capacity(workers);
        for (index, orders) in receivers.into_iter().enumerate() {
            threads.push(core::start(index, plane.clone(), orders).map_err(no_thread)?);
        }
        let data_plane = DataPlane {
            plane,
            doors: Mutex::default(),
            inherited: Mutex::new(inherited),
            retire: Retire::start().map_err(no_thread)?,
            threads,
        };
        let doors = opened.into_iter().map(|opening| data_plane.listen(opening)).collect();
        *data_plane.doors() = doors;
        Ok(data_plane)
    }

    /// The addresses the listeners really have, by name (for port 0).
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let doors = self.doors();
        doors.iter().map(|door| (door.generation().name.to_string(), door.address)).collect()
    }

    /// Every listener with its counters.
    pub fn status(&self) -> Vec<DoorStatus> {
        let status = |door: &Arc<Door>| DoorStatus {
            name: door.generation().name.to_string(),
            address: door.address,
            open: door.open_by_core(),
            accepted: door.accepted(),
            waited: door.waited(),
        };
        self.doors().iter().map(status).collect()
    }

    /// Puts a new snapshot in service in one step: opens new listeners, drains those that are gone or whose
    /// connection settings changed. A failure leaves everything as it was.
    ///
    /// # Errors
    /// As [`DataPlane::start`].
    pub fn swap(&self, snapshot: Arc<Snapshot>) -> Result<(), Problems> {
        let mut doors = self.doors();
        let config = snapshot.config.clone();
        let opened = {
            let mut inherited = self.inherited.lock().unwrap_or_else(PoisonError::into_inner);
            open_all(&config.listeners, &doors, &mut inherited, self.plane.cores.len())?
        };
        self.retire.snapshot(self.plane.snapshot.swap(snapshot));
        let deadline = Instant::now() + config.gateway.drain_timeout;
        let kept = self.settle(std::mem::take(&mut *doors), &config.listeners, deadline);
        *doors = kept;
        doors.extend(opened.into_iter().map(|opening| self.listen(opening)));
        Ok(())
    }

    /// Renews the doors that stay and closes those that go.
    fn settle(&self, doors: Vec<Arc<Door>>, wanted: &[model::Listener], deadline: Instant) -> Vec<Arc<Door>> {
        let mut kept = Vec::with_capacity(doors.len());
        for door in doors {
            match wanted.iter().find(|listener| serves(&door, listener)) {
                Some(listener) => {
                    if let Some(old) = door.renew(listener) {
                        self.retire.generation(&old, deadline);
                    }
                    kept.push(door);
                }
                None => {
                    door.close();
                    self.retire.generation(&door.generation(), deadline);
                }
            }
        }
        kept
    }

    /// The snapshot in service.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.plane.snapshot.load_full()
    }

    /// Closes the listeners, lets what is in flight end within `timeout`, then ends it. Blocks until done.
    /// Returns how many requests had to be cut.
    pub fn drain(self, timeout: Duration) -> usize {
        let doors = std::mem::take(&mut *self.doors());
        for door in &doors {
            door.close();
            door.generation().advance(Phase::Draining);
        }
        let done =
            || doors.iter().all(|door| door.open() == 0 && door.listening.load(Ordering::Acquire) == 0);
        wait_until(Instant::now() + timeout, done);
        for door in &doors {
            door.generation().advance(Phase::Cut);
        }
        wait_until(Instant::now() + CUT_GRACE, done);
        for core in &self.plane.cores {
            // A core that no longer listens has ended already.
            let _ = core.orders.send(Order::Stop);
        }
        for thread in self.threads {
            // A core that panicked was reported when it did.
            let _ = thread.join();
        }
        self.plane.cut.load(Ordering::Acquire)
    }

    fn listen(&self, opening: Opening) -> Arc<Door> {
        let Opening { listener, address, sockets } = opening;
        let generation = Generation::new(listener.clone());
        let door = Door::new(listener.address, address, generation, self.plane.cores.len());
        door.listening.store(sockets.len(), Ordering::Release);
        for (core, socket) in self.plane.cores.iter().zip(sockets) {
            // A core ends only with the plane.
            let _ = core.orders.send(Order::Listen(door.clone(), socket));
        }
        door
    }

    fn doors(&self) -> MutexGuard<'_, Vec<Arc<Door>>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A listener whose sockets are bound and not yet served.
struct Opening<'a> {
    listener: &'a model::Listener,
    address: SocketAddr,
    sockets: Vec<TcpListener>,
}

/// Binds what is wanted and not there yet; all or nothing.
fn open_all<'a>(
    wanted: &'a [model::Listener],
    present: &[Arc<Door>],
    inherited: &mut Inherited,
    cores: usize,
) -> Result<Vec<Opening<'a>>, Problems> {
    let mut opened = Vec::new();
    let mut problems = Problems::new();
    for (index, listener) in wanted.iter().enumerate() {
        if present.iter().any(|door| serves(door, listener)) {
            continue;
        }
        let bound = match inherited.take(listener.address, cores) {
            Some(taken) => taken,
            None => socket::bind(listener.address, cores),
        };
        match bound {
            Ok((address, sockets)) => opened.push(Opening { listener, address, sockets }),
            Err(error) => problems.push(cannot_listen(index, listener, &error)),
        }
    }
    if problems.is_empty() { Ok(opened) } else { Err(problems) }
}

/// Whether a door is where a listener wants to be. Port 0 names no place, so there the listener's name decides.
fn serves(door: &Door, listener: &model::Listener) -> bool {
    door.configured == listener.address
        && (listener.address.port() != 0 || *door.generation().name == *listener.name)
}

fn cannot_listen(index: usize, listener: &model::Listener, error: &std::io::Error) -> Problem {
    Problem {
        message: format!("listener `{}` cannot listen on {}: {error}", listener.name, listener.address),
        span: None,
        key: format!("listeners[{index}].address"),
        hint: Some("free the address, or choose another".into()),
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
        std::thread::park_timeout(DRAIN_ROUND);
    }
}
