//! One version of everything, built by the control plane and never changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use witgate_config::{Config, Problems};

use crate::pipeline::plugin::Plugin;
use crate::pipeline::rate_limiting::counter::Counter;
use crate::router::Router;
use crate::upstream::Upstream;

/// One version of everything a request sees.
pub struct Snapshot {
    /// Counts up with every swap; 1 is the first.
    pub version: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// A router for each listener, by name.
    pub routers: HashMap<String, Router>,
    /// Upstreams by name. Carried over from the snapshot before where their configuration is equal.
    pub upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    /// Where the draws of the rate-limiting contract are counted. Carried over every reload.
    pub counter: Arc<dyn Counter>,
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Plugin>>,
}

impl Snapshot {
    /// Builds the next version. What must survive (pools, breakers, counters) is taken from `previous` by equality.
    ///
    /// # Errors
    /// Everything that only the data path can check: kinds of filters and balancers and their settings, TLS files,
    /// regular expressions.
    pub fn build(
        _config: Arc<Config>,
        _plugins: BTreeMap<String, Arc<dyn Plugin>>,
        _previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        todo!("snapshot")
    }
}
