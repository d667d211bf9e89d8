//! The epoch clock of an engine: its ticks interrupt calls that take too long. It stops while no guest runs,
//! because its 200 wake-ups a second take about one per cent of a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// Period of the ticks. A loop is interrupted at most this much later than its budget allows; a shorter period
/// costs more CPU time than it saves.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// Number of ticks after which the clock checks whether a guest has run since the last check. If none has, the
/// clock stops.
const ASKS: u32 = 100;

/// A running guest calls [`Clock::keep_going`] at least once in this many ticks, so that the clock does not stop
/// meanwhile.
pub(crate) const LONGEST_LOOK: u64 = ASKS as u64 / 2;

/// How often a stopped clock checks whether its engine still exists.
const NAP: Duration = Duration::from_secs(10);

/// A guest has run since the last check.
const WANTED: u8 = 0;
/// No guest has run since the last check.
const UNWANTED: u8 = 1;
/// The clock is stopped; its thread waits to be woken.
const RESTING: u8 = 2;

/// A handle on the thread that ticks.
pub(crate) struct Clock {
    state: Arc<AtomicU8>,
    thread: Thread,
}

impl Clock {
    /// Starts the thread, which calls `tick` until `tick` returns false.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    #[expect(clippy::disallowed_methods, reason = "this thread does nothing but sleep and tick")]
    pub(crate) fn start(mut tick: impl FnMut() -> bool + Send + 'static) -> std::io::Result<Clock> {
        let state = Arc::new(AtomicU8::new(WANTED));
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new().name("witgate-epoch".into()).spawn(move || {
            loop {
                for _ in 0..ASKS {
                    if !tick() {
                        return;
                    }
                    thread::sleep(TICK);
                }
                if shared.compare_exchange(WANTED, UNWANTED, Ordering::AcqRel, Ordering::Acquire).is_err() {
                    rest(&shared, &mut tick);
                }
            }
        })?;
        Ok(Clock { state, thread: thread.thread().clone() })
    }

    /// Keeps the clock ticking, and starts it again if it is stopped. Called before a guest runs and at each
    /// reading of its budget.
    #[inline]
    pub(crate) fn keep_going(&self) {
        if self.state.load(Ordering::Relaxed) != WANTED
            && self.state.swap(WANTED, Ordering::AcqRel) == RESTING
        {
            self.thread.unpark();
        }
    }
}

/// Waits until a guest runs again, or until the engine is gone.
fn rest(state: &AtomicU8, tick: &mut impl FnMut() -> bool) {
    if state.compare_exchange(UNWANTED, RESTING, Ordering::AcqRel, Ordering::Acquire).is_err() {
        return;
    }
    while state.load(Ordering::Acquire) == RESTING && tick() {
        thread::park_timeout(NAP);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;
    use std::time::Instant;

    use super::*;

    /// Waits for a condition.
    fn until(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "it does not come true");
            thread::yield_now();
        }
    }

    #[test]
    fn it_ticks_while_it_is_wanted_rests_when_it_is_not_and_ends() {
        let ticks = Arc::new(AtomicU64::new(0));
        let (counted, goes_on) = (Arc::clone(&ticks), Arc::new(()));
        let engine = Arc::downgrade(&goes_on);
        let clock = Clock::start(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            engine.strong_count() > 0
        })
        .unwrap();
        let ticked = || ticks.load(Ordering::Relaxed);

        until(|| {
            clock.keep_going();
            ticked() > 3 * u64::from(ASKS)
        });
        until(|| clock.state.load(Ordering::Relaxed) == RESTING);
        // One tick may come from the check for the engine that a stopped clock makes.
        let rested = ticked() + 1;
        clock.keep_going();
        until(|| ticked() > rested + 10);

        drop(goes_on);
        until(|| Arc::strong_count(&ticks) == 1);
    }
}
