//! Upstreams: endpoints, breakers, limits, and the pool of connections of each core.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | order | `forward`, `deadline`, `mirror` | what is wanted, by when, and who gets a copy |
//! | affinity | `affinity`, `sticky` | the hash of its key, the session of its cookie |
//! | fall back | `fallback` | what is done if the upstream cannot take it |
//! | admit | `admission`, `breaker` | the upstream's own breaker, places for requests in flight, the queue before them |
//! | deliver | `deliver` | which endpoints are tried, and how often |
//! | pick | `attempt`, `set`, `view`, `spread`, `breaker` | a group by zone and priority, in it the balancer picks an endpoint whose breaker lets the request through |
//! | connection | `lease`, `pool`, `limit` | one of this core that is idle, a new one, or a place in the queue |
//! | connect | `connect`, `resolve`, `tls`, `socket` | name, address, TCP, TLS |
//! | send | `send`, `request`, `upload`, `connection`, `http1` | the request is made for the endpoint and sent |
//! | answer | `http1`, `response`, `failure` | the head is checked and cleaned, or the failure said as a fault |
//! | observe | `observe`, `conduct`, `ejection`, `events` | what the attempt shows of the endpoint, and what follows; changes of state |
//! | supervise | `download` | the body streams; at its end the connection is given back |
//!
//! Where the endpoints come from is [`discovery`]; an upstream may get another [`set`] of them without a reload, and what
//! survives a reload is said in [`carry`](mod@carry). What no request asks for is done by the [`keeper`]: sources, active checks
//! ([`health`]), the end of ejections, and the `view`, made anew when endpoints come, go or stand otherwise. What an operator
//! changes without a reload (`adjust`, `share`) and what is new (`slow_start`) shows there too.
//!
//! What must not depend on the number of cores (breakers, caps, requests in flight) is in shared atomics; connections
//! belong to the core that made them.

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
use discovery::{EndpointSpec, EndpointSpecs};
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

/// A source until the keeper starts it.
type SourceSlot = Arc<Mutex<Option<discovery::BuiltSource>>>;

/// A named upstream: its settings and what is built from them, the state that it shares with its versions before and after a
/// reload, and its current endpoints, which may change without a reload.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// What it was configured as.
    pub config: model::Upstream,
    /// The gateway's zone.
    zone: Option<Box<str>>,
    policy: Arc<dyn Policy>,
    sticky: Option<Sticky>,
    /// Whether there is anything a request must pass before an endpoint is picked.
    guarded: bool,
    fallback: Option<Fallback>,
    deadline_header: Option<HeaderName>,
    tls: Option<Tls>,
    plan: Option<health::Plan>,
    /// The source of its endpoints, until the keeper starts it. Shared with the previous version if the source is the same.
    source: SourceSlot,
    carried: Carried,
    set: ArcSwap<EndpointSet>,
    changing: Changing,
}

impl Upstream {
    /// Builds an upstream, or hands on the one before if nothing changed. What survives is said in [`carry`](mod@carry). `zone` is the
    /// gateway's.
    ///
    /// # Errors
    /// An unknown balancer, or settings it does not take; TLS files that cannot be read or used.
    pub(crate) fn build(
        name: &str,
        config: &model::Upstream,
        zone: Option<&str>,
        previous: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Problems> {
        Upstream::build_with(discovery::build(config)?, name, config, zone, previous)
    }

    /// As [`Upstream::build`], with a source.
    fn build_with(
        source: discovery::BuiltSource,
        name: &str,
        config: &model::Upstream,
        zone: Option<&str>,
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
        let (specs, version) = starting_set(&source, &carried);
        let builder = MemberBuilder {
            zone,
            tls: config.tls.is_some(),
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
            carried,
            set: ArcSwap::from_pointee(EndpointSet::empty()),
            changing: Changing::default(),
        };
        upstream.set.store(Arc::new(upstream.first_set(members, version)));
        Ok(Arc::new(upstream))
    }

    /// Takes the source to start it. `None` if it has been started already.
    fn take_source(&self) -> Option<discovery::BuiltSource> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The endpoints to start with, and their version: those that the source knows from the start, or else the last good set of
/// the previous source.
fn starting_set(source: &discovery::BuiltSource, carried: &Carried) -> (EndpointSpecs, u64) {
    let known = source.source.known();
    if known.is_empty()
        && let Some(good) = carried.sink.good()
    {
        return good;
    }
    (known.into_iter().map(Arc::<EndpointSpec>::new).collect(), 0)
}

fn invalid_host(upstream: &str) -> impl Fn((usize, String)) -> Problem {
    move |(index, message)| Problem {
        message,
        span: None,
        key: format!("upstreams.{upstream}.endpoints[{index}]"),
        hint: Some("write a host name or an address".into()),
    }
}

/// The policy; the one before, with what it remembers, if its settings are the same.
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
