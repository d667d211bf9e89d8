//! What an exchange has drawn from rate limits and may still settle.
//!
//! A draw is an estimate if the plugin that named the bucket says later what the request has cost. The difference is settled once,
//! when the exchange ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::contracts::counter::{Counter, Draw, Settlement};

/// One draw of the exchange.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The binding that named the bucket.
    pub binding: Arc<str>,
    /// The policy.
    pub policy: Box<str>,
    /// The draw.
    pub draw: Draw,
    /// Time after which the bucket would have been full again, counted from the draw.
    pub reset: Duration,
}

/// The draws of one exchange, and what was said of their costs.
pub struct Settling {
    counter: Arc<dyn Counter>,
    at: Instant,
    drawn: Vec<Drawn>,
    /// The cost of each draw, as far as it was said.
    said: Mutex<Vec<Option<u32>>>,
}

impl Settling {
    /// The draws that this counter has charged at this time.
    pub fn new(counter: Arc<dyn Counter>, at: Instant, drawn: Vec<Drawn>) -> Settling {
        let said = Mutex::new(vec![None; drawn.len()]);
        Settling { counter, at, drawn, said }
    }

    /// Whether this binding has drawn on a bucket of this policy.
    pub fn has_drawn(&self, binding: &str, policy: &str) -> bool {
        self.drawn.iter().any(|drawn| is_of(drawn, binding, policy))
    }

    /// Notes what the draws of this binding and policy have cost.
    pub fn say(&self, binding: &str, policy: &str, cost: u32) {
        let mut said = self.said();
        for (drawn, said) in self.drawn.iter().zip(said.iter_mut()) {
            if is_of(drawn, binding, policy) {
                *said = Some(cost);
            }
        }
    }

    /// Settles what was said, once. Waits for nothing.
    pub fn settle(&self, now: Instant) {
        let said = std::mem::take(&mut *self.said());
        let passed = now.saturating_duration_since(self.at);
        let settled =
            self.drawn.iter().zip(said).filter_map(|(drawn, cost)| difference(drawn, cost?, passed));
        let settled: Vec<Settlement> = settled.collect();
        if !settled.is_empty() {
            self.counter.settle(settled);
        }
    }

    fn said(&self) -> MutexGuard<'_, Vec<Option<u32>>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Settling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Settling").field("drawn", &self.drawn).finish_non_exhaustive()
    }
}

fn is_of(drawn: &Drawn, binding: &str, policy: &str) -> bool {
    *drawn.binding == *binding && *drawn.policy == *policy
}

/// What is to be settled for a draw that has cost this much, so long after it. `None`: nothing.
///
/// Of a draw that cost too much, only what has not flowed back by itself is given back: more would admit too much.
fn difference(drawn: &Drawn, cost: u32, passed: Duration) -> Option<Settlement> {
    let Draw { bucket, policy, rate, cost: estimate } = drawn.draw;
    let nanoseconds = i128::from(rate.unit()) * (i128::from(cost) - i128::from(estimate));
    let charged = u128::from(rate.unit()) * u128::from(estimate);
    let left = drawn.reset.saturating_sub(passed).as_nanos().min(charged);
    let least = -i128::try_from(left).unwrap_or(i128::MAX);
    let change = i64::try_from(nanoseconds.max(least)).unwrap_or(i64::MAX);
    (change != 0).then_some(Settlement { bucket, policy, rate, change })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contracts::MaybeReady;
    use crate::contracts::counter::{BucketStates, Rate, Unavailable};

    #[derive(Default)]
    struct Book(Mutex<Vec<Vec<Settlement>>>);

    impl Counter for Book {
        fn charge<'a>(&'a self, _: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
            MaybeReady::over(Err(Unavailable))
        }

        fn settle(&self, settled: Vec<Settlement>) {
            self.0.lock().expect("nobody panics").push(settled);
        }
    }

    const SECOND: i64 = 1_000_000_000;

    /// A draw of 10 from 60 a minute, whose bucket is full again after so many seconds.
    fn drawn(policy: &str, reset: u64) -> Drawn {
        let rate = Rate::of(60, Duration::from_secs(60), 60).expect("a rate");
        let draw = Draw { bucket: 1, policy: 1, cost: 10, rate };
        Drawn { binding: "b".into(), policy: policy.into(), draw, reset: Duration::from_secs(reset) }
    }

    fn settled(cost: u32, reset: u64, passed: u64) -> Option<i64> {
        difference(&drawn("p", reset), cost, Duration::from_secs(passed)).map(|settled| settled.change)
    }

    #[test]
    fn the_difference_is_settled_and_never_more_than_is_left_of_the_draw() {
        assert_eq!(settled(25, 10, 0), Some(15 * SECOND));
        assert_eq!(settled(10, 10, 0), None);
        assert_eq!(settled(4, 10, 0), Some(-6 * SECOND));
        assert_eq!(settled(0, 10, 7), Some(-3 * SECOND), "seven seconds have flowed back by themselves");
        assert_eq!(settled(0, 10, 11), None);
        assert_eq!(settled(0, 50, 5), Some(-10 * SECOND), "others have drawn as well");
        assert_eq!(settled(u32::MAX, 10, 0).map(|change| change > 0), Some(true));
    }

    #[test]
    fn only_what_was_said_of_an_own_draw_is_settled_and_only_once() {
        let book = Arc::new(Book::default());
        let begun = Instant::now();
        let settling = Settling::new(Arc::clone(&book) as _, begun, vec![drawn("p", 10), drawn("q", 10)]);
        assert!(
            settling.has_drawn("b", "p")
                && !settling.has_drawn("other", "p")
                && !settling.has_drawn("b", "r")
        );
        settling.say("other", "p", 1);
        settling.say("b", "q", 3);
        settling.say("b", "q", 30);
        settling.settle(begun);
        settling.say("b", "q", 50);
        settling.settle(begun);
        let book = book.0.lock().expect("nobody panics");
        let changes: Vec<i64> = book.iter().flatten().map(|settled| settled.change).collect();
        assert_eq!(changes, [20 * SECOND]);
    }
}
