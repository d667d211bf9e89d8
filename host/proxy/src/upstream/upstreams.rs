//! All upstreams of one snapshot.

use std::ops::Deref;
use std::sync::Arc;

use super::Upstream;
use crate::names::Named;
use crate::replay::memory::BodyMemory;

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
