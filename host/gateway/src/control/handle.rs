//! The way to the control plane: requests by a channel, and what it publishes.

use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::oneshot;
use witgate_config::model::LogLevel;
use witgate_proxy::telemetry::Telemetry;
use witgate_proxy::upstream::{EndpointChange, EndpointStatus};

use super::status::{self, Change, Compilation, Phase, QuarantineStatus, Status};

/// Requests that may wait for the control plane. Each is a rare event; more than this is somebody hammering.
pub(crate) const QUEUE: usize = 64;

/// Something the control plane is asked to do.
pub(crate) enum Request {
    /// Build everything anew from the files and put it in service if it is good.
    Reload {
        /// What asked for it.
        reason: String,
        /// Whether versions that were rolled back or reverted are tried again.
        force: bool,
        /// Who wants to know what became of it.
        reply: Option<oneshot::Sender<Change>>,
    },
    /// Put the previous version of a binding's plugin in service, by hand.
    Rollback {
        /// Name of the binding.
        binding: String,
        /// Who wants to know what became of it.
        reply: oneshot::Sender<Change>,
    },
    /// Put the previous version of a binding's plugin in service, because too many first calls of the new one failed.
    Revert {
        /// Name of the binding.
        binding: String,
        /// The version that failed, as [`Plugin::version`](witgate_proxy::pipeline::plugin::Plugin::version) tells it: if
        /// another is in service by now, nothing is done.
        version: u64,
    },
    /// Change the weight of an endpoint or drain it, by hand.
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
    /// Finish what is in flight and end.
    Drain {
        /// What asked for it.
        reason: String,
    },
}

/// Sends requests to the control plane and reads what it publishes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    requests: SyncSender<Request>,
    status: Arc<ArcSwap<Status>>,
    compilation: Arc<Mutex<Option<Compilation>>>,
    telemetry: Arc<Telemetry>,
}

impl Handle {
    /// A handle whose requests arrive at the other end of `requests`.
    pub(crate) fn new(requests: SyncSender<Request>, telemetry: Arc<Telemetry>) -> Self {
        Handle { requests, status: Arc::default(), compilation: Arc::default(), telemetry }
    }

    /// Hands a request over without waiting.
    ///
    /// # Errors
    /// The control plane has too much to do or is gone; the text says which.
    pub(crate) fn send(&self, request: Request) -> Result<(), &'static str> {
        self.requests.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => "the control plane is busy; try again",
            TrySendError::Disconnected(_) => "the gateway is shutting down",
        })
    }

    /// The state as last published, with what is being compiled and which bindings are in quarantine now.
    pub(crate) fn status(&self) -> Status {
        let mut status = Status::clone(&self.status.load());
        status.compiling = self.compilation.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (mut quarantined, now) = (self.telemetry.quarantined(), status::now());
        for binding in &mut status.bindings {
            let quarantine = quarantined.remove(&binding.binding);
            binding.quarantine = quarantine.map(|quarantine| QuarantineStatus::of(quarantine, now));
        }
        status
    }

    /// Tells what is being compiled from now on. It is told beside the state, because who compiles publishes nothing
    /// until that is done.
    pub(crate) fn compiles(&self, compilation: Option<Compilation>) {
        *self.compilation.lock().unwrap_or_else(PoisonError::into_inner) = compilation;
    }

    /// Whether traffic should be sent here.
    pub(crate) fn is_ready(&self) -> bool {
        self.status.load().phase == Phase::Running
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
    pub(crate) fn publish(&self, status: Status) {
        self.status.store(Arc::new(status));
    }
}
