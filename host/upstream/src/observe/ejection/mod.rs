//! Outlier ejection: an endpoint whose requests fail is ejected, that is, left out for a while. Each ejection in a
//! row lasts longer.
//!
//! Results of requests are counted over all cores: faults in a row in one shared atomic, successes and failures in
//! cells of each core, which the [keeper](crate::keeper) adds up. So neither the number of cores nor the core that
//! sees a result matters. A streak of faults ejects the endpoint within the request that completes the streak.
//! Success rates are compared once in an interval. The keeper puts endpoints back in service when their time is
//! over.
//!
//! In contrast to the [breaker](crate::breaker) of an endpoint, ejection compares endpoints with each other, lasts
//! longer from one ejection to the next, and has a cap, so that the upstream as a whole stays in service.
//! [`conduct`](super::conduct) passes the results of requests to both, and decides.
//!
//! An endpoint that comes back after a streak is on probation: its first fault ejects it again, its first success
//! ends the probation. If there are active checks, `healthy_threshold` successful ones in a row end an ejection
//! early, but only the first ejection in a row, and only one for faults that a check would detect as well (not
//! reached, reset, timed out). Otherwise an endpoint whose checks succeed while its requests fail would be ejected
//! and put back again and again.

mod success_rate;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use witgate_config::model;
use witgate_exchange::per_core::{self, PerCore};

use super::conduct::Others;
use super::events::EventKind;
use crate::Upstream;
use crate::endpoint::Endpoint;
use crate::observe::Failing;
use crate::pick::attempt::grpc_code;
use success_rate::{Done, outliers};

/// The time of the next comparison of success rates. Its lock is also the one under which endpoints are ejected,
/// so that the cap holds. Carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Ejections(Mutex<Option<Instant>>);

/// The results of requests to an endpoint, and whether it is ejected because of them.
#[derive(Debug, Default)]
pub(crate) struct Ejection {
    streaks: Streaks,
    tally: PerCore<Tally>,
    ejected: AtomicBool,
    /// The number of ejections that are not forgotten yet.
    in_a_row: AtomicU32,
    term: Mutex<Term>,
}

/// The results of requests on one core.
#[derive(Debug, Default)]
struct Tally {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Details of the latest ejection. Rarely used.
#[derive(Debug, Default)]
struct Term {
    begun: Option<Instant>,
    until: Option<Instant>,
    /// When the endpoint came back, or when an ejection was last forgotten.
    in_service_since: Option<Instant>,
    cause: Cause,
    /// The number of successful checks in a row since the ejection.
    checks: u32,
    /// The counts at the last comparison of success rates.
    compared: Done,
}

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Cause {
    /// Faults in a row.
    Streak {
        /// Whether an active check would fail for the same reason.
        seen_by_checks: bool,
        /// Whether the last of them has also opened the breaker.
        joined: bool,
    },
    /// A low success rate.
    #[default]
    Rate,
}

impl Ejection {
    /// Whether the endpoint is ejected. Called for every request, so it is cheap.
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// How long the endpoint stays ejected. `None` if it is not ejected.
    pub(crate) fn remains(&self, now: Instant) -> Option<Duration> {
        self.is_ejected()
            .then(|| self.term().until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now)))
    }

    /// The number of successful and of failed requests so far.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let done = self.done();
        (done.succeeded, done.failed)
    }

    fn done(&self) -> Done {
        Done {
            succeeded: self.tally.sum(|tally| tally.succeeded.load(Ordering::Relaxed)),
            failed: self.tally.sum(|tally| tally.failed.load(Ordering::Relaxed)),
        }
    }

    /// Counts a successful request.
    pub(crate) fn succeeded(&self) {
        per_core::add(&self.tally.mine().succeeded, 1);
        self.streaks.end();
    }

    /// Counts a failed request. Returns why the endpoint should be ejected if a streak has reached its threshold.
    /// Of requests that failed because they shared a connection, one lengthens the streaks; of the retries of one
    /// request, one counts at all.
    pub(crate) fn failed(&self, shown: ObservedFailure, settings: &model::Ejection) -> Option<String> {
        let failure =
            if let ObservedFailure::Fault(failing) = shown { Some(failing.failure()) } else { None };
        if failure.is_some_and(|failure| failure.repeated) {
            return None;
        }
        per_core::add(&self.tally.mine().failed, 1);
        if failure.is_some_and(|failure| failure.shared) {
            return None;
        }
        let (faults, errors) = self.streaks.lengthen(shown);
        // Also at multiples of the threshold: if the cap prevented the ejection the first time, it is tried again.
        let full =
            |streak: u32, threshold: u32| threshold > 0 && streak > 0 && streak.is_multiple_of(threshold);
        if full(faults, settings.consecutive_faults) {
            Some(format!("{faults} faults in a row, the last: {shown}"))
        } else if full(errors, settings.consecutive_server_errors) {
            Some(format!("{errors} server errors in a row, the last: {shown}"))
        } else {
            None
        }
    }

    fn term(&self) -> MutexGuard<'_, Term> {
        self.term.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, cause: Cause, settings: &model::Ejection, now: Instant) -> Duration {
        let mut term = self.term();
        let in_a_row = self.in_a_row.load(Ordering::Relaxed).saturating_add(1);
        let lasts =
            settings.base_time.saturating_mul(in_a_row).min(settings.max_time.max(settings.base_time));
        self.in_a_row.store(in_a_row, Ordering::Relaxed);
        (term.begun, term.until, term.cause, term.checks) = (Some(now), Some(now + lasts), cause, 0);
        self.ejected.store(true, Ordering::Relaxed);
        lasts
    }

    fn end(&self, term: &mut Term, settings: &model::Ejection, now: Instant) {
        term.in_service_since = Some(now);
        term.until = None;
        match term.cause {
            Cause::Streak { .. } => self.streaks.put_on_probation(settings),
            Cause::Rate => self.streaks.end(),
        }
        self.ejected.store(false, Ordering::Relaxed);
    }

    /// Ends an ejection whose time is over, and returns whether it did. Forgets one ejection for each interval in
    /// service.
    fn look(&self, settings: &model::Ejection, now: Instant) -> bool {
        if self.in_a_row.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let mut term = self.term();
        if self.is_ejected() {
            let over = term.until.is_none_or(|until| until <= now);
            if over {
                self.end(&mut term, settings, now);
            }
            return over;
        }
        if term.in_service_since.is_some_and(|since| now >= since + settings.interval) {
            term.in_service_since = Some(now);
            self.in_a_row.fetch_sub(1, Ordering::Relaxed);
        }
        false
    }

    /// When [`Ejection::look`] has something to do next. `None` if never.
    pub(crate) fn due(&self, settings: &model::Ejection) -> Option<Instant> {
        if self.in_a_row.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let term = self.term();
        if self.is_ejected() {
            term.until
        } else {
            term.in_service_since.map(|since| since + settings.interval)
        }
    }

    /// Counts an active check that began at `begun`. If it ends the ejection, the cause of the ejection is
    /// returned.
    pub(crate) fn checked(
        &self,
        succeeded: bool,
        begun: Instant,
        healthy_threshold: u32,
        settings: &model::Ejection,
        now: Instant,
    ) -> Option<Cause> {
        if !self.is_ejected() {
            return None;
        }
        let mut term = self.term();
        let curable = matches!(term.cause, Cause::Streak { seen_by_checks: true, .. });
        let first = self.in_a_row.load(Ordering::Relaxed) == 1;
        if !curable || !first || term.begun.is_none_or(|ejected| begun < ejected) {
            return None;
        }
        term.checks = if succeeded { term.checks + 1 } else { 0 };
        let over = term.checks >= healthy_threshold;
        if over {
            self.end(&mut term, settings, now);
        }
        over.then_some(term.cause)
    }

    /// The results since the last call.
    fn since_compared(&self) -> Done {
        let (now, mut term) = (self.done(), self.term());
        let before = std::mem::replace(&mut term.compared, now);
        Done { succeeded: now.succeeded - before.succeeded, failed: now.failed - before.failed }
    }
}

/// How a request failed.
#[derive(Debug, Clone, Copy)]
pub(crate) enum ObservedFailure {
    /// A fault, or a response with a status that counts as one.
    Fault(Failing),
    /// A whole response with another status from 500 on.
    ServerError(u16),
}

impl ObservedFailure {
    /// Whether an active check would fail for the same reason.
    pub(crate) fn is_seen_by_checks(self) -> bool {
        matches!(self, ObservedFailure::Fault(failing) if failing.is_seen_by_checks())
    }
}

impl Display for ObservedFailure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ObservedFailure::Fault(failing) => failing.fmt(formatter),
            ObservedFailure::ServerError(status) => write!(formatter, "status {status}"),
        }
    }
}

/// The number of faults in a row in the upper half, and of faults or server errors in a row in the lower half. It
/// is one word, so that a success has to check only one.
#[derive(Debug, Default)]
struct Streaks(AtomicU64);

impl Streaks {
    /// Loading first keeps the cache line shared between cores as long as there is no streak.
    fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// Lengthens the streaks. Concurrent calls on several cores return different lengths.
    fn lengthen(&self, shown: ObservedFailure) -> (u32, u32) {
        let longer = |word: u64| {
            let (faults, errors) = split(word);
            match shown {
                ObservedFailure::Fault(_) => join(faults.saturating_add(1), errors.saturating_add(1)),
                ObservedFailure::ServerError(_) => join(0, errors.saturating_add(1)),
            }
        };
        let mut before = self.0.load(Ordering::Relaxed);
        loop {
            let after = longer(before);
            match self.0.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return split(after),
                Err(now) => before = now,
            }
        }
    }

    fn put_on_probation(&self, settings: &model::Ejection) {
        let but_one = |threshold: u32| threshold.saturating_sub(1);
        let word = join(but_one(settings.consecutive_faults), but_one(settings.consecutive_server_errors));
        self.0.store(word, Ordering::Relaxed);
    }
}

fn split(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

fn join(faults: u32, errors: u32) -> u64 {
    u64::from(faults) << 32 | u64::from(errors)
}

impl Upstream {
    /// Ejects an endpoint, unless it is the last in service or the cap is reached.
    pub(crate) fn eject(
        &self,
        others: &Others<'_>,
        endpoint: &Arc<Endpoint>,
        cause: Cause,
        why: &str,
        now: Instant,
    ) {
        // `serve` takes the lock under which endpoints are taken out.
        if others.serve().is_none() || endpoint.ejection.is_ejected() || !self.may_eject_one_more() {
            return;
        }
        let lasts = endpoint.ejection.begin(cause, &self.config.ejection, now);
        // What broke the endpoint may have broken its idle connections, too.
        endpoint.close_idle();
        self.carried.events.record(EventKind::Ejected, Some(&endpoint.name), format!("{why}; for {lasts:?}"));
    }

    fn may_eject_one_more(&self) -> bool {
        let set = self.set.load();
        let ejected = set.members().filter(|member| member.endpoint().ejection.is_ejected()).count();
        ejected < (set.entries.len() * self.config.ejection.max_ejected as usize).div_ceil(100)
    }

    /// Takes the lock under which endpoints are taken out, one at a time.
    pub(crate) fn take_out_alone(&self) -> MutexGuard<'_, Option<Instant>> {
        self.carried.ejections.lock()
    }

    /// Whether a response with this status counts as a failure of the endpoint.
    pub(crate) fn calls_failure(&self, status: StatusCode) -> bool {
        let status = status.as_u16();
        self.config.breaker.statuses.contains(status) || self.config.ejection.statuses.contains(status)
    }

    /// Whether the gRPC status in the head of a response counts as a failure of the endpoint.
    pub(crate) fn calls_grpc_failure<B>(&self, response: &http::Response<B>) -> bool {
        grpc_code(response).is_some_and(|code| self.config.grpc_failures.contains(&code.number()))
    }

    /// Does what is due: puts endpoints back in service whose time is over, and compares success rates.
    pub(crate) fn review_ejections(&self, now: Instant) {
        let (set, settings) = (self.set.load(), &self.config.ejection);
        for endpoint in set.members().map(|member| member.endpoint()) {
            if endpoint.ejection.look(settings, now) {
                self.carried.events.record(EventKind::Returned, Some(&endpoint.name), "its time is over");
            }
        }
        let Some(rates) = &settings.success_rate else {
            return self.carried.ejections.compare_no_more();
        };
        let due = self.carried.ejections.interval(settings.interval, now);
        if due == Interval::UnderWay {
            return;
        }
        // Also called at the beginning of the first interval, so that the first comparison covers that interval
        // only.
        let done = set.members().map(|member| {
            let done = member.endpoint().ejection.since_compared();
            if member.endpoint().ejection.is_ejected() { Done::default() } else { done }
        });
        let done: Vec<Done> = done.collect();
        if due == Interval::First {
            return;
        }
        for outlier in outliers(&done, rates) {
            let (rate, mean) = (outlier.rate * 100.0, outlier.mean * 100.0);
            let why = format!("{rate:.0} % of its requests succeed, {mean:.0} % on the average");
            let endpoint = set.entries[outlier.index].member.endpoint();
            self.eject(&Others::of(self, endpoint), endpoint, Cause::Rate, &why, now);
        }
    }

    /// When success rates are compared next. `None` if they are not compared.
    pub(crate) fn comparison_due(&self) -> Option<Instant> {
        *self.carried.ejections.lock()
    }
}

/// The state of the interval between two comparisons of success rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Interval {
    /// The first interval begins.
    First,
    /// The interval is not over.
    UnderWay,
    /// The interval is over, and the next one begins.
    Over,
}

impl Ejections {
    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interval(&self, length: Duration, now: Instant) -> Interval {
        let mut due = self.lock();
        let found = match *due {
            None => Interval::First,
            Some(due) if due <= now => Interval::Over,
            Some(_) => Interval::UnderWay,
        };
        // After a reload that shortens the interval, the current interval ends sooner.
        if found != Interval::UnderWay || due.is_none_or(|due| due > now + length) {
            *due = Some(now + length);
        }
        found
    }

    fn compare_no_more(&self) {
        *self.lock() = None;
    }
}
