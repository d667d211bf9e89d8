//! Judges endpoints by the results of requests. This is the only place that receives every observation and decides
//! about breaker and ejection.
//!
//! | mechanism | takes an endpoint out for | how the endpoint comes back |
//! |---|---|---|
//! | [`breaker`](crate::breaker) | failures in a row, or a share of failed or slow calls | after `open_for` half-open; probes decide |
//! | [`ejection`](super::ejection) | failures in a row, server errors in a row, a rate below that of others: left out, longer each time | after its time, or when its checks succeed; then the first failure decides |
//!
//! Both see the same failures and have the same default, so they are decided together:
//!
//! - An observation is classified here for both: which statuses are failures of which mechanism, and what counts.
//! - Both decide under one lock of the upstream and with one answer to the question whether another endpoint is in
//!   service ([`Others`]). Endpoints are therefore taken out one at a time. The last endpoint in service is never
//!   ejected, and failures in a row open its breaker only if no single request can cause them.
//! - If the same failure opens the breaker and ejects the endpoint, as it does by default, the endpoint is absent
//!   once: active checks that end the ejection early also end the open period of the breaker. Otherwise the
//!   endpoint would take no requests although its return was reported.

use std::cell::OnceCell;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use http::StatusCode;

use super::ejection::{Cause, ObservedFailure};
use super::events::{EventKind, Events};
use crate::Upstream;
use crate::breaker::{Change, Reason};
use crate::endpoint::Endpoint;
use crate::observe::{Failing, Observation};
use crate::pick::attempt::Attempt;

/// What an observation means for the ejection.
enum Meaning {
    /// A failure, by a fault or by a status in `ejection.statuses`.
    Failed(Failing),
    /// A whole response with another status from 500.
    ServerError(u16),
    /// A success.
    Succeeded,
    /// Nothing, or nothing yet.
    Nothing,
}

/// Whether another endpoint is in service. The first call of [`Others::serve`] takes the lock under which
/// endpoints are taken out, and keeps it until this is dropped, so that the answer stays true.
pub(crate) struct Others<'a> {
    upstream: &'a Upstream,
    endpoint: &'a Arc<Endpoint>,
    held: OnceCell<(MutexGuard<'a, Option<Instant>>, bool)>,
}

impl<'a> Others<'a> {
    /// The endpoints of the upstream other than this one.
    pub(crate) fn of(upstream: &'a Upstream, endpoint: &'a Arc<Endpoint>) -> Others<'a> {
        Others { upstream, endpoint, held: OnceCell::new() }
    }

    /// `Some` if another endpoint is in service.
    pub(crate) fn serve(&self) -> Option<()> {
        let look = || (self.upstream.take_out_alone(), self.upstream.is_another_in_service(self.endpoint));
        self.held.get_or_init(look).1.then_some(())
    }
}

/// Counts an observation. If it is decisive, opens or closes the breaker, or ejects the endpoint.
pub(crate) fn judge(attempt: &Attempt, observation: Observation) {
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

/// Reports to the breaker that the request has a connection, which may be enough for a probe.
pub(crate) fn connected(attempt: &Attempt) {
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
        // A failure by status was counted with the head; the end of its body is not counted again.
        (Observation::Answered { .. }, Some(failing)) => Meaning::Failed(failing),
        (_, Some(_)) => Meaning::Nothing,
        // A head alone is no success, except for a tunnel, whose response has no end.
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
    /// Counts a failure, and ejects the endpoint if the failure reaches a threshold, another endpoint is in
    /// service, and the cap allows it. `joined` is whether the same failure has opened the breaker.
    pub(crate) fn count_failure(
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

    /// Counts an active check, which may end an ejection early. Then the open period of a breaker that the same
    /// failure has opened ends, too.
    pub(crate) fn checked(&self, endpoint: &Arc<Endpoint>, succeeded: bool, begun: Instant) {
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
    pub(crate) fn is_another_in_service(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.set.load().members().any(|other| {
            let (wanted, other) = (other.is_wanted(), other.endpoint());
            let takes_requests =
                other.is_in_service() && other.breaker.state() == crate::BreakerState::Closed;
            wanted && takes_requests && !Arc::ptr_eq(other, endpoint)
        })
    }
}

/// Records that a breaker has changed. `last` is the failure of the last call, or empty.
pub(crate) fn note_change(events: &Events, endpoint: Option<&Arc<str>>, change: Option<Change>, last: &str) {
    let Some(change) = change else { return };
    let (kind, why) = match change {
        Change::Opened(reason) if last.is_empty() => (EventKind::BreakerOpened, reason.to_string()),
        Change::Opened(reason) => (EventKind::BreakerOpened, format!("{reason}, the last with {last}")),
        Change::HalfOpened => (EventKind::BreakerHalfOpened, "its rest is over".to_owned()),
        Change::Closed => (EventKind::BreakerClosed, "enough probes succeeded".to_owned()),
    };
    events.record(kind, endpoint, why);
}
