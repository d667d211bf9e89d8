//! The interface of the control plane: requests to it, and the state that it publishes.
//!
//! No request waits behind a load. Reloads do not queue: a request that comes while another waits joins it
//! ([`Wanted`]). Draining is a flag that the requesting thread sets itself, so that readiness fails at that
//! moment.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::oneshot;
use witgate_cache::Cache;
use witgate_config::model::LogLevel;
use witgate_exchange::contracts::Quarantined;
use witgate_proxy::snapshot::Snapshot;
use witgate_telemetry::Telemetry;
use witgate_upstream::{EndpointChange, EndpointStatus, UpstreamStatus};

use super::broker_status::MessageStatus;
use super::cache_metrics::CacheMetrics;
use super::load::Finished;
use super::put_back::{PutBack, Redrafted};
use super::state_metrics::StateMetrics;
use super::states::States;
use super::status::{
    self, Change, Compilation, GatewayPhase, QuarantineStatus, SourceStatus, StateStatus, Status,
};
use super::wanted::Wanted;

/// The most requests of operators ([`Request`]) in progress. Each is a rare event; more would be abuse.
const REQUESTS: usize = 64;

/// Capacity of the control thread's channel. It is never full in regular operation: there are at most [`REQUESTS`]
/// requests and as many results, there is one load at a time, and each version of a plugin requests its revert
/// once.
pub(super) const MESSAGES: usize = 16 * REQUESTS;

const BUSY: &str = "the control plane is busy; try again";
const DRAINING: &str = "the gateway is draining and does not reload any more";
const ENDING: &str = "the gateway is shutting down";

/// A request of an operator.
pub(crate) enum Request {
    /// Put the previous version of a binding's plugin back in service.
    Rollback {
        /// Name of the binding.
        binding: String,
        /// Where the result is sent.
        reply: oneshot::Sender<Change>,
    },
    /// Change the weight of an endpoint or drain it.
    Adjust {
        /// Name of the upstream.
        upstream: String,
        /// The endpoint, `host:port`.
        address: String,
        /// The change.
        change: EndpointChange,
        /// Where the state of the endpoint is sent, or why the endpoint does not exist.
        reply: oneshot::Sender<Result<EndpointStatus, String>>,
    },
}

/// A message to the control thread, which handles them one after the other.
pub(super) enum Message {
    /// A reload waits, or the gateway is to drain: the shared state must be checked.
    Look,
    /// An operator's request.
    Request(Request, PendingGuard),
    /// Too many calls of this version failed, so the previous version of the binding's plugin is to be put back.
    /// Ignored if another version is in service by now.
    Revert {
        /// Name of the binding.
        binding: String,
        /// The version, as [`Binding::version`](witgate_exchange::contracts::Binding::version) returns it.
        version: u64,
    },
    /// A load has ended.
    Loaded(Box<Finished>),
    /// A previous version was prepared for the current settings.
    Redrafted(Box<(PutBack, Redrafted)>),
}

/// Guard: one of [`REQUESTS`] is in progress until this is dropped.
pub(super) struct PendingGuard(Arc<Shared>);

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What all handles share with the control thread besides the channel.
#[derive(Default)]
struct Shared {
    /// Why the gateway drains; unset while it does not. Set once.
    drain: OnceLock<String>,
    /// Whether requests may be served. Locked while the process ends before that.
    serves: Mutex<bool>,
    /// The reload that waits for the load in progress, if there is one.
    wanted: Mutex<Option<Wanted>>,
    /// The number of requests in progress.
    requests: AtomicUsize,
    status: ArcSwap<Status>,
    /// The snapshot in service; empty before the first.
    snapshot: ArcSwapOption<Snapshot>,
    /// Whether each source of endpoints has reported a set or failed since the start.
    heard_of_endpoints: AtomicBool,
    /// What is being compiled.
    compilation: Mutex<Option<Compilation>>,
    /// The states in service; empty before the first.
    states: Arc<ArcSwapOption<States>>,
    /// The cache in service; empty if no route has one.
    cache: Arc<ArcSwapOption<Cache>>,
}

/// Sends requests to the control plane and reads the published state. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
}

impl Handle {
    /// A handle that sends to `messages`.
    pub(super) fn new(messages: SyncSender<Message>, telemetry: Arc<Telemetry>) -> Self {
        Handle { messages, shared: Arc::default(), telemetry }
    }

    /// Requests a reload: everything is built anew from the files, and put in service if it is valid. With
    /// `force`, versions that were rolled back or reverted are tried again. The load begins after this call. Never
    /// waits, and fails only while the gateway drains.
    ///
    /// # Errors
    /// The message that the gateway is draining.
    pub(crate) fn reload(
        &self,
        reason: String,
        force: bool,
        reply: Option<oneshot::Sender<Change>>,
    ) -> Result<(), &'static str> {
        let mut wanted = self.wanted();
        // Checked under the lock: once draining has begun, the control thread takes the waiting reload for the
        // last time.
        if self.is_draining() {
            return Err(DRAINING);
        }
        let alone = wanted.is_none();
        wanted.get_or_insert_default().join(reason, force, reply);
        drop(wanted);
        if alone { self.look() } else { Ok(()) }
    }

    /// Sends an operator's request, without waiting.
    ///
    /// # Errors
    /// Too many requests are in progress, or the gateway is ending; the text says which.
    pub(crate) fn ask(&self, request: Request) -> Result<(), &'static str> {
        let before = self.shared.requests.fetch_add(1, Ordering::AcqRel);
        let pending = PendingGuard(Arc::clone(&self.shared));
        if before >= REQUESTS {
            return Err(BUSY);
        }
        self.send(Message::Request(request, pending))
    }

    /// Requests the revert of a version. Called on the data path: never waits.
    pub(crate) fn revert(&self, binding: String, version: u64) {
        let warning = format!("{binding} is not reverted");
        if let Err(reason) = self.send(Message::Revert { binding, version }) {
            self.warn(format!("{warning}: {reason}"));
        }
    }

    /// Has the gateway finish its requests in flight and end. It is not ready from now on.
    pub(crate) fn drain(&self, reason: &str) {
        if self.shared.drain.set(reason.to_owned()).is_ok() {
            // If the control thread is gone, the process is about to end anyway.
            let _ = self.look();
        }
    }

    /// Marks that requests may be served: from now on whatever ends the gateway drains it. Does not return if the
    /// process is about to end.
    pub(super) fn begin_service(&self) {
        *self.serves() = true;
    }

    /// Ends the process by `end`, unless a request may already have been served; none can be while it ends.
    pub(crate) fn end_before_service(&self, end: impl FnOnce()) {
        let serves = self.serves();
        if !*serves {
            end();
        }
    }

    fn serves(&self) -> MutexGuard<'_, bool> {
        self.shared.serves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway drains or is about to.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.drain.get().is_some()
    }

    /// Why the gateway is to drain.
    pub(super) fn drain_reason(&self) -> Option<&str> {
        self.shared.drain.get().map(String::as_str)
    }

    /// The state as last published, with what was requested since, the compilation in progress, and the bindings
    /// in quarantine.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status::clone(&self.shared.status.load());
        if let Some(busy) = &mut status.busy {
            busy.waiting = self.wanted().as_ref().map_or(0, Wanted::requests);
        }
        if self.is_draining() && status.phase == GatewayPhase::Running {
            status.phase = GatewayPhase::Draining;
        }
        status.compiling = self.compilation().clone();
        let (mut quarantined, now) = (self.quarantined(), status::now());
        for binding in &mut status.bindings {
            let quarantine = quarantined.remove(&binding.binding);
            binding.quarantine = quarantine.map(|quarantine| QuarantineStatus::of(quarantine, now));
        }
        let discovered = self.upstreams().into_iter();
        status.sources = discovered
            .filter_map(|upstream| Some(SourceStatus { upstream: upstream.name, source: upstream.source? }))
            .collect();
        if let Some(states) = self.shared.states.load_full() {
            status.states = states.health().map(StateStatus::of).collect();
        }
        status
    }

    /// Sets the compilation in progress. It is kept apart from the published state, because the compiling thread
    /// publishes nothing.
    pub(crate) fn compiles(&self, compilation: Option<Compilation>) {
        *self.compilation() = compilation;
    }

    fn compilation(&self) -> MutexGuard<'_, Option<Compilation>> {
        self.shared.compilation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway should get traffic. After the start, that waits until each source of endpoints has reported a set or
    /// failed.
    pub(crate) fn is_ready(&self) -> bool {
        let runs = !self.is_draining() && self.shared.status.load().phase == GatewayPhase::Running;
        runs && self.has_endpoints()
    }

    /// Whether each source of endpoints has reported a set or failed since the start. An upstream that a reload adds does
    /// not change the answer.
    fn has_endpoints(&self) -> bool {
        let heard = &self.shared.heard_of_endpoints;
        let snapshot = self.shared.snapshot.load();
        if !heard.load(Ordering::Relaxed)
            && snapshot.as_ref().is_some_and(|snapshot| !snapshot.upstreams.await_endpoints())
        {
            heard.store(true, Ordering::Relaxed);
        }
        heard.load(Ordering::Relaxed)
    }

    /// Logs, metrics and the status follow a snapshot that was put in service.
    pub(super) fn follow(&self, snapshot: Arc<Snapshot>) {
        self.telemetry.follow(snapshot.clone());
        self.shared.cache.store(snapshot.cache.clone());
        self.shared.snapshot.store(Some(snapshot));
    }

    /// The snapshot in service; `None` before the first.
    pub(super) fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.shared.snapshot.load_full()
    }

    /// The cache of the snapshot in service; `None`: no route has one.
    pub(crate) fn cache(&self) -> Option<Arc<Cache>> {
        self.shared.cache.load_full()
    }

    /// The state of the upstreams of the snapshot in service, by name.
    pub(crate) fn upstreams(&self) -> Vec<UpstreamStatus> {
        self.shared
            .snapshot
            .load()
            .as_ref()
            .map(|snapshot| witgate_upstream::status(&snapshot.upstreams))
            .unwrap_or_default()
    }

    /// The state of the brokers and consumers of the snapshot in service.
    pub(crate) fn messages(&self) -> MessageStatus {
        self.shared.snapshot.load().as_ref().map(|snapshot| MessageStatus::of(snapshot)).unwrap_or_default()
    }

    fn quarantined(&self) -> BTreeMap<String, Quarantined> {
        self.shared.snapshot.load().as_ref().map(|snapshot| snapshot.quarantined()).unwrap_or_default()
    }

    /// The gateway's telemetry.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Writes a warning to the gateway's log.
    pub(crate) fn warn(&self, message: String) {
        self.telemetry.log(LogLevel::Warn, message, &[]);
    }

    /// Shows the health of these states from now on.
    pub(super) fn follow_states(&self, states: States) {
        self.shared.states.store(Some(Arc::new(states)));
    }

    /// The collector of the metrics of states.
    pub(super) fn collector_of_cache(&self) -> Box<CacheMetrics> {
        Box::new(CacheMetrics(Arc::clone(&self.shared.cache)))
    }

    /// Collects the metrics of the states in service.
    pub(super) fn collector_of_states(&self) -> Box<StateMetrics> {
        Box::new(StateMetrics(Arc::clone(&self.shared.states)))
    }

    /// Publishes a new state.
    pub(super) fn publish(&self, status: Status) {
        self.shared.status.store(Arc::new(status));
    }

    /// The waiting reload.
    pub(super) fn wanted(&self) -> MutexGuard<'_, Option<Wanted>> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the control thread to check the shared state, which it also does before each message: if the channel
    /// is full, it will do so anyway.
    fn look(&self) -> Result<(), &'static str> {
        match self.messages.try_send(Message::Look) {
            Ok(()) | Err(TrySendError::Full(_)) => Ok(()),
            Err(TrySendError::Disconnected(_)) => Err(ENDING),
        }
    }

    fn send(&self, message: Message) -> Result<(), &'static str> {
        self.messages.try_send(message).map_err(|error| match error {
            TrySendError::Full(_) => BUSY,
            TrySendError::Disconnected(_) => ENDING,
        })
    }

    /// Sends the control thread the result of another thread. May wait for room, so it must not be called on the
    /// data path. False: the control thread has ended.
    pub(super) fn hand_over(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }
}
