//! Decides which endpoints are tried for one request, and how often.
//!
//! A request that was not sent, or that the endpoint says it did not process, goes to another endpoint at once,
//! whatever its method. A request that may have been processed is sent again only if its method is idempotent (RFC
//! 9110 section 9.2.2) or the configuration says that the service recognises repeated requests. It is never sent
//! again if it asks for an upgrade. It is sent after a wait, within the retry budget, and to another endpoint as
//! long as one is usable. Once a response head has been handed out, nothing is sent again: if the body breaks off
//! later, the client sees it.
//!
//! | step | module | what happens |
//! |---|---|---|
//! | replay body | `replay_body` | supplies the body, and keeps it if it may be needed again |
//! | send | `hedge` | makes one attempt, or several at once if it takes long (`latency` decides what is long) |
//! | judge | `rules` | decides whether the outcome is a reason to send the request again |
//! | limit | `budget`, `backoff` | decides whether the retry budget allows it, and when |
//!
//! A request that succeeds at the first attempt allocates nothing here, and starts no timer.

mod backoff;
mod budget;
mod hedge;
mod latency;
mod replay_body;
mod rules;
mod tries;

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::Response;
use tokio::time::timeout_at;
use witgate_config::model::UpstreamProtocol;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::grpc::Code;
use witgate_exchange::record::{Repeat, Why};
use witgate_exchange::replay::Room;
use witgate_exchange::turn;
use witgate_wire::stream::Stream;

use super::Upstream;
use super::endpoint::Endpoint;
use super::observe::Extent;
use super::request::UpstreamRequest;
use super::send::{Failure, conclude, send};
use super::set::Member;
use crate::pick::attempt::Attempt;
use crate::send::upload::Progress;
pub(crate) use latency::Latencies;
use replay_body::ReplayBody;
pub(crate) use replay_body::Supplied;
pub(crate) use rules::Rules;
use rules::{Reason, pushback};
use tries::Outcome;
pub use tries::TriesStatus;
pub(crate) use tries::{Copied, Counts, Tries};

/// What is recorded about an exchange for the access log.
#[derive(Default)]
pub(crate) struct AttemptLog {
    /// The endpoint that was asked last.
    pub(crate) endpoint: Option<Arc<str>>,
    pub(crate) attempts: u32,
    /// When the attempt in progress was begun to be sent. `None` if none is in progress.
    under_way: Option<Instant>,
    /// How long the last attempt took, if it has ended.
    pub(crate) time: Option<Duration>,
    /// The progress of the request body, if it streams and the response has begun.
    pub(crate) upload: Option<Rc<Progress>>,
    /// The endpoint's side of a tunnel, if the endpoint responded with 101.
    pub(crate) switched: Option<Stream>,
    /// Why there was more than one attempt.
    pub(crate) repeats: Vec<Repeat>,
    /// The upstream that was used instead of the chosen one.
    pub(crate) instead: Option<Arc<str>>,
    /// Whether the response is a fallback that did not come from an upstream.
    pub(crate) local: bool,
}

impl AttemptLog {
    /// An endpoint is about to be asked.
    pub(crate) fn begin(&mut self, endpoint: &Endpoint) {
        self.endpoint = Some(endpoint.name.clone());
        self.under_way = None;
        self.time = None;
    }

    /// The request is about to be sent to it.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.attempts += 1;
        self.under_way = Some(now);
    }

    /// Nothing of the request was sent after all.
    pub(crate) fn unsent(&mut self) {
        self.attempts -= 1;
        self.time = None;
    }

    /// Takes over the endpoint and the times of the attempt whose result is used.
    fn take_attempt(&mut self, other: AttemptLog) {
        (self.endpoint, self.under_way, self.time) = (other.endpoint, other.under_way, other.time);
    }

    /// The attempt has ended: there is a response head, or there will be none.
    pub(crate) fn ended(&mut self, now: Instant) {
        if let Some(begun) = self.under_way.take() {
            self.time = Some(now - begun);
        }
    }
}

/// Tries endpoints until one gives an acceptable response, or nothing more may be tried.
pub(crate) async fn deliver(
    upstream: &Arc<Upstream>,
    order: &UpstreamRequest<'_>,
    body: Body,
    deadline: Option<Instant>,
    notes: &mut AttemptLog,
) -> Result<Response<Body>, Fault> {
    upstream.carried.tries.budget.count();
    let mut delivery = Delivery::begin(upstream, order, body, deadline);
    let mut before: Option<Box<FailedAttempt>> = None;
    loop {
        let attempt = match delivery.pick() {
            Ok(attempt) => attempt,
            Err(fault) => return before.map_or(Err(fault), |before| before.outcome),
        };
        // The unacceptable response is dropped only now, when another endpoint has been found.
        let reason = before.take().map(|before| before.reason);
        let body = delivery.replay_body(&attempt)?;
        let outcome = match upstream.config.hedge {
            // Boxed, so that requests that are not hedged do not carry the state for it.
            Some(hedge) if delivery.repeatable => Box::pin(delivery.hedge(hedge, attempt, body, notes)).await,
            _ => {
                let sent = send(&attempt, order, body, deadline, notes).await;
                conclude(attempt, sent, deadline, notes)
            }
        };
        let outcome = outcome.map_err(|failure| delivery.take_back(failure));
        if let Some(reason) = reason {
            let became = if outcome.is_ok() { Outcome::Answered } else { Outcome::Failed };
            upstream.carried.tries.counts.retried(reason, became);
        }
        match delivery.again(outcome.as_ref(), notes).await {
            Some(reason) => before = Some(Box::new(FailedAttempt { reason, outcome })),
            None => return outcome,
        }
    }
}

/// The outcome of an attempt.
type Came<'a> = Result<&'a Response<Body>, &'a Fault>;

/// An attempt whose outcome was not acceptable, and why.
struct FailedAttempt {
    reason: Reason,
    outcome: Result<Response<Body>, Fault>,
}

/// One request, with all its attempts.
struct Delivery<'a> {
    upstream: &'a Arc<Upstream>,
    order: &'a UpstreamRequest<'a>,
    deadline: Option<Instant>,
    replay_body: ReplayBody,
    /// Whether the request may be sent again although it may have been processed.
    repeatable: bool,
    /// The number of attempts so far, without hedges.
    made: u32,
    /// The endpoint whose result the latest attempt returned. `hedged` has the other endpoints that it asked.
    latest: Option<Arc<Member>>,
    hedged: Vec<Arc<Member>>,
    tried: Tried,
    /// Whether an attempt has reported a failure. The request itself may be the cause, so later failures of it do
    /// not count again.
    told: bool,
}

/// Endpoints that were tried. Those that must not be tried again come first.
#[derive(Default)]
struct Tried {
    members: Vec<Arc<Member>>,
    barred: usize,
}

impl Tried {
    fn add(&mut self, member: Arc<Member>, bar: bool) {
        if let Some(position) = self.members.iter().position(|known| known.is_same_endpoint(&member)) {
            if !bar || position < self.barred {
                return;
            }
            self.members.remove(position);
        }
        if bar {
            self.members.insert(self.barred, member);
            self.barred += 1;
        } else {
            self.members.push(member);
        }
    }

    fn barred(&self) -> &[Arc<Member>] {
        &self.members[..self.barred]
    }
}

/// The memory in which a streaming body may be kept. `None` if the body would never be needed again. Over HTTP/2
/// it may be needed for every request, because an endpoint may say that it did not process the request.
fn room(upstream: &Upstream, order: &UpstreamRequest<'_>) -> Option<Room> {
    let may_be_refused = upstream.config.protocol == UpstreamProtocol::Http2;
    let may_move = order.rules.attempts() > 1 || upstream.moves_from_unhealthy();
    let wanted = may_be_refused || (order.is_repeatable() && may_move);
    wanted.then(|| Room {
        each: upstream.config.retry.body_bytes,
        all: upstream.config.retry.all_body_bytes,
        taken: upstream.carried.tries.kept.clone(),
    })
}

impl<'a> Delivery<'a> {
    fn begin(
        upstream: &'a Arc<Upstream>,
        order: &'a UpstreamRequest<'a>,
        body: Body,
        deadline: Option<Instant>,
    ) -> Delivery<'a> {
        let repeatable = order.is_repeatable();
        Delivery {
            upstream,
            order,
            deadline,
            replay_body: ReplayBody::new(body, room(upstream, order), order.body_memory),
            repeatable,
            made: 0,
            latest: None,
            hedged: Vec::new(),
            tried: Tried::default(),
            told: false,
        }
    }

    /// Picks an endpoint that was not tried yet, or else one that may be tried again.
    fn pick(&self) -> Result<Attempt, Fault> {
        let picked = self.upstream.pick(&self.order.affinity, &self.tried.members);
        let attempt = match picked {
            Err(_) if self.tried.barred < self.tried.members.len() => {
                self.upstream.pick(&self.order.affinity, self.tried.barred())
            }
            picked => picked,
        }?;
        if self.told {
            attempt.repeats();
        }
        Ok(attempt)
    }

    /// Supplies the body for another attempt.
    fn replay_body(&mut self, attempt: &Attempt) -> Result<Supplied, Fault> {
        let unsupplied = || Fault::new(FaultKind::Internal).cause("the body is gone");
        self.latest = Some(attempt.member.clone());
        self.made += 1;
        self.replay_body.next().ok_or_else(unsupplied)
    }

    /// Takes back the body of an attempt that sent nothing of it, and records whether the attempt has reported a
    /// failure.
    fn take_back(&mut self, failure: Failure) -> Fault {
        self.told |= failure.extent.is_some_and(|extent| extent != Extent::Unreached);
        if let Some(unsent) = failure.body {
            self.replay_body.put_back(*unsent);
        }
        failure.fault
    }

    /// Waits until the request is to be sent again, and returns why. `None` if this outcome is final.
    async fn again(&mut self, outcome: Came<'_>, notes: &mut AttemptLog) -> Option<Reason> {
        let rules = &self.order.rules;
        let reason = match outcome {
            Ok(answer) => {
                self.told |= self.upstream.calls_failure(answer.status())
                    || (self.order.grpc && self.upstream.calls_grpc_failure(answer));
                rules.after_answer(answer.status(), answer.headers(), self.repeatable)
            }
            Err(fault) => rules.after_fault(fault, self.repeatable),
        }?;
        for member in self.latest.iter().cloned().chain(std::mem::take(&mut self.hedged)) {
            self.tried.add(member, reason.bars_endpoint());
        }
        if reason == Reason::Unhealthy {
            // The configured attempts are those at endpoints that work. There are at most as many moves as endpoints.
            self.made -= 1;
        }
        if self.made >= rules.attempts() || !self.replay_body.is_left() || !self.has_endpoint() {
            return None;
        }
        let why = why(outcome, reason);
        if !reason.is_free() {
            let wait = self.wait(outcome)?;
            if !self.upstream.carried.tries.budget.take(&rules.upstream.budget) {
                self.upstream.carried.tries.counts.retried(reason, Outcome::BudgetExhausted);
                self.note(Why::BudgetExhausted, notes);
                return None;
            }
            if !wait.is_zero() {
                Box::pin(tokio::time::sleep(wait)).await;
            }
        }
        self.note(why, notes);
        Some(reason)
    }

    /// Whether there is an endpoint that may be tried again.
    fn has_endpoint(&self) -> bool {
        let (barred, set) = (self.tried.barred(), self.upstream.set.load());
        set.members().any(|member| {
            !barred.iter().any(|barred| barred.is_same_endpoint(member))
                && member.is_wanted()
                && self.upstream.would_take(member, set.view.panics)
        })
    }

    /// The wait before the next attempt. `None` if it is longer than the time left.
    fn wait(&self, outcome: Came<'_>) -> Option<Duration> {
        let retry = self.order.rules.upstream;
        let backoff = backoff::wait(&retry.backoff, self.made, fastrand::f64());
        let asked_for = match outcome {
            Ok(answer) => {
                let pushback = pushback(answer.headers()).flatten().filter(|_| self.order.grpc);
                let asked_for = || backoff::asked_for(answer.headers(), SystemTime::now());
                pushback.or_else(asked_for).unwrap_or_default()
            }
            Err(_) => Duration::ZERO,
        };
        let wait = backoff.max(asked_for);
        let in_time =
            self.deadline.is_none_or(|deadline| deadline.saturating_duration_since(Instant::now()) > wait);
        (asked_for <= retry.max_retry_after && in_time).then_some(wait)
    }

    fn note(&self, why: Why, notes: &mut AttemptLog) {
        if let Some(latest) = &self.latest {
            notes.repeats.push(Repeat { why, endpoint: latest.endpoint().name.clone() });
        }
    }
}

fn why(outcome: Came<'_>, reason: Reason) -> Why {
    match outcome {
        Err(_) if reason == Reason::Unhealthy => Why::Unhealthy,
        Err(fault) => Why::Fault(fault.kind),
        Ok(answer) if reason == Reason::Grpc => {
            Why::GrpcStatus(Code::among(answer.headers()).map_or(0, Code::number))
        }
        Ok(answer) => Why::Status(answer.status()),
    }
}

/// Runs `exchange` until the deadline of the request. The exchange is borrowed, not moved, because it is large.
pub(crate) async fn within<T>(
    deadline: Option<Instant>,
    exchange: Pin<&mut impl Future<Output = Result<T, Fault>>>,
) -> Result<T, Fault> {
    let exceeded = || Err(Fault::new(FaultKind::RequestTimeout));
    match deadline {
        None => exchange.await,
        // Nothing is sent if the deadline has passed.
        Some(deadline) if deadline <= turn::now() => exceeded(),
        Some(deadline) => timeout_at(deadline.into(), exchange).await.unwrap_or_else(|_| exceeded()),
    }
}

#[cfg(test)]
mod tests {
    use super::Tried;
    use crate::discovery::EndpointSpec;
    use crate::set::Member;

    #[test]
    fn endpoints_that_must_not_be_asked_again_stand_first() {
        let members: Vec<_> =
            (0..8).map(|port| Member::alone(EndpointSpec::at("10.0.0.1", port), None)).collect();
        let mut tried = Tried::default();
        for (index, bar) in [(4, false), (2, true), (4, false), (4, true), (2, false), (7, false)] {
            tried.add(members[index].clone(), bar);
        }
        let ports = |members: &[_]| -> Vec<u16> {
            members.iter().map(|member: &std::sync::Arc<Member>| member.spec.port).collect()
        };
        assert_eq!((ports(&tried.members), ports(tried.barred())), (vec![2, 4, 7], vec![2, 4]));
    }
}
