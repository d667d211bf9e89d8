//! A sliding window that counts calls and bad calls: a ring of time buckets, shared by all cores, without locks.
//!
//! A bucket is one word that contains its time slot and its counts, so that counting a call and starting the
//! bucket again are one atomic step. Therefore no call is lost or counted twice, whatever the threads do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::millis;

/// The number of buckets of a window. The window slides by one bucket at a time.
const BUCKETS: u64 = 10;

/// Bits of a count. The other bits of a word are the number of its time slot.
const COUNT: u32 = 22;

const MOST: u64 = (1 << COUNT) - 1;
const SLOTS: u64 = 1 << (64 - 2 * COUNT);

/// No thread is late by more than this many slots. A slot that seems to be further ahead is in fact very old.
const LATEST: u64 = 8 * BUCKETS;

/// A sliding window.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// The length of a slot in milliseconds; 0 before the first call. When a reload changes it, counting starts
    /// again.
    width: AtomicU64,
    buckets: [AtomicU64; BUCKETS as usize],
}

/// The counts of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) bad: u64,
}

impl Tally {
    /// One call that is not bad so far.
    pub(crate) const GOOD: Tally = Tally { calls: 1, bad: 0 };
    /// One bad call.
    pub(crate) const BAD: Tally = Tally { calls: 1, bad: 1 };
    /// A call that was already counted as not bad has turned out to be bad.
    pub(crate) const TURNED_BAD: Tally = Tally { calls: 0, bad: 1 };

    /// The share of bad calls. `None` if there are fewer than `least` calls.
    pub(crate) fn share(self, least: u32) -> Option<f64> {
        (self.calls >= u64::from(least)).then(|| self.bad as f64 / self.calls as f64)
    }
}

impl Window {
    /// Counts `more`, and returns the counts of the window. `now` is in milliseconds.
    pub(crate) fn count(&self, now: u64, length: Duration, more: Tally) -> Tally {
        let slot = self.slot(now, length);
        let bucket = &self.buckets[(slot % BUCKETS) as usize];
        // Fails only if another thread has started this bucket again. Then the call is no longer in the window.
        let _ = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (begun, tally) = unpack(word);
            let ahead = begun.wrapping_sub(slot) % SLOTS;
            match ahead {
                0 => Some(pack(slot, tally.calls + more.calls, tally.bad + more.bad)),
                1..=LATEST => None,
                _ => Some(pack(slot, more.calls, more.bad)),
            }
        });
        self.sum(slot)
    }

    /// Starts counting again.
    pub(crate) fn clear(&self) {
        self.buckets.iter().for_each(|bucket| bucket.store(0, Ordering::Release));
    }

    fn slot(&self, now: u64, length: Duration) -> u64 {
        let width = (millis(length) / BUCKETS).max(1);
        if self.width.load(Ordering::Relaxed) != width {
            let before = self.width.swap(width, Ordering::AcqRel);
            // A new window is already empty. Clearing it would remove what another thread has counted in the
            // meantime.
            if before != 0 && before != width {
                self.clear();
            }
        }
        // A window that has just begun must not reach back to slot 0, because empty buckets have that number.
        (now / width + BUCKETS) % SLOTS
    }

    fn sum(&self, slot: u64) -> Tally {
        let words = self.buckets.iter().map(|bucket| unpack(bucket.load(Ordering::Acquire)));
        let within = words.filter(|(begun, _)| slot.wrapping_sub(*begun) % SLOTS < BUCKETS);
        within.fold(Tally::default(), |sum, (_, tally)| Tally {
            calls: sum.calls + tally.calls,
            bad: sum.bad + tally.bad,
        })
    }
}

/// A full bucket does not change any more: the share of bad calls in it is precise enough.
fn pack(slot: u64, calls: u64, bad: u64) -> u64 {
    (slot << (2 * COUNT)) | (calls.min(MOST) << COUNT) | bad.min(MOST)
}

fn unpack(word: u64) -> (u64, Tally) {
    (word >> (2 * COUNT), Tally { calls: (word >> COUNT) & MOST, bad: word & MOST })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn calls_leave_the_window_with_their_bucket() {
        let window = Window::default();
        window.count(0, SECOND, Tally::BAD);
        assert_eq!(window.count(999, SECOND, Tally::GOOD), Tally { calls: 2, bad: 1 });
        assert_eq!(window.count(1000, SECOND, Tally::GOOD), Tally { calls: 2, bad: 0 });
        assert_eq!(window.count(60_000, SECOND, Tally::GOOD), Tally::GOOD);
    }

    #[test]
    fn a_thread_that_is_late_changes_nothing_and_an_age_without_calls_is_no_future() {
        let window = Window::default();
        window.count(5000, SECOND, Tally::GOOD);
        assert_eq!(window.count(3000, SECOND, Tally::BAD), Tally::default(), "as of then");
        assert_eq!(window.count(5000, SECOND, Tally::GOOD), Tally { calls: 2, bad: 0 });
        let half_an_age = SLOTS / 2 * 100;
        assert_eq!(window.count(5000 + half_an_age, SECOND, Tally::GOOD), Tally::GOOD);
    }

    #[test]
    fn another_length_begins_anew() {
        let window = Window::default();
        window.count(50, SECOND, Tally::BAD);
        assert_eq!(window.count(50, 2 * SECOND, Tally::GOOD), Tally::GOOD);
    }

    #[test]
    fn threads_that_come_first_at_once_both_count() {
        let windows: Arc<Vec<Window>> = Arc::new((0..20_000).map(|_| Window::default()).collect());
        let arrived = Arc::new(AtomicU64::new(0));
        let counting = [(); 2].map(|()| {
            let (windows, arrived) = (windows.clone(), arrived.clone());
            std::thread::spawn(move || {
                for (before, window) in (0..).zip(&*windows) {
                    arrived.fetch_add(1, Ordering::AcqRel);
                    while arrived.load(Ordering::Acquire) < 2 * before + 2 {
                        std::thread::yield_now();
                    }
                    window.count(0, SECOND, Tally::GOOD);
                }
            })
        });
        counting.into_iter().for_each(|thread| thread.join().unwrap());
        let lost = |window: &&Window| window.count(0, SECOND, Tally::default()).calls != 2;
        assert_eq!(windows.iter().filter(lost).count(), 0);
    }

    proptest! {
        /// Whatever the order of steps in time, the sum is what a list of all calls says.
        #[test]
        fn sums_are_those_of_a_list(steps in prop::collection::vec((0_u64..400, any::<bool>()), 1..200)) {
            let (window, mut now, mut calls) = (Window::default(), 0, Vec::new());
            for (step, bad) in steps {
                now += step;
                calls.push((now / 100, bad));
                let within = calls.iter().filter(|(slot, _)| now / 100 - slot < BUCKETS);
                let expected = Tally {
                    calls: within.clone().count() as u64,
                    bad: within.filter(|(_, bad)| *bad).count() as u64,
                };
                let more = if bad { Tally::BAD } else { Tally::GOOD };
                prop_assert_eq!(window.count(now, SECOND, more), expected);
            }
        }

        /// However calls are spread over threads, none is lost while the window slides within its length.
        #[test]
        fn threads_lose_nothing(threads in 1_usize..5, each in 1_u64..300) {
            let window = Arc::new(Window::default());
            let counting: Vec<_> = (0..threads)
                .map(|_| {
                    let window = window.clone();
                    std::thread::spawn(move || {
                        for call in 0..each {
                            let more = if call % 3 == 0 { Tally::BAD } else { Tally::GOOD };
                            window.count(call * 900 / each, SECOND, more);
                        }
                    })
                })
                .collect();
            counting.into_iter().for_each(|thread| thread.join().unwrap());
            let sum = window.count(900, SECOND, Tally::default());
            let threads = threads as u64;
            prop_assert_eq!(sum, Tally { calls: threads * each, bad: threads * each.div_ceil(3) });
        }
    }
}
