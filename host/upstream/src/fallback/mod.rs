//! Fallbacks: what is done with a request that an upstream cannot take, before anything of it was sent.
//!
//! As far as they are configured, in this order: another upstream, with its own breakers and limits; a fixed response.
//! Otherwise the client gets the fault. The cache of a route, which may hold a response to the same request, is in front of
//! its upstreams.
//!
//! A streaming request body goes to another upstream only if it was known that the first one would not take the
//! request before the body was touched. That is so for breakers, the queue, and missing endpoints. Fixed
//! responses need no body.

mod fixed;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::Response;
use witgate_config::{Problem, model};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind, PROXY_STATUS};

use super::admission::deliver_admitted;
use super::deliver::AttemptLog;
use super::request::UpstreamRequest;
use super::send::{Failure, spare};
use super::{Upstream, Upstreams};
use fixed::Fixed;

/// The fallback of an upstream.
#[derive(Debug)]
pub(crate) struct Fallback {
    fixed: Option<Fixed>,
    /// Carried over every reload by the upstream's name.
    pub(crate) taken: Arc<Taken>,
}

/// How often each fallback was used.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    upstream: AtomicU64,
    respond: AtomicU64,
}

impl Taken {
    /// Each count with its name in the metrics.
    pub(crate) fn counts(&self) -> [(&'static str, u64); 2] {
        [("upstream", &self.upstream), ("respond", &self.respond)]
            .map(|(word, count)| (word, count.load(Ordering::Relaxed)))
    }
}

impl Fallback {
    /// Builds the fallback. What the previous one counted is kept.
    ///
    /// # Errors
    /// The fixed response is invalid.
    pub(crate) fn build(
        name: &str,
        config: &model::Fallback,
        previous: Option<&Fallback>,
    ) -> Result<Fallback, Problem> {
        let key = format!("upstreams.{name}.fallback.respond");
        let fixed = config.respond.as_ref().map(|answer| Fixed::build(answer, &key)).transpose()?;
        let taken = previous.map_or_else(Arc::default, |previous| previous.taken.clone());
        Ok(Fallback { fixed, taken })
    }
}

/// Whether the fallback applies to a fault of this kind.
fn covers(config: &model::Fallback, kind: FaultKind) -> bool {
    match kind {
        FaultKind::BreakerOpen => config.on_breaker_open,
        FaultKind::NoEndpoint => config.on_no_endpoint,
        FaultKind::UpstreamOverloaded => config.on_overload,
        _ => false,
    }
}

/// Delivers a request to an upstream, or uses its fallback.
pub(crate) async fn deliver_or_fall_back(
    upstreams: &Upstreams,
    upstream: &Arc<Upstream>,
    order: &UpstreamRequest<'_>,
    body: Body,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<Response<Body>, Fault> {
    let Some(fallback) = &upstream.fallback else {
        let delivered = deliver_admitted(upstream, order, body, deadline, notes).await;
        return delivered.map_err(|failure| upstream.noted(failure.fault));
    };
    let spare = spare(&body);
    let delivered = match upstream.look() {
        Ok(()) => deliver_admitted(upstream, order, body, deadline, notes).await,
        Err(fault) => Err(Failure::unsent(fault, body)),
    };
    match delivered {
        Ok(response) => Ok(response),
        Err(Failure { fault, body, .. }) => {
            let fault = upstream.noted(fault);
            // Boxed, so that requests that need no fallback do not carry the state for it.
            let fallen = Fallen { upstreams, upstream, order, deadline };
            Box::pin(fallen.fall_back(fallback, fault, body.map(|body| *body).or(spare), notes)).await
        }
    }
}

/// A request that its upstream could not take.
struct Fallen<'a> {
    upstreams: &'a Upstreams,
    upstream: &'a Arc<Upstream>,
    order: &'a UpstreamRequest<'a>,
    deadline: Option<Instant>,
}

impl Fallen<'_> {
    async fn fall_back(
        &self,
        fallback: &Fallback,
        mut fault: Fault,
        body: Option<Body>,
        notes: &mut AttemptLog,
    ) -> Result<Response<Body>, Fault> {
        let Some(config) = self.upstream.config.fallback.as_ref().filter(|config| covers(config, fault.kind))
        else {
            return Err(fault);
        };
        let other = config.upstream.as_ref().and_then(|name| self.upstreams.get(name.as_str()));
        if let (Some(other), Some(body)) = (other, body) {
            fallback.taken.upstream.fetch_add(1, Ordering::Relaxed);
            notes.instead = Some(other.name.clone());
            let order = self.order.to(other);
            match deliver_or_fall_back(self.upstreams, other, &order, body, self.deadline, notes).await {
                Ok(response) => return Ok(response),
                Err(other) => fault = other,
            }
        }
        match &fallback.fixed {
            Some(fixed) => {
                fallback.taken.respond.fetch_add(1, Ordering::Relaxed);
                notes.local = true;
                Ok(fixed.response(fault))
            }
            None => Err(fault),
        }
    }
}

impl Upstream {
    /// Whether a request goes directly to its endpoints: there is neither admission nor a fallback.
    pub(crate) fn is_plain(&self) -> bool {
        self.fallback.is_none() && !self.guarded
    }

    /// Records a fault that says that the upstream is at its limits. Returns the fault.
    pub(crate) fn noted(&self, fault: Fault) -> Fault {
        if fault.kind == FaultKind::UpstreamOverloaded {
            self.note_shed(&fault);
        }
        fault
    }
}

/// Says in `Proxy-Status` (RFC 9209) why a response is not the upstream's.
fn mark(response: &mut Response<Body>, kind: FaultKind) {
    if let Some(status) = kind.proxy_status() {
        response.headers_mut().append(PROXY_STATUS, status);
    }
}
