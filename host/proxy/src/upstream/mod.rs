//! Upstreams: endpoints, breakers, limits, and the pool of connections of each core.

mod breaker;
mod endpoint;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use witgate_config::{Problem, Problems, model};

use crate::balancer::{BALANCERS, Balancer, Candidate};
use crate::body::Body;
use crate::fault::Fault;
use crate::pipeline::exchange::Exchange;
use crate::snapshot::Snapshot;
pub use breaker::BreakerState;
use endpoint::Endpoint;

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
        if let Some(previous) = previous.filter(|previous| previous.config == *config) {
            return Ok(previous.clone());
        }
        let mut problems = Problems::new();
        let row = BALANCERS.iter().find(|row| row.kind == config.balancer);
        if row.is_none() {
            problems.push(unknown_balancer(name, &config.balancer));
        }
        let mut endpoints = Vec::new();
        for (index, endpoint) in config.endpoints.iter().enumerate() {
            let key = format!("upstreams.{name}.endpoints[{index}]");
            match Endpoint::new(endpoint, config.tls.is_some(), &key) {
                Ok(endpoint) => endpoints.push(Arc::new(endpoint)),
                Err(problem) => problems.push(problem),
            }
        }
        let (Some(row), true) = (row, problems.is_empty()) else { return Err(problems) };
        let weights: Vec<u32> = config.endpoints.iter().map(|endpoint| endpoint.weight).collect();
        let candidates = endpoints.iter().zip(&weights);
        let candidates = candidates
            .map(|(endpoint, weight)| Candidate { weight: *weight, active: endpoint.active.clone() });
        Ok(Arc::new(Upstream {
            name: name.into(),
            config: config.clone(),
            candidates: candidates.collect(),
            endpoints,
            balancer: (row.build)(&weights),
        }))
    }
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

/// Sends the exchange's request to its upstream and returns the head of its response with the body streaming behind.
/// An endpoint that answers 101 leaves its `OnUpgrade` in the response's extensions.
///
/// What the upstream sees: the exchange's method, `upstream_target` or `target` in origin form, end-to-end headers,
/// `Host` (the client's or the endpoint's), `Via`, `traceparent`, `tracestate`, the request id, and the framing of
/// `body`. Headers of the gateway's own other than these are in the head already.
///
/// # Errors
/// Any fault with blame `Upstream`, `RequestTimeout`, or `ClientGone`.
pub async fn forward(_exchange: &mut Exchange, _body: Body) -> Result<Response<Body>, Fault> {
    todo!("upstream")
}

/// One outbound exchange for a plugin's `fetch`: same pools, breakers, limits, TLS and trace as forwarded requests.
/// The body is collected, at most `limit` bytes.
///
/// # Errors
/// As [`forward`]; a response over the limit is `UpstreamProtocol` with the detail `response too large`.
pub async fn fetch(
    _snapshot: &Arc<Snapshot>,
    _upstream: &str,
    _request: Request<Bytes>,
    _timeout: Option<Duration>,
    _limit: usize,
) -> Result<Response<Bytes>, Fault> {
    todo!("upstream")
}
