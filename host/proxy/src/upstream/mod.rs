//! Upstreams: endpoints, circuit breakers, limits, and the connection pool of each core.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | request | `forward`, `deadline`, `mirror` | builds the request, computes its deadline, decides whether the request is mirrored |
//! | affinity | `affinity`, `sticky` | computes the hash of the request's key, reads its session cookie |
//! | fall back | `fallback` | handles a request that its upstream cannot take |
//! | admit | `admission`, `breaker` | asks the upstream's own circuit breaker; grants a permit for a request in flight, or queues the request |
//! | deliver | `deliver` | decides which endpoints are tried, and how often |
//! | pick | `attempt`, `set`, `view`, `spread`, `breaker` | chooses a group by zone and priority; the balancer picks an endpoint of it whose breaker lets the request through |
//! | connection | `lease`, `pool`, `limit` | takes an idle connection of this core, opens a new one, or waits in the queue |
//! | connect | `connect`, `resolve`, `tls`, `socket` | resolves the name, connects by TCP, performs the TLS handshake |
//! | send | `send`, `request`, `upload`, `connection`, `http1` | builds the request for the endpoint and sends it |
//! | respond | `http1`, `response`, `failure` | checks and cleans the response head, or turns the failure into a fault |
//! | observe | `observe`, `conduct`, `ejection`, `events` | passes on what the attempt shows about the endpoint; acts on it; records changes of state |
//! | supervise | `download` | streams the body, and returns the connection to the pool when the body has ended |
//!
//! Where the endpoints come from is described in [`discovery`]. An upstream may get another [`set`] of endpoints
//! without a reload; what survives a reload is listed in [`carry`](mod@carry). Work that no request triggers is
//! done by the [`keeper`]: it runs sources and active checks ([`health`]), ends ejections, and rebuilds the `view`
//! when endpoints are added, removed, or change their state. The view also reflects what an operator changes
//! without a reload (`adjust`, `share`) and slow start (`slow_start`).
//!
//! State that must not depend on the number of cores (breakers, caps, requests in flight) is in shared atomics.
//! Each connection belongs to the core that opened it.

mod adjust;
mod admission;
mod affinity;
mod attempt;
mod breaker;
mod carry;
mod conduct;
mod connect;
mod connection;
mod deadline;
mod deliver;
pub mod discovery;
mod download;
mod ejection;
mod endpoint;
mod events;
pub(crate) mod expose;
mod failure;
mod fallback;
mod fetch;
mod forward;
mod health;
mod http1;
pub(crate) mod keeper;
mod lease;
mod limit;
mod mirror;
mod observe;
mod observed_body;
mod pool;
mod request;
mod resolve;
mod response;
mod resumed;
mod send;
mod set;
mod share;
mod slow_start;
mod socket;
mod spread;
mod status;
mod sticky;
#[cfg(test)]
mod tests;
mod time;
mod tls;
mod upload;
mod upstreams;
mod view;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::HeaderName;
use witgate_config::{Problem, Problems, model};

use crate::balancer::{BALANCERS, Policy};
pub use adjust::{EndpointChange, LARGEST_WEIGHT, adjust};
pub use breaker::BreakerState;
use carry::{Carried, Previous, carry};
pub use deliver::TriesStatus;
use discovery::{Discovery, EndpointSpecs};
pub use endpoint::Availability;
use fallback::Fallback;
pub use forward::Forward;
pub use health::state::HealthState;
use set::{Changing, EndpointSet, MemberBuilder};
pub use status::{EndpointStatus, EventStatus, LoadStatus, UpstreamStatus, status};
use sticky::Sticky;
use tls::Tls;
pub(crate) use upstreams::CurrentUpstreams;
pub use upstreams::Upstreams;

/// The slot that holds a source until the keeper starts it.
type SourceSlot = Arc<Mutex<Option<discovery::BuiltSource>>>;

/// A named upstream: its settings and what is built from them, the state that it shares with its versions before
/// and after a reload, and its current endpoints, which may change without a reload.
pub struct Upstream {
    /// The name.
    pub name: Arc<str>,
    /// The configuration from which it was built.
    pub config: model::Upstream,
    /// The zone of the gateway.
    zone: Option<Box<str>>,
    policy: Arc<dyn Policy>,
    sticky: Option<Sticky>,
    /// Whether a request needs admission (a breaker, limits) before an endpoint is picked.
    guarded: bool,
    fallback: Option<Fallback>,
    deadline_header: Option<HeaderName>,
    tls: Option<Tls>,
    plan: Option<health::Plan>,
    /// The source of its endpoints, until the keeper starts it. Shared with the previous version if the source is
    /// the same.
    source: SourceSlot,
    discovery: Discovery,
    carried: Carried,
    set: ArcSwap<EndpointSet>,
    changing: Changing,
}

impl Upstream {
    /// Builds an upstream, or returns the previous version if nothing has changed. What survives is listed in
    /// [`carry`](mod@carry). `zone` is the zone of the gateway.
    ///
    /// # Errors
    /// A source that this build does not have; an unknown balancer, or settings that the balancer does not accept; TLS files that cannot be read or used.
    pub(crate) fn build(
        name: &str,
        config: &model::Upstream,
        zone: Option<&str>,
        discovery: &Discovery,
        previous: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Problems> {
        Upstream::build_with(
            discovery::build(name, config, discovery)?,
            name,
            config,
            zone,
            discovery,
            previous,
        )
    }

    /// As [`Upstream::build`], with a given source.
    fn build_with(
        mut source: discovery::BuiltSource,
        name: &str,
        config: &model::Upstream,
        zone: Option<&str>,
        discovery: &Discovery,
        previous: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Problems> {
        let mut problems = Problems::new();
        let (carried, previous) = carry(previous, config, zone);
        let fallback =
            config.fallback.as_ref().map(|settings| Fallback::build(name, settings, previous.fallback));
        let fallback = fallback.transpose().map_err(|problem| problems.push(problem)).unwrap_or_default();
        let tls =
            config.tls.as_ref().map(|settings| Tls::build(name, settings, config.protocol, previous.tls));
        let tls = tls.transpose().map_err(|more| problems.extend(more)).unwrap_or_default();
        let same_way = previous.is_reached_by(config, tls.as_ref());
        if let Some(unchanged) = previous.unchanged.filter(|_| same_way && problems.is_empty()) {
            return Ok(unchanged.clone());
        }
        let policy = build_policy(name, config, &previous).map_err(|more| problems.extend(more));
        let plan = health::Plan::build(name, config, tls.as_ref());
        let plan = plan.map_err(|more| problems.extend(more)).unwrap_or_default();
        if previous.source.is_none() && carried.sink.good().is_none() {
            source.restore(name, config, discovery);
        }
        let (specs, version) = starting_set(&source, &carried, previous.source.is_some());
        let builder = MemberBuilder {
            zone,
            tls: config.tls.is_some(),
            authority: set::authority(config),
            counts_in_flight: policy.as_ref().is_ok_and(|policy| policy.counts_in_flight()),
            before: previous.set.as_deref(),
            same_way,
        };
        let members =
            builder.members(&specs).map_err(|bad| problems.extend(bad.into_iter().map(invalid_host(name))));
        let (Ok(policy), Ok(members), true) = (policy, members, problems.is_empty()) else {
            return Err(problems);
        };
        let name: Arc<str> = name.into();
        let upstream = Upstream {
            sticky: config.sticky.as_ref().map(|settings| Sticky::new(settings, &name)),
            name,
            config: config.clone(),
            zone: zone.map(Box::from),
            policy,
            guarded: admission::is_guarded(config),
            fallback,
            deadline_header: config.deadline_header.as_deref().and_then(|name| name.parse().ok()),
            tls,
            plan,
            source: previous.source.unwrap_or_else(|| Arc::new(Mutex::new(Some(source)))),
            discovery: discovery.clone(),
            carried,
            set: ArcSwap::from_pointee(EndpointSet::empty()),
            changing: Changing::default(),
        };
        upstream.set.store(Arc::new(upstream.first_set(members, version)));
        Ok(Arc::new(upstream))
    }

    /// Takes the source in order to start it. `None` if it has already been started.
    fn take_source(&self) -> Option<discovery::BuiltSource> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The first set of endpoints, and its version: the set that the source knows from the start, or else the last
/// good set of the previous source or of an earlier process. A source that keeps running has its last good set.
fn starting_set(source: &discovery::BuiltSource, carried: &Carried, runs: bool) -> (EndpointSpecs, u64) {
    let good = || carried.sink.good().map(|(good, version)| (source.allowed(&good), version));
    if runs && let Some(good) = good() {
        return good;
    }
    let known = source.known();
    if known.is_empty()
        && let Some(good) = good()
    {
        return good;
    }
    match &source.restored {
        Some((set, _)) if known.is_empty() => (set.clone(), 0),
        _ => (known.into(), 0),
    }
}

fn invalid_host(upstream: &str) -> impl Fn((usize, String)) -> Problem {
    move |(index, message)| Problem {
        message,
        span: None,
        key: format!("upstreams.{upstream}.endpoints[{index}]"),
        hint: Some("write a host name or an address".into()),
    }
}

/// The balancing policy. If its settings are unchanged, the previous policy is kept, with its state.
fn build_policy(
    name: &str,
    config: &model::Upstream,
    previous: &Previous<'_>,
) -> Result<Arc<dyn Policy>, Problems> {
    if let Some(policy) = &previous.policy {
        return Ok(policy.clone());
    }
    match BALANCERS.iter().find(|row| row.kind == config.balancer.kind) {
        Some(row) => (row.build)(&config.balancer.settings).map(Arc::from),
        None => Err(vec![unknown_balancer(name, &config.balancer)]),
    }
}

fn unknown_balancer(upstream: &str, balancer: &model::Balancer) -> Problem {
    let kinds: Vec<&str> = BALANCERS.iter().map(|row| row.kind).collect();
    Problem {
        message: format!("there is no balancer `{}`", balancer.kind),
        span: balancer.settings.spans.get("").cloned(),
        key: format!("upstreams.{upstream}.balancer"),
        hint: Some(format!("balancers are {}", kinds.join(", "))),
    }
}
