//! What requests show of an endpoint, and what follows from it: the one place that sees every observation and decides.
//!
//! | means | what it is for | how an endpoint comes back |
//! |---|---|---|
//! | [`breaker`] | failures in a row, shares of failed or slow calls: nothing is sent for a while | half-open, probes decide |
//! | [`ejection`] | failures in a row, server errors in a row, a rate below that of others: left out, longer each time | after its time, or when its checks succeed; then the first failure decides |
//!
//! Both see the same failures. So that neither works against the other:
//!
//! - What an observation is, is worked out here, once: which statuses are failures, what counts once of many (a connection
//!   that ends with many calls, the attempts of one request).
//! - Both decide under one lock of the upstream and by one look at who else serves ([`Others`]): endpoints are taken out one
//!   at a time. The last in service is never ejected, and its breaker opens only for what no single request can cause.
//! - Where one failure is enough for both, as it is by default, that is one absence: checks that end the ejection early end
//!   the rest of the breaker too, so that the endpoint is really asked again. Whatever ends first otherwise, requests wait for
//!   the second; and a probe that fails is a failure as any other, so that an absence grows from one to the next.

use std::cell::OnceCell;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use http::StatusCode;

use super::Upstream;
use super::attempt::Attempt;
use super::breaker::{Change, Reason};
use super::ejection::{Cause, ObservedFailure};
use super::endpoint::Endpoint;
use super::events::{EventKind, Events};
use super::observe::{Failing, Observation};

/// What an observation is to one of both.
enum Meaning {
    /// A failure.
    Failed(Failing),
    /// A whole response with a status from 500 that is no failure by itself.
    ServerError(u16),
    /// All is well.
    Succeeded,
    /// It says nothing, yet or at all.
    Nothing,
}

/// Who else serves, looked at when it is asked first. From then on no other endpoint of the upstream is taken out, until this
/// is dropped.
pub(super) struct Others<'a> {
    upstream: &'a Upstream,
    endpoint: &'a Arc<Endpoint>,
    held: OnceCell<(MutexGuard<'a, Option<Instant>>, bool)>,
}

impl<'a> Others<'a> {
    /// Those beside this endpoint.
    pub(super) fn of(upstream: &'a Upstream, endpoint: &'a Arc<Endpoint>) -> Others<'a> {
        Others { upstream, endpoint, held: OnceCell::new() }
    }

    /// Some if another endpoint is in service.
    pub(super) fn serve(&self) -> Option<()> {
        let look = || (self.upstream.take_out_alone(), self.upstream.is_another_in_service(self.endpoint));
        self.held.get_or_init(look).1.then_some(())
    }
}

/// Sees an observation, and takes the endpoint out or back if that is what it shows.
pub(super) fn judge(attempt: &Attempt, observation: Observation) {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    let others = Others::of(upstream, endpoint);
    let opened = judge_by_breaker(attempt, observation, &others);
    let joined = matches!(opened, Some(Change::Opened(Reason::InARow(_))));
    match meaning_to_ejection(attempt, observation) {
        Meaning::Failed(failing) => {
            upstream.count_failure(&others, endpoint, ObservedFailure::Fault(failing), joined);
        }
        Meaning::ServerError(status) => {
            upstream.count_failure(&others, endpoint, ObservedFailure::ServerError(status), joined);
        }
        Meaning::Succeeded => endpoint.ejection.succeeded(),
        Meaning::Nothing => {}
    }
}

/// Tells the breaker that there is a connection, for which a probe may have been sent.
pub(super) fn connected(attempt: &Attempt) {
    let (upstream, endpoint) = (&attempt.upstream, attempt.endpoint());
    let others = Others::of(upstream, endpoint);
    let change = attempt.call.connected(&endpoint.breaker, &upstream.config.breaker, || others.serve());
    note_change(&upstream.carried.events, Some(&endpoint.name), change, "");
}

fn judge_by_breaker(attempt: &Attempt, observation: Observation, others: &Others<'_>) -> Option<Change> {
    let (call, breaker) = (&attempt.call, &attempt.endpoint().breaker);
    let settings = &attempt.upstream.config.breaker;
    let failing = match observation {
        Observation::Answered { status, .. } => attempt.failing_by(status, settings.statuses),
        Observation::Failed(failing) => Some(failing),
        Observation::Completed { .. } | Observation::Ended => None,
    };
    let change = match (failing, observation) {
        (Some(failing), _) => call.failed(breaker, failing.failure(), settings, || others.serve()),
        (None, Observation::Answered { within, .. }) => call.answered(breaker, within, settings),
        (None, Observation::Completed { .. }) => call.completed(breaker, settings),
        (None, _) => call.abandoned(breaker, || attempt.waited(), settings),
    };
    if change.is_some() {
        let last = failing.map(|failing| failing.to_string()).unwrap_or_default();
        note_change(&attempt.upstream.carried.events, Some(&attempt.endpoint().name), change, &last);
    }
    change
}

fn meaning_to_ejection(attempt: &Attempt, observation: Observation) -> Meaning {
    let statuses = attempt.upstream.config.ejection.statuses;
    let by_status = attempt.status().and_then(|status| attempt.failing_by(status, statuses));
    match (observation, by_status) {
        // Counted with the head, and not again with what becomes of the body.
        (Observation::Answered { .. }, Some(failing)) => Meaning::Failed(failing),
        (_, Some(_)) => Meaning::Nothing,
        // Half a response is no success. A tunnel has no end that could be waited for.
        (Observation::Answered { status: StatusCode::SWITCHING_PROTOCOLS, .. }, None) => Meaning::Succeeded,
        (Observation::Answered { .. } | Observation::Ended, None) => Meaning::Nothing,
        (Observation::Completed { status }, None) if status.is_server_error() => {
            Meaning::ServerError(status.as_u16())
        }
        (Observation::Completed { .. }, None) => Meaning::Succeeded,
        (Observation::Failed(failing), None) => Meaning::Failed(failing),
    }
}

impl Upstream {
    /// Counts a failure, and ejects the endpoint if it was one too many, another serves, and the cap allows it. `joined`: the
    /// same failure has opened the breaker.
    pub(super) fn count_failure(
        &self,
        others: &Others<'_>,
        endpoint: &Arc<Endpoint>,
        shown: ObservedFailure,
        joined: bool,
    ) {
        if let Some(why) = endpoint.ejection.failed(shown, &self.config.ejection) {
            let seen_by_checks = shown.is_seen_by_checks();
            self.eject(others, endpoint, Cause::Streak { seen_by_checks, joined }, &why, Instant::now());
        }
    }

    /// An active check of an endpoint is over. One that succeeds may end an ejection early, and with it the rest of a breaker
    /// that the same failure has opened.
    pub(super) fn checked(&self, endpoint: &Arc<Endpoint>, succeeded: bool, begun: Instant) {
        let Some(plan) = &self.plan else { return };
        let (threshold, settings) = (plan.settings.healthy_threshold, &self.config.ejection);
        let ended = endpoint.ejection.checked(succeeded, begun, threshold, settings, Instant::now());
        let Some(Cause::Streak { joined, .. }) = ended else { return };
        if joined {
            endpoint.breaker.end_rest();
        }
        self.carried.events.record(EventKind::Returned, Some(&endpoint.name), "its checks succeed");
    }

    /// Whether another endpoint is in service.
    pub(super) fn is_another_in_service(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.set.load().members().any(|other| {
            let (wanted, other) = (other.is_wanted(), other.endpoint());
            let takes_requests =
                other.is_in_service() && other.breaker.state() == super::BreakerState::Closed;
            wanted && takes_requests && !Arc::ptr_eq(other, endpoint)
        })
    }
}

/// Notes that a breaker has changed. `last`: what the last call ended with, where that tells more.
pub(super) fn note_change(events: &Events, endpoint: Option<&Arc<str>>, change: Option<Change>, last: &str) {
    let Some(change) = change else { return };
    let (kind, why) = match change {
        Change::Opened(reason) if last.is_empty() => (EventKind::BreakerOpened, reason.to_string()),
        Change::Opened(reason) => (EventKind::BreakerOpened, format!("{reason}, the last with {last}")),
        Change::HalfOpened => (EventKind::BreakerHalfOpened, "its rest is over".to_owned()),
        Change::Closed => (EventKind::BreakerClosed, "enough probes succeeded".to_owned()),
    };
    events.record(kind, endpoint, why);
}
