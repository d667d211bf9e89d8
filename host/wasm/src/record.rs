//! The successes and failures of one version's calls, on which quarantine and trial decide.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use witgate_exchange::contracts::Phase;
use witgate_exchange::per_core::{PerCore, add};

/// Number of latest calls that are reported, unless more of them failed than are remembered.
const LATEST: u64 = 1_000;

/// Number of recent calls that show whether a version has become worse.
const LATELY: u64 = 100;

/// Number of last calls that show whether a version succeeds at all at present.
const LAST: u64 = 20;

/// Number of failures that are remembered: enough for the last [`LATELY`] calls in any case.
const FAILURES: usize = 256;

/// A number of calls, and how many of them failed. A request for which several functions of a plugin are called
/// counts as one call. So a plugin whose last function fails for every request has a failure rate of 100 per cent,
/// and one whose body function fails has less if most requests have no body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Calls {
    /// Calls that ended with a result or a failure of the plugin.
    pub made: u64,
    /// Those of them that failed.
    pub failed: u64,
}

/// The calls of one version. A success only increments a counter of its core; all other work is done by failures.
#[derive(Default)]
pub(crate) struct Record {
    made: PerCore<[AtomicU64; Phase::ALL.len()]>,
    /// For each of the latest failures, how many calls had been made by then.
    failures: Mutex<VecDeque<u64>>,
}

impl Record {
    /// A call ended, with a result or a failure.
    pub(crate) fn call(&self, phase: Phase) {
        add(&self.made.mine()[phase as usize], 1);
    }

    /// Counts a failure of a call that has been counted already. Returns the number of calls so far.
    pub(crate) fn failure(&self) -> u64 {
        let made = self.made();
        let mut failures = self.failures();
        if failures.len() == FAILURES {
            failures.pop_front();
        }
        failures.push_back(made);
        made
    }

    /// Number of calls: that of the function that was called most.
    pub(crate) fn made(&self) -> u64 {
        let of = |phase: Phase| self.made.sum(|made| made[phase as usize].load(Ordering::Relaxed));
        Phase::ALL.into_iter().map(of).max().unwrap_or_default()
    }

    /// The latest calls, up to [`LATEST`]. If the last [`LATELY`] of them failed clearly more often, only these:
    /// what makes this version fail now may make the next version fail, too.
    pub(crate) fn latest(&self) -> Calls {
        let made = self.made();
        let failures = self.failures();
        let last = |count: u64| last(&failures, made, count);
        let known = match failures.front() {
            Some(oldest) if failures.len() == FAILURES => made.saturating_sub(*oldest).clamp(LATELY, LATEST),
            _ => LATEST,
        };
        let (all, lately) = (last(known), last(LATELY));
        if lately.at_least() > all.at_most() { lately } else { all }
    }

    /// Whether more than half of the last [`LATELY`] calls, or of the last [`LAST`] calls, failed. Reverting to
    /// such a version would lose more requests than it serves. False for a version that was never called.
    pub(crate) fn mostly_failed(&self) -> bool {
        let (failures, made) = (self.failures(), self.made());
        [LATELY, LAST].iter().any(|count| last(&failures, made, *count).rate() > 0.5)
    }

    fn failures(&self) -> MutexGuard<'_, VecDeque<u64>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last `count` calls, as far as their failures are remembered.
fn last(failures: &VecDeque<u64>, made: u64, count: u64) -> Calls {
    let since = made.saturating_sub(count);
    let failed = failures.iter().filter(|at| **at > since).count() as u64;
    Calls { made: made - since, failed: failed.min(made - since) }
}

impl Calls {
    /// The share of failures, from 0 to 1.
    pub(crate) fn rate(self) -> f64 {
        if self.made == 0 { 0.0 } else { self.failed.min(self.made) as f64 / self.made as f64 }
    }

    /// Lower bound of the true failure rate, with 99 per cent confidence.
    pub(crate) fn at_least(self) -> f64 {
        self.bound(-1.0)
    }

    /// Upper bound of the true failure rate, with 99 per cent confidence.
    pub(crate) fn at_most(self) -> f64 {
        self.bound(1.0)
    }

    /// One bound of Wilson's score interval (E. B. Wilson, 1927), which is also valid for few calls and for rates
    /// of 0 and 1.
    fn bound(self, side: f64) -> f64 {
        /// The 99th percentile of the standard normal distribution.
        const Z: f64 = 2.326;
        if self.made == 0 {
            return if side < 0.0 { 0.0 } else { 1.0 };
        }
        let (calls, rate) = (self.made as f64, self.rate());
        let centre = rate + Z * Z / (2.0 * calls);
        let spread = Z * (rate * (1.0 - rate) / calls + Z * Z / (4.0 * calls * calls)).sqrt();
        ((centre + side * spread) / (1.0 + Z * Z / calls)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(calls: impl IntoIterator<Item = bool>) -> Record {
        let record = Record::default();
        for failed in calls {
            record.call(Phase::Request);
            if failed {
                record.failure();
            }
        }
        record
    }

    fn good(count: usize) -> std::iter::RepeatN<bool> {
        std::iter::repeat_n(false, count)
    }

    fn bad(count: usize) -> std::iter::RepeatN<bool> {
        std::iter::repeat_n(true, count)
    }

    #[test]
    fn bounds_close_in_on_the_rate_as_calls_are_made() {
        let near = |value: f64, expected: f64| (value - expected).abs() < 0.001;
        let calls = |made, failed| Calls { made, failed };
        assert!(near(calls(100, 0).at_most(), 0.0513), "{}", calls(100, 0).at_most());
        assert!(near(calls(1000, 0).at_most(), 0.0054));
        assert!(near(calls(5, 5).at_least(), 0.4803));
        assert!(near(calls(50, 5).at_least(), 0.0375));
        assert!(calls(7, 0).at_least().abs() < 1e-9, "no failure is no reason to expect one");
        assert!((calls(7, 7).at_most() - 1.0).abs() < 1e-9);
        assert_eq!((calls(0, 0).at_least(), calls(0, 0).at_most()), (0.0, 1.0));
        assert!(near(calls(3, 9).rate(), 1.0), "an answer may be rejected more than once");
    }

    #[test]
    fn a_version_is_known_by_its_latest_thousand_calls() {
        assert_eq!(record(good(30)).latest(), Calls { made: 30, failed: 0 });
        let latest = record(good(5000).chain(bad(5)).chain(good(600))).latest();
        assert_eq!(latest, Calls { made: 1000, failed: 5 });
        let latest = record(bad(100).chain(good(3000))).latest();
        assert_eq!(latest, Calls { made: 1000, failed: 0 }, "what was long ago is forgotten");
    }

    #[test]
    fn a_version_that_fails_of_late_is_known_by_that() {
        let latest = record(good(100_000).chain(bad(90))).latest();
        assert_eq!(latest, Calls { made: 100, failed: 90 });
        let latest = record(bad(10_000)).latest();
        assert_eq!((latest.rate(), latest.made >= LATELY), (1.0, true), "{latest:?}");
    }

    #[test]
    fn a_version_mostly_failed_if_it_did_in_its_last_hundred_or_twenty_calls() {
        assert!(!record(good(0)).mostly_failed(), "it was never called");
        assert!(record(bad(1)).mostly_failed());
        assert!(!record(good(1).chain(bad(1))).mostly_failed(), "one of two is not most");
        assert!(record(good(10_000).chain(bad(20))).mostly_failed());
        assert!(!record(good(10_000).chain(bad(10))).mostly_failed());
        assert!(record(bad(200).chain(good(20))).mostly_failed(), "twenty calls do not make up for it");
        assert!(!record(bad(200).chain(good(100))).mostly_failed(), "a hundred do");
    }

    #[test]
    fn a_request_counts_as_one_call_however_many_functions_are_called() {
        let record = Record::default();
        for number in 1..=100 {
            for phase in [Phase::Authentication, Phase::Request, Phase::Response] {
                record.call(phase);
            }
            if number % 10 == 0 {
                record.call(Phase::RequestBody);
                record.failure();
            }
        }
        assert_eq!(record.latest(), Calls { made: 100, failed: 10 });
    }

    #[test]
    fn calls_of_all_threads_are_counted() {
        let record = Record::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| record.call(Phase::Routing)));
            }
        });
        assert_eq!((record.made(), record.failure()), (4000, 4000));
    }
}
