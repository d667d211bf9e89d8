//! The contract `observe`: what became of finished requests.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use http::HeaderName;

use crate::log_entry::LogEntry;

/// A binding that observes finished requests.
pub trait Observer: Send + Sync {
    /// Queues a finished request for it. Called on the core that served the request: never waits. If the queue is full, the
    /// request is dropped and counted.
    fn observe(&self, entry: &Arc<LogEntry>);

    /// The response headers that it sees.
    fn response_headers(&self) -> &[HeaderName] {
        &[]
    }
}

/// Several bindings that observe.
#[derive(Clone, Default)]
pub struct Observers(Arc<[Arc<dyn Observer>]>);

impl Deref for Observers {
    type Target = [Arc<dyn Observer>];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl FromIterator<Arc<dyn Observer>> for Observers {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Observer>>>(observers: I) -> Self {
        Observers(observers.into_iter().collect())
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} observers", self.0.len())
    }
}
