//! What happened in an exchange, in order.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// One thing that happened.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "snake_case")]
pub(super) enum Event {
    /// The plugin was called.
    Call {
        /// The phase, as in metrics and logs.
        phase: &'static str,
        /// What it decided, or why it has not.
        decision: Result<Value, String>,
        /// How long the call took, with its waits.
        microseconds: f64,
    },
    /// The gateway refused what the plugin had decided.
    Refused {
        /// Why.
        reason: String,
    },
    /// A request left the gateway.
    Sent(Sent),
    /// A response left the gateway, for the client.
    Answered {
        /// Status.
        status: u16,
        /// `name: value` of each header.
        headers: Vec<String>,
        /// The body as text.
        body: String,
        /// Whether the body ended as it should.
        complete: bool,
    },
}

/// A request that left the gateway.
#[derive(Serialize, Clone, Debug)]
pub(super) struct Sent {
    /// Name of the upstream.
    pub(super) upstream: String,
    /// `GET /path`.
    pub(super) line: String,
    /// `name: value` of each header.
    pub(super) headers: Vec<String>,
    /// The body as text.
    pub(super) body: String,
}

/// The events so far.
pub(super) struct Journal {
    events: Mutex<Vec<Event>>,
    count: watch::Sender<usize>,
}

impl Journal {
    /// A journal without events.
    pub(super) fn new() -> Journal {
        Journal { events: Mutex::default(), count: watch::Sender::new(0) }
    }

    /// Adds an event.
    pub(super) fn note(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
        self.count.send_modify(|count| *count += 1);
    }

    /// The number of events.
    pub(super) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// Waits until there are more events than this, at most for a time.
    pub(super) async fn more_than(&self, known: usize, time: Duration) {
        let mut count = self.count.subscribe();
        // If nothing happens, the plugin is not interested in what was sent.
        let _ = tokio::time::timeout(time, count.wait_for(|count| *count > known)).await;
    }

    /// All events so far.
    pub(super) fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
