//! Upstreams: endpoints, breakers, limits, and the pool of connections of each core.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | order | `forward`, `deadline`, `mirror` | what is wanted, by when, and who gets a copy |
//! | affinity | `affinity`, `sticky` | the hash of its key, the session of its cookie |
//! | fall back | `fallback` | what is done if the upstream cannot take it |
//! | admit | `admission`, `breaker` | the upstream's own breaker, places for requests in flight, the queue before them |
//! | deliver | `deliver` | which endpoints are tried, and how often |
//! | pick | `attempt`, `view`, `spread`, `breaker` | a group by zone and priority, in it the balancer picks an endpoint whose breaker lets the request through |
//! | connection | `lease`, `pool`, `limit` | one of this core that is idle, a new one, or a place in the queue |
//! | connect | `connect`, `resolve`, `tls`, `socket` | name, address, TCP, TLS |
//! | send | `send`, `request`, `upload`, `connection`, `http1` | the request is made for the endpoint and sent |
//! | answer | `http1`, `response`, `failure` | the head is checked and cleaned, or the failure said as a fault |
//! | observe | `observe`, `ejection`, `events` | what the attempt shows of the endpoint; changes of state |
//! | supervise | `download` | the body streams; at its end the connection is given back |
//!
//! What no request asks for is done by the [`keeper`]: active checks ([`health`]), the end of ejections, and the
//! `view`, made anew when endpoints come and go. What an operator changes without a reload (`adjust`, `share`) and what
//! is new (`slow_start`) shows there too.
//!
//! What must not depend on the number of cores (breakers, caps, requests in flight) is in shared atomics; connections
//! belong to the core that made them.

mod adjust;
mod admission;
mod affinity;
mod attempt;
mod breaker;
mod connect;
mod connection;
mod deadline;
mod deliver;
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
mod view;

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use witgate_config::{Problem, Problems, model};

use http::HeaderName;

use crate::balancer::{BALANCERS, Policy, clock};
pub use adjust::{EndpointChange, LARGEST_WEIGHT, adjust};
use admission::Admissions;
pub use breaker::BreakerState;
use deliver::Tries;
pub use deliver::TriesStatus;
use ejection::Ejections;
pub use endpoint::Availability;
use endpoint::Endpoint;
use events::Events;
use fallback::Fallback;
pub use forward::forward;
pub use health::state::HealthState;
use limit::Limit;
use slow_start::Newness;
pub use status::{EndpointStatus, EventStatus, LoadStatus, UpstreamStatus, status};
use sticky::Sticky;
use tls::Tls;
use view::View;

/// A named upstream. What must not depend on the number of cores (limits, breakers) is in shared atomics; pooled
/// connections belong to the core that made them.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// What it was configured as.
    pub config: model::Upstream,
    endpoints: Vec<Arc<Endpoint>>,
    /// Which group each endpoint belongs to.
    groups: Box<[usize]>,
    policy: Arc<dyn Policy>,
    /// Requests in flight of each group; none if the policy does not want to know.
    group_in_flight: Box<[AtomicUsize]>,
    sticky: Option<Sticky>,
    view: ArcSwap<View>,
    /// Held while the view is made anew.
    refreshing: Mutex<()>,
    limit: Arc<Limit>,
    admissions: Arc<Admissions>,
    /// Whether there is anything a request must pass before an endpoint is picked.
    guarded: bool,
    fallback: Option<Fallback>,
    events: Arc<Events>,
    ejections: Arc<Ejections>,
    tries: Arc<Tries>,
    deadline_header: Option<HeaderName>,
    tls: Option<Tls>,
    plan: Option<health::Plan>,
}

impl Upstream {
    /// Builds an upstream, or hands on the one before if nothing changed. Endpoints that stay keep their pools, breakers,
    /// counters, and what an operator has said about them. `zone` is the gateway's.
    ///
    /// # Errors
    /// An unknown balancer, or settings it does not take; TLS files that cannot be read or used.
    pub(crate) fn build(
        name: &str,
        config: &model::Upstream,
        zone: Option<&str>,
        previous: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Problems> {
        let mut problems = Problems::new();
        let limit = previous.map_or_else(Arc::default, |previous| previous.limit.clone());
        let admissions = previous.map_or_else(Arc::default, |previous| previous.admissions.clone());
        let events = previous.map_or_else(Arc::default, |previous| previous.events.clone());
        let tries = previous.map_or_else(Arc::default, |previous| previous.tries.clone());
        let fallback = config.fallback.as_ref().map(|settings| {
            Fallback::build(name, settings, previous.and_then(|previous| previous.fallback.as_ref()))
        });
        let fallback = fallback.transpose().map_err(|problem| problems.push(problem)).unwrap_or_default();
        let ejections = previous.map_or_else(Arc::default, |previous| previous.ejections.clone());
        let tls = config.tls.as_ref().map(|settings| {
            Tls::build(name, settings, config.protocol, previous.and_then(|previous| previous.tls.as_ref()))
        });
        let tls = tls.transpose().map_err(|more| problems.extend(more)).unwrap_or_default();
        let same_tls = previous.is_some_and(|previous| {
            previous.tls.as_ref().map(|tls| tls.digest) == tls.as_ref().map(|tls| tls.digest)
                && previous.config.protocol == config.protocol
        });
        let groups = view::groups(&config.endpoints, zone);
        let unchanged = |previous: &&Arc<Upstream>| {
            same_tls && problems.is_empty() && previous.config == *config && previous.groups == groups
        };
        if let Some(previous) = previous.filter(unchanged) {
            return Ok(previous.clone());
        }
        let policy = build_policy(name, config, previous).map_err(|more| problems.extend(more));
        let endpoints = build_endpoints(name, config, previous, same_tls, &mut problems);
        let plan = health::Plan::build(name, config, tls.as_ref());
        let plan = plan.map_err(|more| problems.extend(more)).unwrap_or_default();
        let (Ok(policy), true) = (policy, problems.is_empty()) else { return Err(problems) };
        let group_count = groups.iter().max().map_or(0, |last| last + 1);
        let counted_groups = if policy.counts_in_flight() { group_count } else { 0 };
        let name: Arc<str> = name.into();
        let sticky = config.sticky.as_ref().map(|settings| Sticky::new(settings, &name, &endpoints));
        let upstream = Upstream {
            name,
            config: config.clone(),
            endpoints,
            groups,
            policy,
            group_in_flight: std::iter::repeat_with(AtomicUsize::default).take(counted_groups).collect(),
            sticky,
            view: ArcSwap::from_pointee(View::empty()),
            refreshing: Mutex::default(),
            limit,
            admissions,
            guarded: admission::is_guarded(config),
            fallback,
            events,
            ejections,
            tries,
            deadline_header: config.deadline_header.as_deref().and_then(|name| name.parse().ok()),
            tls,
            plan,
        };
        let now = clock::now();
        let states = (0..upstream.endpoints.len()).map(|index| upstream.state_of(index, now)).collect();
        upstream.view.store(Arc::new(upstream.view_of(states)));
        Ok(Arc::new(upstream))
    }
}

/// The policy; the one before, with what it remembers, if its settings are the same.
fn build_policy(
    name: &str,
    config: &model::Upstream,
    previous: Option<&Arc<Upstream>>,
) -> Result<Arc<dyn Policy>, Problems> {
    if let Some(previous) = previous.filter(|previous| previous.config.balancer == config.balancer) {
        return Ok(previous.policy.clone());
    }
    match BALANCERS.iter().find(|row| row.kind == config.balancer.kind) {
        Some(row) => (row.build)(&config.balancer.settings).map(Arc::from),
        None => Err(vec![unknown_balancer(name, &config.balancer)]),
    }
}

/// Endpoints that stay are carried over as they are, if they are reached in the same way (`same_tls`); if not, only what
/// an operator has said about them is.
fn build_endpoints(
    name: &str,
    config: &model::Upstream,
    previous: Option<&Arc<Upstream>>,
    same_tls: bool,
    problems: &mut Problems,
) -> Vec<Arc<Endpoint>> {
    let mut known: HashMap<(&str, u16), &Arc<Endpoint>> = HashMap::new();
    for endpoint in previous.into_iter().flat_map(|previous| &previous.endpoints) {
        known.insert((&endpoint.host, endpoint.port), endpoint);
    }
    let mut endpoints = Vec::new();
    for (index, settings) in config.endpoints.iter().enumerate() {
        let host = settings.host.trim_matches(['[', ']']);
        let before = known.remove(&(host, settings.port));
        if let Some(endpoint) = before.filter(|_| same_tls) {
            endpoints.push(endpoint.clone());
            continue;
        }
        let key = format!("upstreams.{name}.endpoints[{index}]");
        match Endpoint::new(settings, config.tls.is_some(), &key) {
            Ok(mut endpoint) => {
                match before {
                    Some(before) => endpoint.share = before.share.clone(),
                    // Those of a new upstream are all equally new.
                    None if previous.is_some() => endpoint.newness = Newness::since(clock::now()),
                    None => {}
                }
                endpoints.push(Arc::new(endpoint));
            }
            Err(problem) => problems.push(problem),
        }
    }
    endpoints
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
