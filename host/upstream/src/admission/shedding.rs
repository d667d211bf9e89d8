//! Load shedding as a state: it begins with the first dropped request, and ends when none was dropped for a while.
//! Single drops are only counted, because they would be too many events.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Clock;

/// Milliseconds without a dropped request after which shedding is over.
const CALM: u64 = 5000;

/// The dropped requests of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Shedding {
    clock: Clock,
    dropped: AtomicU64,
    /// The number of dropped requests when the current shedding began.
    before: AtomicU64,
    last: AtomicU64,
    under_way: AtomicBool,
}

impl Shedding {
    /// Counts a dropped request. Returns true if it is the first one.
    pub(crate) fn dropped(&self) -> bool {
        let before = self.dropped.fetch_add(1, Ordering::AcqRel);
        self.last.store(self.clock.now(), Ordering::Release);
        let first = !self.under_way.swap(true, Ordering::AcqRel);
        if first {
            self.before.store(before, Ordering::Release);
        }
        first
    }

    /// The number of dropped requests, if shedding has just ended.
    pub(crate) fn calmed_down(&self) -> Option<u64> {
        let over = self.under_way.load(Ordering::Acquire)
            && self.clock.now().saturating_sub(self.last.load(Ordering::Acquire)) >= CALM;
        (over && self.under_way.swap(false, Ordering::AcqRel))
            .then(|| self.count() - self.before.load(Ordering::Acquire))
    }

    /// The time until shedding may be over. `None` if no requests are being dropped.
    pub(crate) fn calm_in(&self) -> Option<Duration> {
        let calm = (self.last.load(Ordering::Acquire) + CALM).saturating_sub(self.clock.now());
        self.is_under_way().then(|| Duration::from_millis(calm))
    }

    /// The number of dropped requests since the upstream was first configured.
    pub(crate) fn count(&self) -> u64 {
        self.dropped.load(Ordering::Acquire)
    }

    /// Whether requests are being dropped.
    pub(crate) fn is_under_way(&self) -> bool {
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
