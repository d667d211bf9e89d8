//! One listener, as all cores share it.
//!
//! A *bound listener* is an address: it lives for as long as some configuration listens there. A *generation*
//! holds the settings of connections (limits, TLS, HTTP versions): a swap that changes them begins a new
//! generation, and the connections of the old one drain.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use witgate_config::model;

use super::tls::Tls;

/// How far a drain has come. A phase only ever moves down this list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DrainPhase {
    /// In service.
    Serving,
    /// Each connection ends after its next response, or when it has been idle for its `keep_alive`.
    Draining,
    /// The gateway shuts down: as `Draining`, but idle connections already end after `drain_idle`.
    Leaving,
    /// The time of the drain is up: every remaining connection ends at once.
    Cut,
}

/// The settings of connections that were opened while these settings were in service.
pub struct Generation {
    /// Name of the listener.
    pub name: Arc<str>,
    /// The configuration of the listener.
    pub config: model::Listener,
    /// TLS; `None` for a cleartext listener.
    pub(crate) tls: Option<Tls>,
    phase: watch::Sender<DrainPhase>,
    /// Whether `phase` is past `Serving`. It is read for every response, so it is an atomic beside the channel,
    /// which locks.
    draining: AtomicBool,
}

impl Generation {
    /// A new generation, in service.
    pub(crate) fn new(config: model::Listener, tls: Option<Tls>) -> Arc<Self> {
        let (phase, _) = watch::channel(DrainPhase::Serving);
        Arc::new(Generation {
            name: config.name.as_str().into(),
            config,
            tls,
            phase,
            draining: AtomicBool::new(false),
        })
    }

    /// A receiver of the phase.
    pub fn phase(&self) -> watch::Receiver<DrainPhase> {
        self.phase.subscribe()
    }

    /// Whether connections should end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Moves the phase forward to `to`; never backward.
    pub(crate) fn advance(&self, to: DrainPhase) {
        self.draining.fetch_or(to > DrainPhase::Serving, Ordering::AcqRel);
        self.phase.send_if_modified(|phase| {
            let moves = to > *phase;
            *phase = (*phase).max(to);
            moves
        });
    }

    /// Whether the connections of this generation may stay when the listener's settings become `other`.
    fn suits(&self, other: &model::Listener, tls: Option<&Tls>) -> bool {
        let same_tls = match (&self.tls, tls) {
            (Some(before), Some(after)) => before.is_same(after),
            (None, None) => true,
            _ => false,
        };
        same_tls
            && self.config.name == other.name
            && self.config.protocol == other.protocol
            && self.config.proxy_protocol == other.proxy_protocol
            && self.config.tls == other.tls
            && self.config.http2 == other.http2
            && self.config.half_close == other.half_close
            && self.config.limits == other.limits
    }
}

/// One listening address, shared by all cores.
pub struct BoundListener {
    /// The address as configured; the port may be 0.
    pub configured: SocketAddr,
    /// The address it is bound to.
    pub address: SocketAddr,
    generation: ArcSwap<Generation>,
    /// What connections follow that are forwarded as they are. New settings of the listener are for new connections, so its
    /// phase moves only when the listener is closed.
    sessions: Arc<Generation>,
    closed: watch::Sender<bool>,
    /// Cores that still hold a listening socket.
    pub(crate) listening: AtomicUsize,
    open: AtomicUsize,
    /// Open connections that drain and have no request in flight.
    idle: AtomicUsize,
    by_core: Box<[AtomicUsize]>,
    accepted: AtomicUsize,
    waited: AtomicUsize,
    room: Notify,
}

impl BoundListener {
    /// A bound listener that is not listening on any core yet.
    pub(crate) fn new(
        configured: SocketAddr,
        address: SocketAddr,
        generation: Arc<Generation>,
        cores: usize,
    ) -> Arc<Self> {
        let (closed, _) = watch::channel(false);
        Arc::new(BoundListener {
            configured,
            address,
            sessions: Generation::new(generation.config.clone(), None),
            generation: ArcSwap::new(generation),
            closed,
            listening: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            idle: AtomicUsize::new(0),
            by_core: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            accepted: AtomicUsize::new(0),
            waited: AtomicUsize::new(0),
            room: Notify::new(),
        })
    }

    /// The settings for new connections.
    pub fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    /// What connections follow that are forwarded as they are.
    pub(crate) fn sessions(&self) -> &Arc<Generation> {
        &self.sessions
    }

    /// Takes over new settings. Returns the previous generation if its connections must drain.
    pub(crate) fn renew(&self, config: &model::Listener, tls: Option<Tls>) -> Option<Arc<Generation>> {
        let old = self.generation.load_full();
        if old.suits(config, tls.as_ref()) {
            return None;
        }
        self.generation.store(Generation::new(config.clone(), tls));
        self.room.notify_waiters();
        Some(old)
    }

    /// Ends the accept loops.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
    }

    /// A receiver that becomes true when the listener is closed.
    pub(crate) fn closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Counts a connection of `core`. Waits while the listener is at its limit of connections.
    pub(crate) async fn enter(self: &Arc<Self>, core: usize) -> ConnectionPermit {
        if !self.try_enter() {
            self.waited.fetch_add(1, Ordering::Relaxed);
            loop {
                let mut room = std::pin::pin!(self.room.notified());
                room.as_mut().enable();
                if self.try_enter() {
                    break;
                }
                room.await;
            }
        }
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.by_core[core].fetch_add(1, Ordering::Relaxed);
        ConnectionPermit { bound: self.clone(), core, idle: Cell::new(false) }
    }

    fn try_enter(&self) -> bool {
        let limit = self.generation.load().config.limits.connections;
        let limit = if limit == 0 { usize::MAX } else { limit };
        let enter = |open| (open < limit).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter).is_ok()
    }

    /// Whether no core accepts here any more and no connection is open.
    pub(crate) fn is_deserted(&self) -> bool {
        self.listening.load(Ordering::Acquire) == 0 && self.open() == 0
    }

    /// Whether no core accepts here any more, and no request and no tunnel is in flight. Meaningful only while the
    /// connections drain, because idle ones are counted only then.
    pub(crate) fn is_quiet(&self) -> bool {
        let idle = self.idle.load(Ordering::Acquire);
        self.listening.load(Ordering::Acquire) == 0 && self.open() <= idle
    }

    /// Open connections, over all cores.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Open connections of each core.
    pub fn open_by_core(&self) -> Vec<usize> {
        self.by_core.iter().map(|open| open.load(Ordering::Relaxed)).collect()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that had to wait because the listener was at its limit.
    pub fn waited(&self) -> usize {
        self.waited.load(Ordering::Relaxed)
    }
}

/// The permit of one open connection under its listener's limit; given back when dropped.
pub(crate) struct ConnectionPermit {
    bound: Arc<BoundListener>,
    core: usize,
    idle: Cell<bool>,
}

impl ConnectionPermit {
    /// Sets whether the connection is counted among the idle ones of its listener.
    pub(crate) fn count_idle(&self, idle: bool) {
        match (self.idle.replace(idle), idle) {
            (false, true) => drop(self.bound.idle.fetch_add(1, Ordering::AcqRel)),
            (true, false) => drop(self.bound.idle.fetch_sub(1, Ordering::AcqRel)),
            _ => {}
        }
    }

    /// What connections of its listener follow that are forwarded as they are.
    pub(crate) fn sessions(&self) -> &Generation {
        &self.bound.sessions
    }

    /// Moves the count to the core that took the connection over.
    pub(crate) fn move_to(&mut self, core: usize) {
        self.bound.by_core[self.core].fetch_sub(1, Ordering::Relaxed);
        self.bound.by_core[core].fetch_add(1, Ordering::Relaxed);
        self.core = core;
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.count_idle(false);
        self.bound.by_core[self.core].fetch_sub(1, Ordering::Relaxed);
        self.bound.open.fetch_sub(1, Ordering::AcqRel);
        self.bound.room.notify_one();
    }
}
