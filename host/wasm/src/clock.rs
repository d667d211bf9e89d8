//! The clock of an engine: its ticks end calls that take too long. It rests while no guest runs, because a tick costs
//! a wake-up, two hundred of them a second about one per cent of a core.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// How often it ticks. A loop is noticed at most this much late; a shorter tick costs more of a core than it gains.
pub(crate) const TICK: Duration = Duration::from_millis(5);

/// After this many ticks it asks whether it is still wanted; it rests when it was not since it asked last.
const ASKS: u32 = 100;

/// A guest that runs says so at least this often, in ticks, so that the clock never rests meanwhile.
pub(crate) const LONGEST_LOOK: u64 = ASKS as u64 / 2;

/// How long a resting clock waits before it looks whether its engine is gone.
const NAP: Duration = Duration::from_secs(10);

/// A guest runs, or ran since the clock asked.
const WANTED: u8 = 0;
/// None ran since the clock asked.
const UNWANTED: u8 = 1;
/// The thread waits to be woken.
const RESTING: u8 = 2;

/// A handle on the thread that ticks.
pub(crate) struct Clock {
    state: Arc<AtomicU8>,
    thread: Thread,
}

impl Clock {
    /// Starts the thread, which calls `tick` until that answers that there is nothing left to tick for.
    ///
    /// # Errors
    /// The system refuses a thread.
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

    /// A guest runs from now on, or still does: whoever lets one run says so, and so does each look at its time.
    #[inline]
    pub(crate) fn keep_going(&self) {
        if self.state.load(Ordering::Relaxed) != WANTED
            && self.state.swap(WANTED, Ordering::AcqRel) == RESTING
        {
            self.thread.unpark();
        }
    }
}

/// Waits to be wanted again, or for the end.
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
        // The tick that a resting clock looks for its engine with.
        let rested = ticked() + 1;
        clock.keep_going();
        until(|| ticked() > rested + 10);

        drop(goes_on);
        until(|| Arc::strong_count(&ticks) == 1);
    }
}
