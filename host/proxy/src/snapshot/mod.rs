//! One immutable version of configuration and plugins, built by the control plane.

mod conditions;
mod contradictions;
pub(crate) mod in_service;
mod pitfalls;
mod routes;
mod streams;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use witgate_cache::Cache;
use witgate_config::model::IdentitySource;
use witgate_config::{Config, Problems};
use witgate_exchange::contracts::broker::Broker;
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::{Binding, Quarantined};
use witgate_exchange::destination::Wrapper;
use witgate_exchange::names::Named;
use witgate_telemetry::names_in_service::NamesInService;
use witgate_upstream::Upstreams;
use witgate_upstream::discovery::Discovery;
use witgate_wire::http1::field;

use crate::consume::{self, Consumers};
use crate::destination::{Brokers, CacheInService};
use crate::router::Router;
use crate::router::tcp::TcpRouter;
use crate::state::memory::MemoryCounter;

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
    /// The routes that take connections, by listener; only of listeners that have such routes.
    pub tcp: Named<String, TcpRouter>,
    /// Whether an upstream is told by the PROXY protocol who its clients are.
    pub tells_clients: bool,
    /// Upstreams by name. Those whose configuration is unchanged are carried over from the previous snapshot.
    pub upstreams: Arc<Upstreams>,
    /// The counter of the rate-limiting contract.
    pub counter: Arc<dyn Counter>,
    /// The stored responses; `None`: no route has a cache. Carried over while its settings are equal.
    pub cache: Option<Arc<Cache>>,
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
    /// What wraps the destinations of routes, by the name of the route.
    pub wrappers: Wrappers,
    /// Brokers by name.
    pub brokers: BTreeMap<String, Arc<dyn Broker>>,
    /// Consumers by name. Those whose settings are unchanged are carried over from the previous snapshot.
    pub consumers: Consumers,
}

/// What wraps the destinations of routes, by the name of the route.
pub type Wrappers = BTreeMap<String, Arc<dyn Wrapper>>;

/// What a snapshot uses in addition to its configuration. The default has no plugins, counts in memory, and knows only
/// fixed lists of endpoints.
pub struct Services {
    /// Bindings by name.
    pub plugins: BTreeMap<String, Arc<dyn Binding>>,
    /// The counter of the rate-limiting contract.
    pub counter: Arc<dyn Counter>,
    /// What upstreams need in order to discover endpoints.
    pub discovery: Discovery,
    /// What wraps the destinations of routes, by the name of the route.
    pub wrappers: Wrappers,
    /// Brokers by name.
    pub brokers: BTreeMap<String, Arc<dyn Broker>>,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            plugins: BTreeMap::new(),
            counter: Arc::new(MemoryCounter::default()),
            discovery: Discovery::default(),
            wrappers: Wrappers::new(),
            brokers: BTreeMap::new(),
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
        let Services { plugins, counter, discovery, wrappers, brokers } = services;
        let mut problems = Problems::new();
        let built = Upstreams::build(&config, &discovery, previous.map(|previous| &*previous.upstreams));
        let upstreams = built.unwrap_or_else(|(built, more)| {
            problems.extend(more);
            built
        });
        let upstreams = Arc::new(upstreams);
        let cache = cache(&config, previous);
        let identity_headers = identity_headers(&config);
        let routers = build_routers(
            &config,
            &upstreams,
            (cache.as_ref(), &identity_headers),
            &brokers,
            (&plugins, &wrappers),
        )
        .unwrap_or_else(|more| {
            problems.extend(more);
            Named::default()
        });
        let consumers =
            consume::build(&config, &brokers, previous.map(|previous| &previous.consumers), &mut problems);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Snapshot {
            version: previous.map_or(1, |previous| previous.version + 1),
            identity_headers,
            tcp: TcpRouter::of_all(&config, &upstreams),
            tells_clients: config.upstreams.values().any(|upstream| upstream.proxy_protocol.is_some()),
            config,
            routers,
            upstreams,
            counter,
            cache,
            plugins,
            wrappers,
            brokers,
            consumers,
        })
    }

    /// The next version, which differs from this one only in its plugins. It reads no file, so that a plugin can
    /// be reverted even if certificates and keys have become unreadable since.
    ///
    /// # Errors
    /// A binding that a route names has no plugin.
    pub fn with_plugins(&self, plugins: BTreeMap<String, Arc<dyn Binding>>) -> Result<Snapshot, Problems> {
        let cache = (self.cache.as_ref(), &self.identity_headers[..]);
        let routers =
            build_routers(&self.config, &self.upstreams, cache, &self.brokers, (&plugins, &self.wrappers))?;
        Ok(Snapshot {
            version: self.version + 1,
            config: self.config.clone(),
            identity_headers: self.identity_headers.clone(),
            tcp: TcpRouter::of_all(&self.config, &self.upstreams),
            tells_clients: self.tells_clients,
            routers,
            upstreams: self.upstreams.clone(),
            counter: self.counter.clone(),
            cache: self.cache.clone(),
            plugins,
            wrappers: self.wrappers.clone(),
            brokers: self.brokers.clone(),
            consumers: self.consumers.clone(),
        })
    }

    /// The names that metrics are about.
    pub(crate) fn names(&self) -> NamesInService {
        let config = &self.config;
        NamesInService::new(
            config.listeners.iter().map(|listener| listener.name.as_str()),
            config.routes.iter().map(|route| route.name.as_str()),
            config.upstreams.keys().map(String::as_str),
        )
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

    /// Which bindings see credentials that no grant names, as a sentence; `None` if there are none.
    pub fn ungranted_credentials(&self) -> Option<String> {
        let seeing = self.plugins.iter().filter(|(_, plugin)| !plugin.credentials().ungranted().is_empty());
        let names: Vec<String> = seeing.map(|(name, _)| format!("`{name}`")).collect();
        let bindings = if names.len() == 1 { "binding" } else { "bindings" };
        (!names.is_empty()).then(|| {
            format!(
                "the {bindings} {} can see credentials of requests and responses without a grant; `credentials = \"granted\"` \
                 hides them, and `grants.credentials` names those that a plugin needs",
                names.join(", ")
            )
        })
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
        unverified
            .chain(contradictions::find(&self.config))
            .chain(pitfalls::find(&self.config))
            .chain(conditions::find(&self.config, &self.plugins))
            .collect()
    }
}

impl Snapshot {
    /// Whether a header is one of those in which the gateway tells the upstream who the caller is, or is read as one by
    /// an upstream for which underscores are dashes.
    pub(crate) fn is_identity_header(&self, name: &HeaderName) -> bool {
        self.identity_headers.iter().any(|(own, _)| field::is_same_name(own.as_str(), name.as_str()))
    }
}

/// The cache for a configuration: that of the previous snapshot if its settings are equal, and none if no route has one.
fn cache(config: &Config, previous: Option<&Snapshot>) -> Option<Arc<Cache>> {
    config.routes.iter().find_map(|route| route.cache.as_ref())?;
    let before = previous.and_then(|previous| previous.cache.clone());
    let equal = before.filter(|before| before.settings() == config.cache);
    Some(equal.unwrap_or_else(|| Cache::new(config.cache)))
}

/// Builds the router of every listener, whose routes may store responses in this cache.
fn build_routers(
    config: &Config,
    upstreams: &Arc<Upstreams>,
    (cache, identity_headers): (Option<&Arc<Cache>>, &[(HeaderName, IdentitySource)]),
    brokers: &Brokers,
    (plugins, wrappers): (&BTreeMap<String, Arc<dyn Binding>>, &Wrappers),
) -> Result<Named<String, Router>, Problems> {
    let mut problems = Problems::new();
    let identity_headers: Vec<HeaderName> = identity_headers.iter().map(|(name, _)| name.clone()).collect();
    let cache = cache.map(|cache| CacheInService { cache, identity_headers: &identity_headers });
    let routers = routes::build(config, upstreams, (cache, brokers), (plugins, wrappers), &mut problems);
    if problems.is_empty() { Ok(routers) } else { Err(problems) }
}

/// The identity headers of a configuration, whose names are already checked.
pub(crate) fn identity_headers(config: &Config) -> Vec<(HeaderName, IdentitySource)> {
    let named = config.gateway.identity_headers.iter();
    named.filter_map(|(name, source)| Some((name.parse().ok()?, source.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn each_snapshot_has_the_next_version_and_keeps_unchanged_upstreams() {
        let mut config = testing::config();
        let upstream = testing::upstream(&["127.0.0.1:1".parse().expect("an address")]);
        config.upstreams.insert("origin".into(), upstream);
        let config = Arc::new(config);
        let build = |previous| {
            let built = Snapshot::build(Arc::clone(&config), Services::default(), previous);
            built.unwrap_or_else(|problems| panic!("{problems:?}"))
        };
        let first = build(None);
        let second = build(Some(&first));
        let third = second.with_plugins(BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems:?}"));
        assert_eq!((first.version, second.version, third.version), (1, 2, 3));
        assert!(Arc::ptr_eq(&first.upstreams["origin"], &second.upstreams["origin"]));
    }
}
