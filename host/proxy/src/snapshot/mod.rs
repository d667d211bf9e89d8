//! One immutable version of configuration and plugins, built by the control plane.

mod contradictions;
mod in_service;
mod pitfalls;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use witgate_config::model::IdentitySource;
use witgate_config::{Config, Problems};
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::{Binding, Quarantined};
use witgate_exchange::names::Named;
use witgate_exchange::replay::memory::BodyMemory;

use crate::router::Router;
use crate::state::memory::MemoryCounter;
use crate::upstream::discovery::Discovery;
use crate::upstream::{Upstream, Upstreams};

/// Everything that a request uses, in one version.
pub struct Snapshot {
    /// Increases with every swap; the first is 1.
    pub version: u64,
    /// The configuration that it was built from.
    pub config: Arc<Config>,
    /// Headers that tell upstreams about the caller's identity, and what each contains.
    pub identity_headers: Vec<(HeaderName, IdentitySource)>,
    /// A router for each listener, by name.
    pub routers: Named<String, Router>,
    /// Upstreams by name. Those whose configuration is unchanged are carried over from the previous snapshot.
    pub upstreams: Arc<Upstreams>,
    /// The counter of the rate-limiting contract.
    pub counter: Arc<dyn Counter>,
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
}

/// What a snapshot uses in addition to its configuration. The default has no plugins, counts in memory, and knows only
/// fixed lists of endpoints.
pub struct Services {
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
    /// The counter of the rate-limiting contract.
    pub counter: Arc<dyn Counter>,
    /// What upstreams need in order to discover endpoints.
    pub discovery: Discovery,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            plugins: BTreeMap::new(),
            counter: Arc::new(MemoryCounter::default()),
            discovery: Discovery::default(),
        }
    }
}

impl Snapshot {
    /// Builds the next version. What must survive a reload (pools, breakers) is taken from `previous` where the
    /// configuration is equal.
    ///
    /// Reads the TLS files of upstreams and their files of endpoints, so it must run on the control plane.
    ///
    /// # Errors
    /// Everything that only the data path can check: kinds of filters and balancers and their settings, TLS files,
    /// regular expressions, patterns and templates of paths, and routes that no request can reach.
    pub fn build(
        config: Arc<Config>,
        services: Services,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        let Services { plugins, counter, discovery } = services;
        let mut problems = Problems::new();
        let kept = previous.map(|previous| &**previous.upstreams.body_memory());
        let body_memory = BodyMemory::new(config.gateway.body_memory, kept);
        let upstreams = build_upstreams(&config, &discovery, previous, &mut problems);
        let upstreams = Arc::new(Upstreams::new(upstreams, body_memory));
        let routers = routes::build(&config, &upstreams, &plugins, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Snapshot {
            version: previous.map_or(1, |previous| previous.version + 1),
            identity_headers: identity_headers(&config),
            config,
            routers,
            upstreams,
            counter,
            plugins,
        })
    }

    /// The next version, which differs from this one only in its plugins. It reads no file, so that a plugin can
    /// be reverted even if certificates and keys have become unreadable since.
    ///
    /// # Errors
    /// A binding that a route names has no plugin.
    pub fn with_plugins(&self, plugins: BTreeMap<String, Arc<dyn Binding>>) -> Result<Snapshot, Problems> {
        let mut problems = Problems::new();
        let routers = routes::build(&self.config, &self.upstreams, &plugins, &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Snapshot {
            version: self.version + 1,
            config: self.config.clone(),
            identity_headers: self.identity_headers.clone(),
            routers,
            upstreams: self.upstreams.clone(),
            counter: self.counter.clone(),
            plugins,
        })
    }

    /// Each combination of listener, route and, if the route forwards, upstream that requests take unless a plugin
    /// chooses another.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        routes::ways(&self.config)
    }

    /// The bindings in quarantine, by name.
    pub fn quarantined(&self) -> BTreeMap<String, Quarantined> {
        let plugins = self.plugins.iter();
        plugins.filter_map(|(name, plugin)| Some((name.clone(), plugin.quarantine()?))).collect()
    }

    /// Warnings about a valid configuration, one sentence each, for the log and for `witgate validate`.
    pub fn warnings(&self) -> Vec<String> {
        let unverified = self
            .config
            .upstreams
            .iter()
            .filter(|(_, upstream)| upstream.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify));
        let unverified = unverified.map(|(name, _)| {
            format!("the certificates of upstream `{name}` are not verified: anybody can impersonate it")
        });
        unverified.chain(contradictions::find(&self.config)).chain(pitfalls::find(&self.config)).collect()
    }
}

/// The identity headers of a configuration, whose names are already checked.
pub(crate) fn identity_headers(config: &Config) -> Vec<(HeaderName, IdentitySource)> {
    let named = config.gateway.identity_headers.iter();
    named.filter_map(|(name, source)| Some((name.parse().ok()?, source.clone()))).collect()
}

fn build_upstreams(
    config: &Config,
    discovery: &Discovery,
    previous: Option<&Snapshot>,
    problems: &mut Problems,
) -> Named<Arc<str>, Arc<Upstream>> {
    let mut upstreams = Named::default();
    for (name, settings) in &config.upstreams {
        let before = previous.and_then(|previous| previous.upstreams.get(name.as_str()));
        match Upstream::build(name, settings, config.gateway.zone.as_deref(), discovery, before) {
            Ok(upstream) => {
                upstreams.insert(upstream.name.clone(), upstream);
            }
            Err(more) => problems.extend(more),
        }
    }
    upstreams
}
