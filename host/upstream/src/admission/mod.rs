//! Admission of requests to an upstream, before an endpoint is picked: the upstream's breaker, permits, and the
//! queue.
//!
//! | part | module | what it does |
//! |---|---|---|
//! | breaker | [`breaker`](super::breaker) | refuses requests while the breaker of the upstream as a whole is open |
//! | permits | `permits` | limits the requests in flight; other requests wait in a queue that considers deadlines |
//! | limit | `concurrency` | computes the limit from the latency of responses |
//! | shedding | `shedding` | detects when requests begin to be dropped, and when that has ended |
//! | watch | `watch` | holds the permit until the response has ended |
//!
//! One admission covers one delivery, including its retries, and reports to the upstream's breaker the result that
//! the caller got in the end. For an upstream without these settings, admission is one branch.

mod concurrency;
mod permits;
mod shedding;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderValue, Response};
use http_body::Body as _;
use tokio::time::timeout_at;
use witgate_config::model;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::Upstream;
use super::breaker::{Breaker, Call, Change};
use super::deliver::{AttemptLog, deliver};
use super::observe::{Extent, Failing};
use super::request::UpstreamRequest;
use super::send::Failure;
use crate::observe::conduct::note_change;
use crate::observe::events::EventKind;
use crate::pick::attempt::whole_seconds;
use crate::response::failure::blames_endpoint;
use crate::response::observed_body::ObservedBody;
use permits::{Acquire, Acquired, Permit, Permits, Waiter};
use shedding::Shedding;
use watch::Watch;

/// The admission state that all cores share. Carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Admissions {
    pub(crate) breaker: Breaker,
    pub(crate) permits: Arc<Permits>,
    pub(crate) shedding: Shedding,
}

/// One admitted request. If it is dropped undecided because the client went away, that counts neither for nor
/// against the upstream, unless the client had to wait for too long.
pub(crate) struct Admission {
    upstream: Arc<Upstream>,
    /// When the request was admitted. `None` while it waits, because that wait does not count as slowness of the
    /// upstream.
    begun: Option<Instant>,
    /// Whether the request body streams. Then the client may be the one that is slow.
    streams: bool,
    deadline: Option<Instant>,
    /// `Some` if the upstream has a breaker.
    call: Option<Call>,
    /// `Some` if the requests in flight are limited.
    _place: Option<Permit>,
}

/// Whether requests to an upstream need admission.
pub(crate) fn is_guarded(config: &model::Upstream) -> bool {
    config.upstream_breaker.is_some() || limits_requests(config)
}

/// Whether an upstream limits its requests in flight.
pub(crate) fn limits_requests(config: &model::Upstream) -> bool {
    config.max_requests > 0 || config.concurrency.is_some()
}

/// Delivers a request after its admission, and holds its permit until the response has ended.
pub(crate) async fn deliver_admitted(
    upstream: &Arc<Upstream>,
    order: &UpstreamRequest<'_>,
    body: Body,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<Response<Body>, Failure> {
    if !upstream.guarded {
        return deliver(upstream, order, body, deadline, notes).await.map_err(Failure::from);
    }
    let streams = !matches!(body, Body::Full(_)) && !body.is_end_stream();
    let admission = match upstream.admit(deadline, streams).await {
        Ok(admission) => admission.for_deadline_of(order),
        Err(fault) => return Err(Failure::unsent(fault, body)),
    };
    match deliver(upstream, order, body, deadline, notes).await {
        Ok(mut response) => {
            let uploaded = notes.upload.as_ref().map(|upload| upload.last());
            admission.hold(&mut response, uploaded);
            Ok(response)
        }
        Err(fault) => {
            admission.failed(&fault);
            Err(fault.into())
        }
    }
}

impl Upstream {
    /// Admits a request, or waits until it can be admitted.
    ///
    /// # Errors
    /// `BreakerOpen` with `Retry-After`; `UpstreamOverloaded`; both unsent.
    pub(crate) async fn admit(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        streams: bool,
    ) -> Result<Admission, Fault> {
        let mut admission = Admission {
            upstream: self.clone(),
            begun: None,
            streams,
            deadline,
            call: self.pass_breaker()?,
            _place: None,
        };
        if limits_requests(&self.config) {
            admission._place = Some(self.take_place(deadline).await?);
        }
        admission.begun = Some(Instant::now());
        Ok(admission)
    }

    fn pass_breaker(&self) -> Result<Option<Call>, Fault> {
        let Some(settings) = &self.config.upstream_breaker else { return Ok(None) };
        let breaker = &self.carried.admissions.breaker;
        let Some((call, change)) = breaker.enter(settings) else {
            let rest = HeaderValue::from(whole_seconds(breaker.rests_for()));
            return Err(Fault::new(FaultKind::BreakerOpen)
                .cause(format!("{}: the upstream as a whole rests", self.name))
                .header(RETRY_AFTER, rest)
                .unsent());
        };
        note_change(&self.carried.events, None, change, "");
        Ok(Some(call))
    }

    async fn take_place(&self, deadline: Option<Instant>) -> Result<Permit, Fault> {
        let permits = &self.carried.admissions.permits;
        let acquire = Acquire {
            max_requests: self.config.max_requests,
            concurrency: self.config.concurrency,
            max_pending: self.config.max_pending,
            deadline,
        };
        match permits.ask(&acquire) {
            Acquired::Permit(place) => Ok(place),
            Acquired::Full => Err(self.overloaded("too many requests wait for their turn")),
            Acquired::Late => Err(self.overloaded("its deadline is too near to wait for a turn")),
            Acquired::Queued(waiter) => self.wait_for_turn(waiter, deadline).await,
        }
    }

    async fn wait_for_turn(&self, mut waiter: Waiter, deadline: Option<Instant>) -> Result<Permit, Fault> {
        let permits = &self.carried.admissions.permits;
        let patience = Instant::now() + self.config.pending_timeout;
        let latest = permits.latest_start(deadline).map_or(patience, |latest| latest.min(patience));
        match timeout_at(latest.into(), &mut waiter.grant).await {
            // The expected latency may have changed while the request waited.
            Ok(Ok(place)) if !permits.is_late(deadline) => Ok(place),
            Ok(Ok(_)) => Err(self.overloaded("its turn came too late to be answered in time")),
            _ if latest < patience => Err(self.overloaded("it could no longer be answered in time")),
            _ => Err(self.overloaded("its turn did not come in time")),
        }
    }

    fn overloaded(&self, cause: &'static str) -> Fault {
        Fault::new(FaultKind::UpstreamOverloaded).cause(format!("{}: {cause}", self.name)).unsent()
    }

    /// Records the latency of an attempt until its response head, or until it failed.
    pub(crate) fn observe_latency(&self, took: Duration) {
        if !limits_requests(&self.config) {
            return;
        }
        let Some(told) = self.carried.admissions.permits.observe(took, self.config.concurrency.as_ref())
        else {
            return;
        };
        let kind = if told.lowered { EventKind::ConcurrencyLowered } else { EventKind::ConcurrencyRaised };
        self.carried.events.record(kind, None, format!("the limit is {}", told.limit));
    }

    /// Records that a request was dropped because the upstream is at its limits.
    pub(crate) fn note_shed(&self, fault: &Fault) {
        if self.carried.admissions.shedding.dropped() {
            let why = fault.cause.as_deref().unwrap_or_default();
            let why = why.strip_prefix(&*self.name).map_or(why, |why| why.trim_start_matches(": "));
            self.carried.events.record(EventKind::SheddingBegan, None, why);
        }
    }

    /// Checks whether requests are no longer dropped. Called by the keeper.
    pub(crate) fn note_calm(&self) {
        if let Some(dropped) = self.carried.admissions.shedding.calmed_down() {
            let why = format!("{dropped} requests were dropped");
            self.carried.events.record(EventKind::SheddingEnded, None, why);
        }
    }
}

impl Admission {
    /// A deadline that the caller has set passes at the best of upstreams, so it does not count.
    fn for_deadline_of(mut self, order: &UpstreamRequest<'_>) -> Self {
        self.deadline = self.deadline.filter(|_| !order.caller_sets_deadline());
        self
    }

    /// Called when the response head has come. The permit is held until the body has ended; a tunnel holds none.
    /// `uploaded` is when the last piece of a streaming request body was taken. The time before it may be due to
    /// the client.
    fn hold(self, response: &mut Response<Body>, uploaded: Option<Instant>) {
        let status = response.status();
        let settings = self.upstream.config.upstream_breaker.as_ref();
        if settings.is_some_and(|settings| settings.statuses.contains(status.as_u16())) {
            self.fail(Failing::by(status));
        } else {
            let since = self.begun.max(uploaded);
            let within = since.map_or(Duration::ZERO, |since| since.elapsed());
            self.notify(|call, breaker, settings| call.answered(breaker, within, settings), "");
        }
        match response.body_mut() {
            Body::Empty | Body::Full(_) => self.completed(),
            body => *body = Body::wrap(ObservedBody::new(std::mem::take(body), Watch::new(self))),
        }
    }

    /// The upstream has accepted a connection, this long after it was asked.
    pub(crate) fn connected(&self, within: Duration) {
        self.notify(|call, breaker, settings| call.answered(breaker, within, settings), "");
    }

    /// The response has ended, or the connection.
    pub(crate) fn completed(&self) {
        self.notify(|call, breaker, settings| call.completed(breaker, settings), "");
    }

    /// Reports a fault to the breaker. Faults of the client and limits of the gateway count neither for nor
    /// against the upstream.
    pub(crate) fn failed(&self, fault: &Fault) {
        let out_of_time = fault.kind == FaultKind::RequestTimeout && !self.streams && self.deadline.is_some();
        if blames_endpoint(fault) || out_of_time {
            self.fail(Failing::of(fault, Extent::Reached));
        }
    }

    /// Every failure counts, because the upstream as a whole has no alternative.
    fn fail(&self, failing: Failing) {
        let all = || Some(());
        let failed = |call: &Call, breaker: &Breaker, settings: &model::Breaker| {
            call.failed(breaker, failing.failure(), settings, all)
        };
        self.notify(failed, &failing.to_string());
    }

    fn notify(&self, say: impl Fn(&Call, &Breaker, &model::Breaker) -> Option<Change>, last: &str) {
        if let (Some(call), Some(settings)) = (&self.call, &self.upstream.config.upstream_breaker) {
            let change = say(call, &self.upstream.carried.admissions.breaker, settings);
            note_change(&self.upstream.carried.events, None, change, last);
        }
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if self.call.is_none() {
            return;
        }
        // The caller drops this future when the deadline of the request has passed.
        let out_of_time = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if out_of_time && !self.streams && self.begun.is_some() {
            let code = FaultKind::RequestTimeout.describe().code;
            self.notify(|call, breaker, settings| call.out_of_time(breaker, settings), code);
        }
        let waited = || self.begun.filter(|_| !self.streams).map(|begun| begun.elapsed());
        self.notify(|call, breaker, settings| call.abandoned(breaker, waited, settings), "");
    }
}
