//! Upstreams: endpoints, breakers, limits, and the pool of connections of each core.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | order | `forward`, `deliver` | what is wanted; which endpoints are tried, and how often |
//! | pick | `attempt`, `breaker` | the balancer picks an endpoint whose breaker lets the request through |
//! | connection | `lease`, `pool`, `limit` | one of this core that is idle, a new one, or a place in the queue |
//! | connect | `connect`, `resolve`, `tls`, `socket` | name, address, TCP, TLS |
//! | send | `send`, `request`, `upload`, `connection`, `http1` | the request is made for the endpoint and sent |
//! | answer | `http1`, `response`, `failure` | the head is checked and cleaned, or the failure said as a fault |
//! | observe | `observe`, `events` | what the attempt shows of the endpoint; changes of state |
//! | supervise | `download` | the body streams; at its end the connection is given back |
//!
//! What no request asks for is done by the [`keeper`].
//!
//! What must not depend on the number of cores (breakers, caps, requests in flight) is in shared atomics; connections
//! belong to the core that made them.

mod attempt;
mod breaker;
mod connect;
mod connection;
mod deliver;
mod download;
mod endpoint;
mod events;
mod failure;
mod fetch;
mod forward;
mod http1;
pub(crate) mod keeper;
mod lease;
mod limit;
mod observe;
mod pool;
mod request;
mod resolve;
mod response;
mod resumed;
mod send;
mod socket;
mod status;
#[cfg(test)]
mod tests;
mod tls;
mod upload;

use std::collections::HashMap;
use std::sync::Arc;

use witgate_config::{Problem, Problems, model};

use crate::balancer::{BALANCERS, Balancer, Candidate};
pub use breaker::BreakerState;
use endpoint::Endpoint;
use events::Events;
pub use fetch::fetch;
pub use forward::forward;
use limit::Limit;
pub use status::{EndpointStatus, EventStatus, UpstreamStatus, status};
use tls::Tls;

/// A named upstream. What must not depend on the number of cores (limits, breakers) is in shared atomics; pooled
/// connections belong to the core that made them.
pub struct Upstream {
    /// Its name.
    pub name: Arc<str>,
    /// What it was configured as.
    pub config: model::Upstream,
    endpoints: Vec<Arc<Endpoint>>,
    candidates: Vec<Candidate>,
    balancer: Box<dyn Balancer>,
    limit: Arc<Limit>,
    events: Arc<Events>,
    tls: Option<Tls>,
}

impl Upstream {
    /// Builds an upstream, or hands on the one before if nothing changed. Endpoints that stay keep their pools, breakers
    /// and counters.
    ///
    /// # Errors
    /// An unknown balancer; TLS files that cannot be read or used.
    pub(crate) fn build(
        name: &str,
        config: &model::Upstream,
        previous: Option<&Arc<Upstream>>,
    ) -> Result<Arc<Upstream>, Problems> {
        let mut problems = Problems::new();
        let limit = previous.map_or_else(Arc::default, |previous| previous.limit.clone());
        let events = previous.map_or_else(Arc::default, |previous| previous.events.clone());
        let tls = config.tls.as_ref().map(|settings| {
            Tls::build(name, settings, config.protocol, previous.and_then(|previous| previous.tls.as_ref()))
        });
        let tls = tls.transpose().map_err(|more| problems.extend(more)).unwrap_or_default();
        let same_tls = |previous: &&Arc<Upstream>| {
            previous.tls.as_ref().map(|tls| tls.digest) == tls.as_ref().map(|tls| tls.digest)
                && previous.config.protocol == config.protocol
        };
        let previous = previous.filter(same_tls);
        if let Some(previous) = previous.filter(|previous| problems.is_empty() && previous.config == *config)
        {
            return Ok(previous.clone());
        }
        let row = BALANCERS.iter().find(|row| row.kind == config.balancer);
        if row.is_none() {
            problems.push(unknown_balancer(name, &config.balancer));
        }
        let endpoints = build_endpoints(name, config, previous, &mut problems);
        let (Some(row), true) = (row, problems.is_empty()) else { return Err(problems) };
        let weights: Vec<u32> = config.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        let candidate = |(endpoint, weight): (&Arc<Endpoint>, &u32)| Candidate {
            weight: *weight,
            active: endpoint.active.clone(),
        };
        Ok(Arc::new(Upstream {
            name: name.into(),
            config: config.clone(),
            candidates: endpoints.iter().zip(&weights).map(candidate).collect(),
            endpoints,
            balancer: (row.build)(&weights),
            limit,
            events,
            tls,
        }))
    }
}

fn build_endpoints(
    name: &str,
    config: &model::Upstream,
    previous: Option<&Arc<Upstream>>,
    problems: &mut Problems,
) -> Vec<Arc<Endpoint>> {
    let mut known: HashMap<(&str, u16), &Arc<Endpoint>> = HashMap::new();
    for endpoint in previous.into_iter().flat_map(|previous| &previous.endpoints) {
        known.insert((&endpoint.host, endpoint.port), endpoint);
    }
    let mut endpoints = Vec::new();
    for (index, settings) in config.endpoints.iter().enumerate() {
        let host = settings.host.trim_matches(['[', ']']);
        if let Some(endpoint) = known.remove(&(host, settings.port)) {
            endpoints.push(endpoint.clone());
            continue;
        }
        let key = format!("upstreams.{name}.endpoints[{index}]");
        match Endpoint::new(settings, config.tls.is_some(), &key) {
            Ok(endpoint) => endpoints.push(Arc::new(endpoint)),
            Err(problem) => problems.push(problem),
        }
    }
    endpoints
}

fn unknown_balancer(upstream: &str, balancer: &str) -> Problem {
    let kinds: Vec<&str> = BALANCERS.iter().map(|row| row.kind).collect();
    Problem {
        message: format!("there is no balancer `{balancer}`"),
        span: None,
        key: format!("upstreams.{upstream}.balancer"),
        hint: Some(format!("balancers are {}", kinds.join(", "))),
    }
}
