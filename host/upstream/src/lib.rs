//! Upstreams: endpoints, circuit breakers, limits, and the connection pool of each core.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | request | `request` | builds the request, computes its deadline and the hash of its key, reads its session cookie, decides whether it is mirrored |
//! | fall back | `fallback` | handles a request that its upstream cannot take |
//! | admit | `admission`, `breaker` | asks the upstream's own circuit breaker; grants a permit for a request in flight, or queues the request |
//! | deliver | `deliver` | decides which endpoints are tried, and how often |
//! | pick | `pick`, `set`, [`balancer`], `breaker` | chooses a group by zone and priority; the balancer picks an endpoint of it whose breaker lets the request through |
//! | connect | `connection` | takes an idle connection of this core, opens a new one (name, TCP, TLS), or waits in the queue |
//! | send | `send` | builds the request for the endpoint, sends it, and reads the head of the response |
//! | respond | `response` | cleans the response head, or turns the failure into a fault; streams the body, and returns the connection to the pool when the body has ended |
//! | forward a connection | `session` | instead of the steps from request to respond: a connection of a client is forwarded as it is |
//! | observe | `observe` | passes on what the attempt shows about the endpoint; acts on it; records changes of state |
//!
//! Where the endpoints come from is described in [`discovery`]. An upstream may get another [`set`] of endpoints
//! without a reload; what survives a reload is listed in [`carry`](mod@carry). Work that no request triggers is
//! done by the [`keeper`]: it runs sources and active checks ([`health`]), ends ejections, and rebuilds the `view`
//! when endpoints are added, removed, or change their state. The view also reflects what an operator changes
//! without a reload, and slow start.
//!
//! State that must not depend on the number of cores (breakers, caps, requests in flight) is in shared atomics.
//! Each connection belongs to the core that opened it.

#![forbid(unsafe_code)]

mod admission;
pub mod balancer;
mod breaker;
mod carry;
mod connection;
mod core_local;
mod deliver;
pub mod discovery;
mod endpoint;
mod fallback;
mod health;
mod keeper;
mod observe;
mod pick;
mod request;
mod response;
mod send;
mod session;
mod set;
mod status;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod time;
mod upstreams;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use http::HeaderName;
use witgate_config::{Problem, Problems, model};

use crate::balancer::{BALANCERS, Policy};
use crate::carry::{Carried, Previous, carry};
use crate::connection::tls::Tls;
use crate::discovery::{Discovery, EndpointSpecs};
use crate::fallback::Fallback;
use crate::request::sticky::Sticky;
use crate::set::{Changing, EndpointSet, MemberBuilder};

pub use breaker::BreakerState;
pub use deliver::TriesStatus;
pub use endpoint::Availability;
pub use health::state::HealthState;
pub use keeper::Keeper;
pub use pick::adjust::{EndpointChange, LARGEST_WEIGHT, adjust};
pub use request::forward::Forward;
pub use session::{Connecting, Session};
pub use status::expose::encode;
pub use status::{EndpointStatus, EventStatus, LoadStatus, UpstreamStatus, status};
pub use upstreams::{CurrentUpstreams, Upstreams};

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
    /// Whether it speaks HTTP/2 to its endpoints, without which there is no gRPC.
    pub fn speaks_http2(&self) -> bool {
        self.config.protocol == model::UpstreamProtocol::Http2
    }

    /// Builds an upstream, or returns the previous version if nothing has changed. What survives is listed in
    /// [`carry`](mod@carry). `zone` is the zone of the gateway.
    ///
    /// # Errors
    /// A source that this build does not have; an unknown balancer, or settings that the balancer does not accept; TLS
    /// files that cannot be read or used.
    pub fn build(
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
