//! The retry budget of an upstream: retries are limited to a share of its requests within a window of time.
//!
//! When an endpoint fails, all its requests in flight fail at once and are sent again, so a cap on concurrent
//! retries would refuse most of them. What must be bounded is the load that retries add while an upstream is
//! failing. Therefore each request adds a fraction of a retry to the budget, a small constant rate is added as
//! well, and unused budget decays within the window. In the long run there are at most as many retries as the
//! share and the constant rate allow together.
//!
//! Requests are counted on each core; the counts are summed only when a retry is wanted.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use witgate_config::model::RetryBudget;

use witgate_telemetry::metrics::Counter;

/// The unit of the budget: one retry is this many thousandths.
const WHOLE: u64 = 1000;

/// The retry budget of one upstream, shared by all cores. Carried over every reload by the upstream's name.
#[derive(Debug)]
pub(crate) struct Budget {
    begun: Instant,
    requests: Counter,
    /// The number of requests that the balance already includes.
    paid: AtomicU64,
    /// When the balance was last updated, in milliseconds since `begun`.
    settled: AtomicU64,
    /// The retries that may be spent, in thousandths; [`UNOPENED`] before the first use.
    balance: AtomicU64,
}

/// A budget that has not been used yet. It starts with what the constant rate adds in one window.
const UNOPENED: u64 = u64::MAX;

impl Default for Budget {
    fn default() -> Self {
        Budget {
            begun: Instant::now(),
            requests: Counter::default(),
            paid: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            balance: AtomicU64::new(UNOPENED),
        }
    }
}

impl Budget {
    /// Counts a request that is sent for the first time.
    pub(crate) fn count(&self) {
        self.requests.increment();
    }

    /// Takes one retry from the budget. Returns whether there was one.
    pub(crate) fn take(&self, settings: &RetryBudget) -> bool {
        self.take_at(self.begun.elapsed(), settings)
    }

    fn take_at(&self, now: Duration, settings: &RetryBudget) -> bool {
        self.settle(now, settings);
        let take = |balance: u64| balance.checked_sub(WHOLE).filter(|_| balance != UNOPENED);
        self.balance.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok()
    }

    /// Applies the decay, and adds what has come in since the last update. One thread at a time does this; other
    /// threads use the balance as it is.
    fn settle(&self, now: Duration, settings: &RetryBudget) {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let before = self.settled.load(Ordering::Acquire);
        let first = self.balance.load(Ordering::Acquire) == UNOPENED;
        if now <= before && !first {
            return;
        }
        if self.settled.compare_exchange(before, now, Ordering::AcqRel, Ordering::Acquire).is_err() {
            return;
        }
        let requests = self.requests.get();
        let new = requests.saturating_sub(self.paid.swap(requests, Ordering::AcqRel));
        let elapsed = Duration::from_millis(now.saturating_sub(before));
        let update = |balance: u64| {
            let old = if balance == UNOPENED { trickle(settings) } else { balance };
            Some(balance_after(old, new, elapsed, settings))
        };
        let _ = self.balance.fetch_update(Ordering::AcqRel, Ordering::Acquire, update);
    }
}

/// What the constant rate alone adds in one window.
fn trickle(settings: &RetryBudget) -> u64 {
    (f64::from(settings.min_per_second) * settings.window.as_secs_f64() * WHOLE as f64) as u64
}

/// The balance after a time in which requests came evenly. Old and new amounts decay exponentially, so that under
/// a steady rate the balance approaches what that rate adds in one window.
fn balance_after(old: u64, requests: u64, elapsed: Duration, settings: &RetryBudget) -> u64 {
    let windows = elapsed.as_secs_f64() / settings.window.as_secs_f64().max(1e-3);
    let kept = (-windows).exp();
    // The mean share that is left of amounts added evenly over the time.
    let kept_of_new = if windows < 1e-6 { 1.0 } else { (1.0 - kept) / windows };
    let paid = requests as f64 * settings.ratio * WHOLE as f64 * kept_of_new;
    let balance = old as f64 * kept + paid + trickle(settings) as f64 * (1.0 - kept);
    balance.min((UNOPENED / 2) as f64).round() as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: RetryBudget =
        RetryBudget { ratio: 0.2, min_per_second: 1, window: Duration::from_secs(10) };

    fn spend(budget: &Budget, at: Duration, settings: &RetryBudget) -> usize {
        (0..100_000).take_while(|_| budget.take_at(at, settings)).count()
    }

    #[test]
    fn few_requests_have_the_floor_and_no_more() {
        let budget = Budget::default();
        assert_eq!(spend(&budget, Duration::ZERO, &SETTINGS), 10, "a window of the trickle to begin with");
        assert_eq!(spend(&budget, Duration::from_secs(1), &SETTINGS), 0, "a bit less than one");
        assert_eq!(spend(&budget, Duration::from_secs(1000), &SETTINGS), 10, "it never saves up more");
    }

    #[test]
    fn many_requests_save_up_their_share_of_a_window() {
        let budget = Budget::default();
        let none = RetryBudget { min_per_second: 0, ..SETTINGS };
        assert_eq!(spend(&budget, Duration::ZERO, &none), 0);
        (0..1000).for_each(|_| budget.count());
        assert_eq!(spend(&budget, Duration::from_millis(1), &none), 199, "200, faded for a moment");
        (0..100_000).for_each(|_| budget.count());
        // 100 a second for 1000 seconds, of which about the last ten still count.
        assert_eq!(spend(&budget, Duration::from_secs(1000), &none), 200);
    }

    #[test]
    fn two_threads_never_spend_the_same_retry() {
        let budget = Budget::default();
        let settings = RetryBudget { min_per_second: 100, ..SETTINGS };
        let spent: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| spend(&budget, Duration::ZERO, &settings))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(spent, 1000);
    }

    proptest! {
        #[test]
        fn over_a_long_time_retries_are_held_to_share_and_trickle(
            rounds in proptest::collection::vec((0u64..50, 0usize..30), 50..300),
        ) {
            let budget = Budget::default();
            let (mut requests, mut retries) = (0, 0);
            for (second, (more, wanted)) in rounds.iter().enumerate() {
                requests += more;
                (0..*more).for_each(|_| budget.count());
                let at = Duration::from_secs(second as u64);
                retries += (0..*wanted).filter(|_| budget.take_at(at, &SETTINGS)).count();
            }
            let most = requests as f64 * SETTINGS.ratio + rounds.len() as f64 + 10.0;
            prop_assert!(retries as f64 <= most, "{retries} retries, {most} allowed");
        }
    }
}
