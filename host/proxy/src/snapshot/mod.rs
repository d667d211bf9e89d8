//! One version of everything, built by the control plane and never changed.

mod contradictions;
mod routes;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use witgate_config::model::IdentitySource;
use witgate_config::{Config, Problems};

use crate::contracts::Binding;
use crate::contracts::counter::Counter;
use crate::names::Named;
use crate::router::Router;
use crate::state::memory::MemoryCounter;
use crate::upstream::Upstream;

/// One version of everything a request sees.
pub struct Snapshot {
    /// Counts up with every swap; 1 is the first.
    pub version: u64,
    /// What it was built from.
    pub config: Arc<Config>,
    /// Headers that tell upstreams who calls, and what each of them tells.
    pub identity_headers: Vec<(HeaderName, IdentitySource)>,
    /// A router for each listener, by name.
    pub routers: Named<String, Router>,
    /// Upstreams by name. Carried over from the snapshot before where their configuration is equal.
    pub upstreams: Named<Arc<str>, Arc<Upstream>>,
    /// Where the draws of the rate-limiting contract are counted.
    pub counter: Arc<dyn Counter>,
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
}

/// What a snapshot uses beside its configuration. The default has no plugins and counts in memory.
pub struct Services {
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
    /// Where draws are counted.
    pub counter: Arc<dyn Counter>,
}

impl Default for Services {
    fn default() -> Self {
        Services { plugins: BTreeMap::new(), counter: Arc::new(MemoryCounter::default()) }
    }
}

impl Snapshot {
    /// Builds the next version. What must survive (pools, breakers) is taken from `previous` by equality.
    ///
    /// Reads the TLS files of upstreams, so it belongs on the control plane.
    ///
    /// # Errors
    /// Everything that only the data path can check: kinds of filters and balancers and their settings, TLS files,
    /// regular expressions, patterns and templates of paths, routes that could never be taken.
    pub fn build(
        config: Arc<Config>,
        services: Services,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        let Services { plugins, counter } = services;
        let mut problems = Problems::new();
        let upstreams = build_upstreams(&config, previous, &mut problems);
        let routers = routes::build(&config, &plugins, &mut problems);
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

    /// The next version, which differs from this one by its plugins only. No file is read for it, so that a plugin can
    /// be taken back whatever has become of certificates and keys since.
    ///
    /// # Errors
    /// A binding that a route names has no plugin.
    pub fn with_plugins(&self, plugins: BTreeMap<String, Arc<dyn Binding>>) -> Result<Snapshot, Problems> {
        let mut problems = Problems::new();
        let routers = routes::build(&self.config, &plugins, &mut problems);
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

    /// Listener, route and, where one is asked, upstream: the ways that requests take unless a plugin says another.
    pub(crate) fn ways(&self) -> impl Iterator<Item = (&str, &str, Option<&str>)> {
        routes::ways(&self.config)
    }

    /// What an operator should know about a configuration that is in order, one sentence each; for the log and for
    /// `witgate validate`.
    pub fn warnings(&self) -> Vec<String> {
        let unverified = self
            .config
            .upstreams
            .iter()
            .filter(|(_, upstream)| upstream.tls.as_ref().is_some_and(|tls| tls.insecure_skip_verify));
        let unverified = unverified.map(|(name, _)| {
            format!("the certificates of upstream `{name}` are not verified: anybody can pose as it")
        });
        unverified.chain(contradictions::find(&self.config)).collect()
    }
}

/// The identity headers of a configuration, which holds header names only.
pub(crate) fn identity_headers(config: &Config) -> Vec<(HeaderName, IdentitySource)> {
    let named = config.gateway.identity_headers.iter();
    named.filter_map(|(name, source)| Some((name.parse().ok()?, source.clone()))).collect()
}

fn build_upstreams(
    config: &Config,
    previous: Option<&Snapshot>,
    problems: &mut Problems,
) -> Named<Arc<str>, Arc<Upstream>> {
    let mut upstreams = Named::default();
    for (name, settings) in &config.upstreams {
        let before = previous.and_then(|previous| previous.upstreams.get(name.as_str()));
        match Upstream::build(name, settings, config.gateway.zone.as_deref(), before) {
            Ok(upstream) => {
                upstreams.insert(upstream.name.clone(), upstream);
            }
            Err(more) => problems.extend(more),
        }
    }
    upstreams
}
