//! The contract `observe`: what became of finished requests.

use std::sync::Arc;

use crate::log_entry::LogEntry;

/// A binding that observes finished requests.
pub trait Observer: Send + Sync {
    /// Queues a finished request for it. Called on the core that served the request: never waits. If the queue is full, the
    /// request is dropped and counted.
    fn observe(&self, entry: &Arc<LogEntry>);
}
