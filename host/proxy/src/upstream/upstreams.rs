//! All upstreams of one snapshot.

use std::ops::Deref;
use std::sync::Arc;

use witgate_exchange::names::Named;
use witgate_exchange::replay::memory::BodyMemory;

use super::Upstream;

/// The upstreams of a snapshot, by name, and what they share.
#[derive(Clone)]
pub struct Upstreams {
    by_name: Named<Arc<str>, Arc<Upstream>>,
    body_memory: Arc<BodyMemory>,
}

impl Upstreams {
    /// These upstreams, whose kept request bodies are counted in `body_memory`.
    pub(crate) fn new(by_name: Named<Arc<str>, Arc<Upstream>>, body_memory: Arc<BodyMemory>) -> Upstreams {
        Upstreams { by_name, body_memory }
    }

    /// Whether some source of endpoints has neither reported a good set nor failed so far.
    pub fn await_endpoints(&self) -> bool {
        let mut discovered = self.values().filter(|upstream| upstream.config.discover.is_some());
        discovered.any(|upstream| upstream.carried.sink.is_awaited())
    }

    /// The count of the request bodies that are kept. It is carried over every reload.
    pub(crate) fn body_memory(&self) -> &Arc<BodyMemory> {
        &self.body_memory
    }
}

impl Deref for Upstreams {
    type Target = Named<Arc<str>, Arc<Upstream>>;

    fn deref(&self) -> &Self::Target {
        &self.by_name
    }
}

/// Where the upstreams of the snapshot in service are found.
pub(crate) trait CurrentUpstreams: Send + Sync {
    /// The upstreams that are in service now.
    fn current(&self) -> Arc<Upstreams>;
}
