//! Trial of a new version: if its first calls fail clearly more often than those of the version before it, it
//! requests to be reverted.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use witgate_config::model;

use crate::record::Calls;

/// Failures below which a version is not reverted, whatever its failure rate.
const FAILURES: u64 = 5;

/// Calls below which the previous version has no history to compare with and counts as one that never failed.
const KNOWN: u64 = 100;

/// Time after which a version that is still called repeats its request to be reverted, in case the first one was
/// lost.
const AGAIN: Duration = Duration::from_secs(1);

/// The trial of a version that replaced another one. It begins each time the version is put in service.
///
/// The trial only requests the revert. The control plane swaps the snapshot, so that a request that began with
/// this version ends with it.
pub(crate) struct Trial {
    config: model::Revert,
    /// `None`: there is no trial, or it has been passed.
    under_way: Mutex<Option<UnderWay>>,
}

struct UnderWay {
    /// The latest calls of the previous version.
    before: Calls,
    begun: Instant,
    /// Number of calls that this version had served when the trial began.
    made_before: u64,
    failed: u64,
    /// When the revert was last requested; `None`: it was not.
    asked: Option<Instant>,
}

/// A version that is to be reverted, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Condemned {
    /// Its calls during the trial.
    pub(crate) calls: Calls,
    /// The calls of the previous version that it was compared with.
    pub(crate) before: Calls,
    /// Whether this is the first request to revert it.
    pub(crate) first: bool,
}

impl Trial {
    /// No trial yet.
    pub(crate) fn new(config: model::Revert) -> Self {
        Trial { config, under_way: Mutex::new(None) }
    }

    /// Begins a trial against the version whose latest calls are `before`. This version has served `made` calls so
    /// far.
    pub(crate) fn begin(&self, before: Calls, made: u64, now: Instant) {
        let trial = UnderWay { before, begun: now, made_before: made, failed: 0, asked: None };
        *self.lock() = (self.config.calls > 0).then_some(trial);
    }

    /// Ends the trial without a verdict, because the gateway reverts to this version.
    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    /// Counts the `made`th call of this version, which failed. `probe`: the version is in quarantine, so it has
    /// too few calls for a comparison, and the time of the trial does not run out meanwhile.
    pub(crate) fn failed(&self, made: u64, probe: bool, now: Instant) -> Option<Condemned> {
        let mut under_way = self.lock();
        let trial = under_way.as_mut()?;
        if trial.asked.is_none() && trial.is_over(&self.config, made, now) && !probe {
            *under_way = None;
            return None;
        }
        trial.failed += 1;
        let (calls, before) = (trial.calls(made), trial.before);
        let first = trial.asked.is_none();
        let asks = match trial.asked {
            None => calls.failed >= FAILURES && is_worse(calls, before, self.config.failure_ratio),
            Some(asked) => now.saturating_duration_since(asked) >= AGAIN,
        };
        if !asks {
            return None;
        }
        trial.asked = Some(now);
        Some(Condemned { calls, before, first })
    }

    /// Whether the trial is still in progress.
    pub(crate) fn is_under_way(&self, made: u64, now: Instant) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|trial| trial.asked.is_some() || !trial.is_over(&self.config, made, now))
    }

    /// Whether the trial permits reverting to this version: there is no trial, or it has been passed, or the
    /// version has served calls in it and failed no more often than the previous version. Calls outside of the
    /// trial are not considered here.
    pub(crate) fn is_good(&self, made: u64, now: Instant) -> bool {
        self.lock().as_ref().is_none_or(|trial| {
            let calls = trial.calls(made);
            let well = calls.made > 0 && calls.at_least() <= most_tolerated(trial.before);
            trial.asked.is_none() && (well || trial.is_over(&self.config, made, now))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UnderWay {
    /// The calls since the trial began.
    fn calls(&self, made: u64) -> Calls {
        Calls { made: made.saturating_sub(self.made_before), failed: self.failed }
    }

    fn is_over(&self, config: &model::Revert, made: u64, now: Instant) -> bool {
        self.calls(made).made > u64::from(config.calls)
            || now.saturating_duration_since(self.begun) > config.time
    }
}

/// Whether a version fails clearly more often than the previous one, or than `failure_ratio` if the previous one
/// failed less than that.
fn is_worse(calls: Calls, before: Calls, failure_ratio: f64) -> bool {
    let least = calls.at_least();
    let over_the_ratio = least >= failure_ratio && before.rate() < failure_ratio;
    least > most_tolerated(before) || over_the_ratio
}

/// The failure rate that is explained by chance, or by what made the previous version fail, too.
fn most_tolerated(before: Calls) -> f64 {
    if before.made < KNOWN { 0.0 } else { before.at_most() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER_FAILED: Calls = Calls { made: 1000, failed: 0 };

    fn config() -> model::Revert {
        model::Revert { calls: 1000, time: Duration::from_secs(600), failure_ratio: 0.5 }
    }

    fn trial(before: Calls) -> (Trial, Instant) {
        let (trial, now) = (Trial::new(config()), Instant::now());
        trial.begin(before, 0, now);
        (trial, now)
    }

    /// The number of the call at which a version requests its revert if every `nth` call fails; `None` if it does
    /// not within `calls` calls.
    fn asks_at(trial: &Trial, nth: u64, calls: u64, now: Instant) -> Option<u64> {
        (1..=calls).find(|made| made % nth == 0 && trial.failed(*made, false, now).is_some())
    }

    #[test]
    fn a_version_that_always_fails_asks_at_its_fifth_call() {
        let (trial, now) = trial(NEVER_FAILED);
        assert_eq!(asks_at(&trial, 1, 100, now), Some(5));
    }

    #[test]
    fn one_failure_in_ten_is_taken_back_within_the_first_tens_of_calls() {
        let (trial, now) = trial(NEVER_FAILED);
        assert_eq!(asks_at(&trial, 10, 1000, now), Some(50));
    }

    #[test]
    fn a_hundred_calls_of_the_version_before_are_enough_to_judge_by_and_fewer_count_as_good_ones() {
        let (against_hundred, now) = trial(Calls { made: 100, failed: 0 });
        assert!(asks_at(&against_hundred, 10, 1000, now).is_some_and(|call| call < 200));
        let (against_few, now) = trial(Calls { made: 99, failed: 99 });
        assert_eq!(asks_at(&against_few, 100, 1000, now), Some(500));
    }

    #[test]
    fn versions_that_fail_alike_are_not_told_apart() {
        for (nth, failed) in [(1, 1000), (2, 500), (10, 100), (50, 20)] {
            let (trial, now) = trial(Calls { made: 1000, failed });
            assert_eq!(asks_at(&trial, nth, 1000, now), None, "one call in {nth}");
        }
    }

    #[test]
    fn the_ratio_is_an_upper_bound_where_the_version_before_kept_below_it() {
        let before = Calls { made: 100, failed: 45 };
        let (trial, now) = trial(before);
        assert_eq!(asks_at(&trial, 2, 1000, now), None, "as often as the version before");
        let strict = Trial::new(model::Revert { failure_ratio: 0.47, ..config() });
        strict.begin(before, 0, now);
        let made = (1..=1000).find(|made| made % 10 < 5 && strict.failed(*made, false, now).is_some());
        assert_eq!(made, None, "half of the calls are not clearly more than the ratio");
        strict.begin(before, 0, now);
        let made = (1..=1000).find(|made| made % 20 < 11 && strict.failed(*made, false, now).is_some());
        assert!(made.is_some(), "55 per cent are more than 47, but not more than 45 of 100 may have been");
    }

    #[test]
    fn fewer_than_five_failures_take_nothing_back() {
        let (trial, now) = trial(NEVER_FAILED);
        assert!((1..=4).all(|made| trial.failed(made, false, now).is_none()));
        assert!(!trial.is_good(4, now), "but it is not gone back to either");
    }

    #[test]
    fn a_trial_ends_after_its_calls_or_its_time() {
        let (calls, now) = trial(NEVER_FAILED);
        assert!((1001..2000).all(|made| calls.failed(made, false, now).is_none()));
        assert!(calls.is_good(2000, now), "what comes later is the quarantine's business");
        let (time, now) = trial(NEVER_FAILED);
        let late = now + Duration::from_secs(601);
        assert!(!time.is_under_way(0, late));
        assert!((1..100).all(|made| time.failed(made, false, late).is_none()));
    }

    #[test]
    fn the_time_of_a_trial_does_not_run_out_in_quarantine() {
        let (trial, now) = trial(NEVER_FAILED);
        assert!((1..5).all(|made| trial.failed(made, false, now).is_none()));
        let late = now + Duration::from_secs(3600);
        assert!(trial.failed(5, true, late).is_some());
    }

    #[test]
    fn it_asks_again_each_second_for_as_long_as_it_is_called() {
        let (trial, now) = trial(NEVER_FAILED);
        assert_eq!(asks_at(&trial, 1, 5, now), Some(5));
        assert!((6..50).all(|made| trial.failed(made, false, now).is_none()));
        let again = trial.failed(50, false, now + AGAIN).expect("it asks again");
        assert!(!again.first);
        let long_after = now + Duration::from_secs(6000);
        assert!(trial.failed(5000, false, long_after).is_some(), "a verdict does not expire");
        assert!(!trial.is_good(5000, long_after));
    }

    #[test]
    fn each_trial_begins_anew() {
        let (trial, now) = trial(NEVER_FAILED);
        assert_eq!(asks_at(&trial, 1, 5, now), Some(5));
        trial.begin(NEVER_FAILED, 5, now);
        assert!((6..10).all(|made| trial.failed(made, false, now).is_none()));
        assert!(trial.failed(10, false, now).is_some_and(|condemned| condemned.first));
        trial.end();
        assert!((11..100).all(|made| trial.failed(made, false, now).is_none()));
        assert!(trial.is_good(100, now));
    }

    #[test]
    fn who_answered_calls_on_trial_no_worse_than_the_version_before_is_good() {
        let (fresh, now) = trial(NEVER_FAILED);
        assert!(!fresh.is_good(0, now), "it has answered nothing");
        assert!(fresh.is_good(1, now));
        let (rare, now) = trial(Calls { made: 1000, failed: 10 });
        assert!(rare.failed(60, false, now).is_none());
        assert!(rare.is_good(60, now));
    }

    #[test]
    fn no_calls_switch_it_off() {
        let trial = Trial::new(model::Revert { calls: 0, ..config() });
        let now = Instant::now();
        trial.begin(NEVER_FAILED, 0, now);
        assert!(!trial.is_under_way(0, now));
        assert!((1..100).all(|made| trial.failed(made, false, now).is_none()));
    }
}
