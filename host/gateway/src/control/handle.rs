//! The way to the control plane: what it can be asked for, and what it publishes.
//!
//! Nothing that is asked for waits behind a load. Reloads do not queue: one that is asked for while another waits joins it
//! ([`Wanted`]). Draining is a flag that whoever asks for it sets itself, so that readiness fails at that moment.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use witgate_config::model::LogLevel;
use witgate_proxy::telemetry::Telemetry;
use witgate_proxy::upstream::{EndpointChange, EndpointStatus};

use super::load::Finished;
use super::put_back::{PutBack, Redrafted};
use super::status::{self, Change, Compilation, GatewayPhase, QuarantineStatus, Status};
use super::wanted::Wanted;

/// Requests of people ([`Request`]) that may be under way at once. Each is a rare event; more is somebody hammering.
const REQUESTS: usize = 64;

/// Messages that may wait for the control thread. It is never full but for a fault: requests and what comes of them are at
/// most so many each, there is one load at a time, and each version of a plugin asks once to be taken back.
pub(super) const MESSAGES: usize = 16 * REQUESTS;

const BUSY: &str = "the control plane is busy; try again";
const DRAINING: &str = "the gateway is draining: nothing is loaded any more";
const ENDING: &str = "the gateway is shutting down";

/// Something the control plane is asked for by a person.
pub(crate) enum Request {
    /// Put the previous version of a binding's plugin in service.
    Rollback {
        /// Name of the binding.
        binding: String,
        /// Who wants to know what became of it.
        reply: oneshot::Sender<Change>,
    },
    /// Change the weight of an endpoint or drain it.
    Adjust {
        /// Name of the upstream.
        upstream: String,
        /// The endpoint, `host:port`.
        address: String,
        /// What is to change.
        change: EndpointChange,
        /// Who wants to know how it stands then, or why it does not exist.
        reply: oneshot::Sender<Result<EndpointStatus, String>>,
    },
}

/// What the control thread takes from its channel, one after the other.
pub(super) enum Message {
    /// A reload waits, or the gateway is to drain: what was said beside the channel is to be looked at.
    Look,
    /// A person asks for something.
    Request(Request, PendingGuard),
    /// The previous version of a binding's plugin is to be put back, because too many calls of this version failed. If
    /// another is in service by now, nothing is done.
    Revert {
        /// Name of the binding.
        binding: String,
        /// As [`Binding::version`](witgate_proxy::contracts::Binding::version) tells it.
        version: u64,
    },
    /// A load has ended.
    Loaded(Box<Finished>),
    /// A previous version was made ready for the settings of now.
    Redrafted(Box<(PutBack, Redrafted)>),
}

/// One of the [`REQUESTS`] that may be under way; given back when dropped.
pub(super) struct PendingGuard(Arc<Shared>);

impl Drop for PendingGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What all handles share with the control thread beside the channel.
#[derive(Default)]
struct Shared {
    /// Why the gateway drains; none while it does not. Set once.
    drain: OnceLock<String>,
    /// Whether requests may be served by now. Locked while the process ends because they may not.
    serves: Mutex<bool>,
    /// The reload that waits for the load under way, if there is one.
    wanted: Mutex<Option<Wanted>>,
    /// Requests under way.
    requests: AtomicUsize,
    status: ArcSwap<Status>,
    /// What is being compiled.
    compilation: Mutex<Option<Compilation>>,
}

/// Sends requests to the control plane and reads what it publishes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    messages: SyncSender<Message>,
    shared: Arc<Shared>,
    telemetry: Arc<Telemetry>,
}

impl Handle {
    /// A handle whose requests arrive at the other end of `messages`.
    pub(super) fn new(messages: SyncSender<Message>, telemetry: Arc<Telemetry>) -> Self {
        Handle { messages, shared: Arc::default(), telemetry }
    }

    /// Has everything built anew from the files and put in service if it is good. With `force`, versions that were rolled
    /// back or reverted are tried again. The load that answers begins after this call. Never waits, and is refused only
    /// while the gateway drains.
    ///
    /// # Errors
    /// The gateway is draining; in words.
    pub(crate) fn reload(
        &self,
        reason: String,
        force: bool,
        reply: Option<oneshot::Sender<Change>>,
    ) -> Result<(), &'static str> {
        let mut wanted = self.wanted();
        // Asked under the lock: once draining has begun, the control thread empties the place for the last time.
        if self.is_draining() {
            return Err(DRAINING);
        }
        let alone = wanted.is_none();
        wanted.get_or_insert_default().join(reason, force, reply);
        drop(wanted);
        if alone { self.look() } else { Ok(()) }
    }

    /// Hands over what a person asks for, without waiting.
    ///
    /// # Errors
    /// Too much is under way, or the gateway ends; the text says which.
    pub(crate) fn ask(&self, request: Request) -> Result<(), &'static str> {
        let before = self.shared.requests.fetch_add(1, Ordering::AcqRel);
        let pending = PendingGuard(Arc::clone(&self.shared));
        if before >= REQUESTS {
            return Err(BUSY);
        }
        self.send(Message::Request(request, pending))
    }

    /// Asks for a version to be taken back, from the data path: never waits.
    pub(crate) fn revert(&self, binding: String, version: u64) {
        let warning = format!("{binding} is not reverted");
        if let Err(reason) = self.send(Message::Revert { binding, version }) {
            self.warn(format!("{warning}: {reason}"));
        }
    }

    /// Has the gateway finish what is in flight and end. From now on it is not ready.
    pub(crate) fn drain(&self, reason: &str) {
        if self.shared.drain.set(reason.to_owned()).is_ok() {
            // Where the control thread is gone, the process is about to end by itself.
            let _ = self.look();
        }
    }

    /// From now on requests may be served, and whatever ends the gateway drains it. Does not return if the process is
    /// about to end.
    pub(super) fn begin_service(&self) {
        *self.serves() = true;
    }

    /// Ends the process by `end`, if no request can have been served yet; none can be while it ends.
    pub(crate) fn end_before_service(&self, end: impl FnOnce()) {
        let serves = self.serves();
        if !*serves {
            end();
        }
    }

    fn serves(&self) -> MutexGuard<'_, bool> {
        self.shared.serves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the gateway is to drain, or does.
    pub(crate) fn is_draining(&self) -> bool {
        self.shared.drain.get().is_some()
    }

    /// Why the gateway is to drain.
    pub(super) fn drain_reason(&self) -> Option<&str> {
        self.shared.drain.get().map(String::as_str)
    }

    /// The state as last published, with what has been asked for since, what is being compiled, and which bindings are in
    /// quarantine now.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status::clone(&self.shared.status.load());
        if let Some(busy) = &mut status.busy {
            busy.waiting = self.wanted().as_ref().map_or(0, Wanted::requests);
        }
        if self.is_draining() && status.phase == GatewayPhase::Running {
            status.phase = GatewayPhase::Draining;
        }
        status.compiling = self.compilation().clone();
        let (mut quarantined, now) = (self.telemetry.quarantined(), status::now());
        for binding in &mut status.bindings {
            let quarantine = quarantined.remove(&binding.binding);
            binding.quarantine = quarantine.map(|quarantine| QuarantineStatus::of(quarantine, now));
        }
        status
    }

    /// Tells what is being compiled from now on. It is told beside the published state, because the thread that compiles
    /// publishes nothing.
    pub(crate) fn compiles(&self, compilation: Option<Compilation>) {
        *self.compilation() = compilation;
    }

    fn compilation(&self) -> MutexGuard<'_, Option<Compilation>> {
        self.shared.compilation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether traffic should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_draining() && self.shared.status.load().phase == GatewayPhase::Running
    }

    /// Where things are counted and logged.
    pub(crate) fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Writes a warning to the gateway's log.
    pub(crate) fn warn(&self, message: String) {
        self.telemetry.log(LogLevel::Warn, message, &[]);
    }

    /// Publishes a new state.
    pub(super) fn publish(&self, status: Status) {
        self.shared.status.store(Arc::new(status));
    }

    /// The reload that waits.
    pub(super) fn wanted(&self) -> MutexGuard<'_, Option<Wanted>> {
        self.shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the control thread look at what was said beside the channel, as it does before it takes each message: where the
    /// channel is full, it will do so anyway.
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

    /// Hands the control thread what was done for it; waits for room, so never on the data path. False: it has ended.
    pub(super) fn hand_over(&self, message: Message) -> bool {
        self.messages.send(message).is_ok()
    }
}
