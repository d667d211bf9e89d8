//! All upstreams of one snapshot.

use std::ops::Deref;
use std::sync::Arc;

use witgate_config::{Config, Problems};
use witgate_exchange::names::Named;
use witgate_exchange::replay::memory::BodyMemory;

use super::Upstream;
use crate::discovery::Discovery;

/// The upstreams of a snapshot, by name, and what they share.
#[derive(Clone)]
pub struct Upstreams {
    by_name: Named<Arc<str>, Arc<Upstream>>,
    body_memory: Arc<BodyMemory>,
}

impl Upstreams {
    /// Builds the upstreams of a configuration. Those whose settings are unchanged are taken from `previous`, with
    /// their connections and state. `discovery` is what they need in order to find endpoints.
    ///
    /// Reads their TLS files, so it must not run on the data path.
    ///
    /// # Errors
    /// The upstreams that could be built, for further checks, and everything that is wrong with the others.
    pub fn build(
        config: &Config,
        discovery: &Discovery,
        previous: Option<&Upstreams>,
    ) -> Result<Upstreams, (Upstreams, Problems)> {
        let mut problems = Problems::new();
        let mut by_name = Named::default();
        for (name, settings) in &config.upstreams {
            let before = previous.and_then(|previous| previous.get(name.as_str()));
            match Upstream::build(name, settings, config.gateway.zone.as_deref(), discovery, before) {
                Ok(upstream) => {
                    by_name.insert(upstream.name.clone(), upstream);
                }
                Err(more) => problems.extend(more),
            }
        }
        let kept = previous.map(|previous| &**previous.body_memory());
        let upstreams = Upstreams::new(by_name, BodyMemory::new(config.gateway.body_memory, kept));
        if problems.is_empty() { Ok(upstreams) } else { Err((upstreams, problems)) }
    }

    /// These upstreams, whose kept request bodies are counted in `body_memory`.
    pub fn new(by_name: Named<Arc<str>, Arc<Upstream>>, body_memory: Arc<BodyMemory>) -> Upstreams {
        Upstreams { by_name, body_memory }
    }

    /// Whether some source of endpoints has neither reported a good set nor failed so far, or its first set is not in
    /// service yet.
    pub fn await_endpoints(&self) -> bool {
        let mut discovered = self.values().filter(|upstream| upstream.config.discover.is_some());
        discovered.any(|upstream| upstream.carried.sink.is_awaited(upstream.version_in_service()))
    }

    /// The count of the request bodies that are kept. It is carried over every reload.
    pub fn body_memory(&self) -> &Arc<BodyMemory> {
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
pub trait CurrentUpstreams: Send + Sync {
    /// The upstreams that are in service now.
    fn current(&self) -> Arc<Upstreams>;
}
