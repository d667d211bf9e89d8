//! The clock of breakers, windows and limits.

use std::time::{Duration, Instant};

/// Counts milliseconds from some start. In tests it stands still until it is advanced.
#[derive(Debug)]
pub(crate) enum Clock {
    /// A running clock.
    Running(Instant),
    /// A clock that is advanced explicitly.
    #[cfg(test)]
    Still(std::sync::atomic::AtomicU64),
}

impl Default for Clock {
    fn default() -> Self {
        Clock::Running(Instant::now())
    }
}

impl Clock {
    /// The current time in milliseconds.
    pub(crate) fn now(&self) -> u64 {
        match self {
            Clock::Running(beginning) => millis(beginning.elapsed()),
            #[cfg(test)]
            Clock::Still(now) => now.load(std::sync::atomic::Ordering::SeqCst),
        }
    }

    /// A clock that stands still.
    #[cfg(test)]
    pub(crate) fn still() -> Clock {
        Clock::Still(std::sync::atomic::AtomicU64::new(1))
    }

    /// Advances a clock that stands still.
    #[cfg(test)]
    pub(crate) fn pass(&self, time: Duration) {
        match self {
            Clock::Running(_) => panic!("this clock runs by itself"),
            Clock::Still(now) => {
                now.fetch_add(millis(time), std::sync::atomic::Ordering::SeqCst);
            }
        }
    }
}

/// A duration in whole milliseconds. It is capped so that the sum of two does not overflow.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
