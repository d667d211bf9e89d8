//! The time as breakers, windows and limits count it.

use std::time::{Duration, Instant};

/// Milliseconds since some beginning. In tests it stands still until it is moved.
#[derive(Debug)]
pub(super) enum Clock {
    /// Runs by itself.
    Running(Instant),
    /// Moved by hand.
    #[cfg(test)]
    Still(std::sync::atomic::AtomicU64),
}

impl Default for Clock {
    fn default() -> Self {
        Clock::Running(Instant::now())
    }
}

impl Clock {
    /// How late it is.
    pub(super) fn now(&self) -> u64 {
        match self {
            Clock::Running(beginning) => millis(beginning.elapsed()),
            #[cfg(test)]
            Clock::Still(now) => now.load(std::sync::atomic::Ordering::SeqCst),
        }
    }

    /// A clock that stands still.
    #[cfg(test)]
    pub(super) fn still() -> Clock {
        Clock::Still(std::sync::atomic::AtomicU64::new(1))
    }

    /// Moves a clock that stands still.
    #[cfg(test)]
    pub(super) fn pass(&self, time: Duration) {
        match self {
            Clock::Running(_) => panic!("this clock runs by itself"),
            Clock::Still(now) => {
                now.fetch_add(millis(time), std::sync::atomic::Ordering::SeqCst);
            }
        }
    }
}

/// Whole milliseconds; sums of two do not overflow.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
