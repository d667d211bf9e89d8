//! One endpoint picked for one request: its place in the count of requests, its pass through the breaker.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::HeaderValue;
use http::header::RETRY_AFTER;

use super::breaker::Pass;
use super::endpoint::Endpoint;
use super::observe::{Failing, Sign, tell};
use super::{BreakerState, Upstream};
use crate::balancer::Pick;
use crate::fault::{Fault, FaultKind};

/// A request on its way to an endpoint. Dropping it undecided (the client went away) says nothing about the endpoint.
pub(super) struct Attempt {
    pub(super) upstream: Arc<Upstream>,
    pub(super) index: usize,
    pub(super) pass: Pass,
    /// When the request was begun to be sent.
    begun: Cell<Instant>,
    /// Whether the endpoint failed, so that the end of its answer is no success.
    failed: Cell<bool>,
}

impl Upstream {
    /// Picks an endpoint that is in service, has a weight, and was not tried before.
    ///
    /// # Errors
    /// `BreakerOpen` with `Retry-After` if only breakers stand in the way, else `NoEndpoint`.
    pub(super) fn pick(self: &Arc<Self>, hash_key: Option<&[u8]>, tried: &[usize]) -> Result<Attempt, Fault> {
        let pick = Pick { endpoints: &self.candidates, hash_key };
        let usable = |index: usize| {
            self.candidates[index].weight > 0
                && !tried.contains(&index)
                && self.endpoints[index].breaker.would_pass()
        };
        // Another core may take the one probe between the look and the step; then the look finds it taken.
        for _ in 0..self.endpoints.len() {
            let Some(index) = self.balancer.pick(&pick, &usable) else { break };
            let endpoint = &self.endpoints[index];
            if let Some(pass) = endpoint.breaker.enter() {
                endpoint.active.fetch_add(1, Ordering::Relaxed);
                return Ok(Attempt {
                    upstream: self.clone(),
                    index,
                    pass,
                    begun: Cell::new(Instant::now()),
                    failed: Cell::new(false),
                });
            }
        }
        Err(self.no_endpoint())
    }

    fn no_endpoint(&self) -> Fault {
        let weighted =
            self.candidates.iter().zip(&self.endpoints).filter(|(candidate, _)| candidate.weight > 0);
        let resting = weighted.filter(|(_, endpoint)| endpoint.breaker.state() != BreakerState::Closed);
        match resting.map(|(_, endpoint)| endpoint.breaker.rests_for()).min() {
            Some(rest) => Fault::new(FaultKind::BreakerOpen)
                .cause(self.name.to_string())
                .header(RETRY_AFTER, HeaderValue::from(whole_seconds(rest)))
                .unsent(),
            None => Fault::new(FaultKind::NoEndpoint).cause(self.name.to_string()).unsent(),
        }
    }
}

/// `Retry-After` knows only whole seconds; zero would invite a storm.
fn whole_seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

impl Attempt {
    /// The endpoint.
    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.upstream.endpoints[self.index]
    }

    /// The request is about to be sent, on a connection that is there.
    pub(super) fn begin(&self) -> Instant {
        self.begun.set(Instant::now());
        self.begun.get()
    }

    /// A response head came that speaks for the endpoint.
    pub(super) fn answered(&self) {
        tell(self, Sign::Answered { within: self.begun.get().elapsed() });
    }

    /// The whole response came.
    pub(super) fn completed(&self) {
        if !self.failed.get() {
            tell(self, Sign::Completed);
        }
    }

    /// The endpoint failed. Only the first failure of an attempt counts.
    pub(super) fn failed(&self, failing: Failing) {
        if !self.failed.replace(true) {
            tell(self, Sign::Failed(failing));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let endpoint = self.endpoint();
        endpoint.active.fetch_sub(1, Ordering::Relaxed);
        endpoint.breaker.leave(self.pass);
    }
}
