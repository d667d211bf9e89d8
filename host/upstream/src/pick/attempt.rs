//! An attempt: one endpoint picked for one request, after its breaker has let the request through. The endpoint
//! counts the request as in flight until the attempt is dropped.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use witgate_config::model::{OnUnhealthy, Statuses};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::Code;
use witgate_exchange::turn;

use crate::breaker::Call;
use crate::endpoint::{Availability, Endpoint};
use crate::observe::conduct::{connected, note_change};
use crate::observe::{Extent, Failing, Observation, notify};
use crate::request::affinity::Affinity;
use crate::send::upload::Progress;
use crate::set::{EndpointSet, Member};
use crate::{BreakerState, Upstream};

/// A request that is being sent to an endpoint. If it is dropped undecided because the client went away, that
/// counts neither for nor against the endpoint.
pub(crate) struct Attempt {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) member: Arc<Member>,
    pub(crate) call: Call,
    /// When sending began. Until then, when the endpoint was picked.
    begun: Cell<Instant>,
    /// Whether sending has begun.
    sent: Cell<bool>,
    /// The progress of the request body, if it streams.
    upload: RefCell<Option<Rc<Progress>>>,
    /// Whether an earlier attempt of the request has reported a failure.
    repeats: Cell<bool>,
    /// Whether the endpoint has failed. The end of its response is no success then.
    failed: Cell<bool>,
    /// The status of the response. `None` if there is no response yet.
    status: Cell<Option<StatusCode>>,
    /// The gRPC status of the response, if it is one of gRPC.
    grpc: Cell<Option<GrpcOutcome>>,
    /// The deadline of the request, if only the response of the endpoint is missing.
    due: Cell<Option<Instant>>,
    /// How often the endpoint had become unhealthy when it was picked.
    times_unhealthy: u32,
}

/// How a call of gRPC ended, as far as it is known.
#[derive(Debug, Clone, Copy)]
struct GrpcOutcome {
    code: Option<Code>,
    caller_sets_deadline: bool,
}

/// The gRPC status of a response, if its head tells: that of a response which consists of trailers only, or what clients
/// make of another status than 200.
pub(crate) fn grpc_code<B>(response: &Response<B>) -> Option<Code> {
    let by_status = || (response.status() != StatusCode::OK).then(|| Code::of_answer(response.status()));
    Code::among(response.headers()).or_else(by_status)
}

impl Upstream {
    /// Picks an endpoint that takes requests and was not tried before: the endpoint of the request's session, or
    /// else the one that the balancer picks.
    ///
    /// # Errors
    /// `BreakerOpen` with `Retry-After` if open or half-open breakers are the only reason, else `NoEndpoint`.
    pub(crate) fn pick(
        self: &Arc<Self>,
        affinity: &Affinity,
        tried: &[Arc<Member>],
    ) -> Result<Attempt, Fault> {
        let set = self.set.load();
        let is_untried = |member: &Member| !tried.iter().any(|tried| tried.is_same_endpoint(member));
        let usable = |member: &Member| is_untried(member) && self.would_take(member, set.view.panics);
        let session = affinity.session.as_ref().map(|session| &session.member);
        if let Some(member) = session.filter(|member| member.is_wanted() && usable(member))
            && let Some(attempt) = self.enter(member)
        {
            return Ok(attempt);
        }
        // Another core may take the only half-open probe between the check and the entry. The next check then sees
        // that.
        for _ in 0..set.entries.len() {
            let Some(member) = set.view.pick(affinity.hash, &usable) else { break };
            if let Some(attempt) = self.enter(member) {
                return Ok(attempt);
            }
        }
        let may_panic = tried.is_empty() && self.config.panic_below > 0.0;
        self.last_resort(&set, may_panic, is_untried).ok_or_else(|| self.no_endpoint(&set))
    }

    /// The view may be slightly outdated, so all endpoints are checked before a request is refused. If none is
    /// usable, and not only because the others were tried, unhealthy endpoints are used as well (panic).
    fn last_resort(
        self: &Arc<Self>,
        set: &EndpointSet,
        may_panic: bool,
        is_untried: impl Fn(&Member) -> bool,
    ) -> Option<Attempt> {
        let (before, after) = set.entries.split_at(fastrand::usize(..set.entries.len().max(1)));
        let all = || after.iter().chain(before).map(|entry| &entry.member);
        let panics: &[bool] = if may_panic { &[false, true] } else { &[false] };
        panics.iter().find_map(|panics| {
            all()
                .filter(|member| {
                    is_untried(member) && self.would_take(member, *panics) && member.weight() > 0
                })
                .find_map(|member| self.enter(member))
        })
    }

    /// Takes an endpoint, if its breaker lets the request through.
    fn enter(self: &Arc<Self>, member: &Arc<Member>) -> Option<Attempt> {
        let endpoint = member.endpoint();
        let (call, change) = endpoint.breaker.enter(&self.config.breaker)?;
        note_change(&self.carried.events, Some(&endpoint.name), change, "");
        endpoint.active.fetch_add(1, Ordering::Relaxed);
        if let Some(in_flight) = &member.in_flight {
            in_flight.fetch_add(1, Ordering::Relaxed);
        }
        Some(Attempt {
            upstream: self.clone(),
            member: member.clone(),
            call,
            begun: Cell::new(turn::now()),
            sent: Cell::new(false),
            upload: RefCell::new(None),
            repeats: Cell::new(false),
            failed: Cell::new(false),
            status: Cell::new(None),
            grpc: Cell::new(None),
            due: Cell::new(None),
            times_unhealthy: endpoint.health.times_unhealthy(),
        })
    }

    /// Whether some endpoint is likely to take a request.
    ///
    /// # Errors
    /// As [`Upstream::pick`].
    pub(crate) fn look(&self) -> Result<(), Fault> {
        let (set, panics) = (self.set.load(), self.config.panic_below > 0.0);
        let takes = set.members().any(|member| member.weight() > 0 && self.would_take(member, panics));
        if takes { Ok(()) } else { Err(self.no_endpoint(&set)) }
    }

    /// Whether an endpoint would take a request now: the last check of a pick.
    pub(crate) fn would_take(&self, member: &Member, panics: bool) -> bool {
        let endpoint = member.endpoint();
        let passes = || endpoint.breaker.would_pass(&self.config.breaker);
        match endpoint.availability() {
            Availability::Available => true,
            Availability::Probing => passes(),
            Availability::Unhealthy => panics && passes(),
            Availability::Resting | Availability::Drained | Availability::NotReady | Availability::Stale => {
                false
            }
        }
    }

    /// Whether requests that wait at an endpoint go to another one when its checks fail.
    pub(crate) fn moves_from_unhealthy(&self) -> bool {
        self.plan.as_ref().is_some_and(|plan| plan.settings.on_unhealthy == OnUnhealthy::Retry)
    }

    /// Whether an endpoint other than this one takes requests.
    fn has_other(&self, than: &Member) -> bool {
        let set = self.set.load();
        set.members().any(|member| {
            !member.is_same_endpoint(than) && member.is_wanted() && self.would_take(member, false)
        })
    }

    fn no_endpoint(&self, set: &EndpointSet) -> Fault {
        let wanted = set.members().filter(|member| member.is_wanted()).map(|member| member.endpoint());
        let resting = wanted.filter(|endpoint| endpoint.breaker.state() != BreakerState::Closed);
        match resting.map(|endpoint| endpoint.breaker.rests_for()).min() {
            Some(rest) => Fault::new(FaultKind::BreakerOpen)
                .cause(format!("{}: no endpoint takes requests: {}", self.name, self.reasons(set)))
                .header(RETRY_AFTER, HeaderValue::from(whole_seconds(rest)))
                .unsent(),
            None => Fault::new(FaultKind::NoEndpoint)
                .cause(format!("{}: no endpoint takes requests: {}", self.name, self.reasons(set)))
                .unsent(),
        }
    }

    /// How many endpoints of the upstream are in which state, for the log.
    fn reasons(&self, set: &EndpointSet) -> String {
        if set.entries.is_empty() {
            return "there are none".to_owned();
        }
        let mut counts = BTreeMap::new();
        for member in set.members() {
            let endpoint = member.endpoint();
            let state = match endpoint.availability() {
                Availability::Available if !member.is_wanted() => "of weight 0",
                Availability::Available => "available, but already tried",
                Availability::Probing => "with a breaker that is probing",
                Availability::Resting => "with an open breaker or ejected",
                Availability::Unhealthy => "unhealthy",
                Availability::Drained => "drained",
                Availability::NotReady => "not ready",
                Availability::Stale => "not confirmed by their source for too long",
            };
            *counts.entry(state).or_insert(0) += 1;
        }
        let told: Vec<_> = counts.into_iter().map(|(state, count)| format!("{count} {state}")).collect();
        told.join(", ")
    }
}

/// `Retry-After` has whole seconds only. It is at least 1, because with 0 all clients would return at once.
pub(crate) fn whole_seconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u64::MAX).max(1)
}

impl Attempt {
    /// The endpoint.
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        self.member.endpoint()
    }

    /// The failure that a response with this status stands for, if the status is one of `failures`.
    pub(crate) fn failing_by(&self, status: StatusCode, failures: Statuses) -> Option<Failing> {
        let counts = failures.contains(status.as_u16());
        counts.then(|| Failing::by(status).repeated(self.repeats.get()))
    }

    /// The status of the response. `None` if there is no response yet.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        self.status.get()
    }

    /// Marks that an earlier attempt of the same request has reported a failure. Of this attempt, only a success
    /// counts, or that the endpoint could not be reached.
    pub(crate) fn repeats(&self) {
        self.repeats.set(true);
    }

    /// How long the endpoint has had everything that the gateway has received of the request.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since().elapsed()
    }

    /// How long the endpoint has had everything that the gateway has received of the request. `None` if sending
    /// has not begun, or if the gateway waits for the next piece of the body.
    pub(crate) fn waited(&self) -> Option<Duration> {
        let awaited = self.upload.borrow().as_ref().is_some_and(|upload| upload.is_awaited());
        (self.sent.get() && !awaited).then(|| self.elapsed())
    }

    /// When sending began. Until then, when the endpoint was picked.
    pub(crate) fn begun(&self) -> Instant {
        self.begun.get()
    }

    /// Since when the endpoint has had everything that the gateway has received of the request. Thus a client that
    /// sends slowly does not make the endpoint appear slow.
    pub(crate) fn since(&self) -> Instant {
        let begun = self.begun.get();
        self.upload.borrow().as_ref().map_or(begun, |upload| upload.last().max(begun))
    }

    /// Called when there is a connection and the request is about to be sent. If nothing was waited for since the
    /// endpoint was picked, the clock is not read again. `upload` is the progress of the body, if it streams.
    pub(crate) fn begin(&self, waited: bool, upload: Option<Rc<Progress>>) -> Instant {
        let again = self.sent.replace(true);
        if again || waited {
            self.begun.set(turn::now());
        }
        if !again {
            connected(self);
        }
        if upload.is_some() {
            self.upload.replace(upload);
        }
        self.begun.get()
    }

    /// From now on only the response of the endpoint is missing. If the attempt is dropped without one after the
    /// deadline, the endpoint is at fault. If it is dropped earlier, the client went away, which shows nothing
    /// about the endpoint.
    pub(crate) fn owe_answer_by(&self, deadline: Option<Instant>) {
        self.due.set(deadline);
    }

    /// Whether the endpoint has checks, so that [`Attempt::checks_failed`] may end.
    pub(crate) fn is_checked(&self) -> bool {
        self.upstream.plan.is_some()
    }

    /// Waits until the checks of the endpoint have failed and the request is to leave it for that reason
    /// (`health.on_unhealthy`). Returns the fault of this attempt. Never ends if the request is to wait on: there is no
    /// other endpoint, or it may not be sent to one, which `is_movable` says.
    pub(crate) async fn checks_failed(&self, is_movable: impl Fn() -> bool) -> Fault {
        let Some(plan) = &self.upstream.plan else { return std::future::pending().await };
        self.endpoint().health.until_unhealthy(self.times_unhealthy).await;
        let moves = plan.settings.on_unhealthy == OnUnhealthy::Retry;
        if moves && !(is_movable() && self.upstream.has_other(&self.member)) {
            return std::future::pending().await;
        }
        Fault { checks_failed: moves, ..self.endpoint().unhealthy() }
    }

    /// A future that ends when the response of the endpoint is to be cut off, because its checks have failed and
    /// `health.on_unhealthy` is `reset`. `None` if that cannot happen.
    pub(crate) fn reset_by_checks(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let plan = self.upstream.plan.as_ref()?;
        let resets = plan.settings.on_unhealthy == OnUnhealthy::Reset;
        let (endpoint, times_unhealthy) = (Arc::clone(self.endpoint()), self.times_unhealthy);
        resets.then(|| Box::pin(async move { endpoint.health.until_unhealthy(times_unhealthy).await }) as _)
    }

    /// A response head came that counts for the endpoint, this long after sending began.
    pub(crate) fn answered(&self, status: StatusCode, within: Duration) {
        self.status.set(Some(status));
        match self.failing_by_grpc() {
            // The balancer must not take a quick refusal for a quick endpoint.
            Some(failing) => self.failed(failing),
            None => notify(self, Observation::Answered { within, status }),
        }
    }

    /// The request is a call of gRPC. The gRPC status of its response may be known with its head. `caller_sets_deadline`
    /// is whether the deadline of the call is the caller's own.
    pub(crate) fn is_call(&self, known: Option<Code>, caller_sets_deadline: bool) {
        self.grpc.set(Some(GrpcOutcome { code: known, caller_sets_deadline }));
    }

    /// The trailers of the response came.
    pub(crate) fn trailers(&self, trailers: &HeaderMap) {
        if let Some(outcome) = self.grpc.get() {
            self.grpc.set(Some(GrpcOutcome { code: Code::among(trailers).or(outcome.code), ..outcome }));
        }
    }

    /// The failure that the gRPC status stands for, if it is one of those in the configuration. A deadline that the caller
    /// has set passes at the best of endpoints.
    fn failing_by_grpc(&self) -> Option<Failing> {
        let GrpcOutcome { code, caller_sets_deadline } = self.grpc.get()?;
        let code = code?;
        let of_caller = caller_sets_deadline && code == Code::DEADLINE_EXCEEDED;
        let counts = !of_caller && self.upstream.config.grpc_failures.contains(&code.number());
        counts.then(|| Failing::by_grpc(code))
    }

    /// The whole response has come. One of gRPC that ended without a status is `UNKNOWN` to every client.
    pub(crate) fn completed(&self) {
        if let Some(outcome @ GrpcOutcome { code: None, .. }) = self.grpc.get() {
            self.grpc.set(Some(GrpcOutcome { code: Some(Code::UNKNOWN), ..outcome }));
        }
        if let Some(failing) = self.failing_by_grpc() {
            return self.failed(failing);
        }
        if let (Some(status), false) = (self.status.get(), self.failed.get()) {
            notify(self, Observation::Completed { status });
        }
    }

    /// The endpoint failed. Only the first failure of an attempt counts.
    pub(crate) fn failed(&self, failing: Failing) {
        if !self.failed.replace(true) {
            notify(self, Observation::Failed(failing.repeated(self.repeats.get())));
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.status.get().is_none() && self.due.get().is_some_and(|due| Instant::now() >= due) {
            self.failed(Failing::of(&Fault::new(FaultKind::RequestTimeout), Extent::Reached));
        }
        let endpoint = self.endpoint();
        endpoint.active.fetch_sub(1, Ordering::Relaxed);
        if let Some(in_flight) = &self.member.in_flight {
            in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        notify(self, Observation::Ended);
    }
}
