//! Whether requests are being dropped: begun with the first, over when none was for a while. Single drops are counted, and
//! would be too many to tell.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::upstream::time::Clock;

/// Milliseconds without a drop after which it is over.
const CALM: u64 = 5000;

/// The drops of one upstream.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Shedding {
    clock: Clock,
    dropped: AtomicU64,
    /// How many there were when it began.
    before: AtomicU64,
    last: AtomicU64,
    under_way: AtomicBool,
}

impl Shedding {
    /// A request was dropped. True if it is the first.
    pub(super) fn dropped(&self) -> bool {
        let before = self.dropped.fetch_add(1, Ordering::AcqRel);
        self.last.store(self.clock.now(), Ordering::Release);
        let first = !self.under_way.swap(true, Ordering::AcqRel);
        if first {
            self.before.store(before, Ordering::Release);
        }
        first
    }

    /// How many were dropped, if that is just over.
    pub(super) fn calmed_down(&self) -> Option<u64> {
        let over = self.under_way.load(Ordering::Acquire)
            && self.clock.now().saturating_sub(self.last.load(Ordering::Acquire)) >= CALM;
        (over && self.under_way.swap(false, Ordering::AcqRel))
            .then(|| self.count() - self.before.load(Ordering::Acquire))
    }

    /// The time until shedding may be over. `None` if no requests are being dropped.
    pub(in crate::upstream) fn calm_in(&self) -> Option<Duration> {
        let calm = (self.last.load(Ordering::Acquire) + CALM).saturating_sub(self.clock.now());
        self.is_under_way().then(|| Duration::from_millis(calm))
    }

    /// Requests dropped since the beginning.
    pub(in crate::upstream) fn count(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }

    /// Whether requests are being dropped.
    pub(in crate::upstream) fn is_under_way(&self) -> bool {
        self.under_way.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_the_first_and_ends_when_none_was_dropped_for_a_while() {
        let shedding = Shedding { clock: Clock::still(), ..Shedding::default() };
        assert_eq!(shedding.calmed_down(), None);
        assert!(shedding.dropped());
        shedding.clock.pass(Duration::from_millis(CALM - 1));
        assert_eq!(shedding.calmed_down(), None);
        assert!(!shedding.dropped());
        shedding.clock.pass(Duration::from_millis(CALM));
        assert_eq!(shedding.calmed_down(), Some(2));
        assert_eq!(shedding.calmed_down(), None);
        assert!(shedding.dropped());
        assert_eq!(shedding.count(), 3);
    }
}
