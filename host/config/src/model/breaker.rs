//! The settings of a circuit breaker.

use std::time::Duration;

/// A circuit breaker, of an endpoint or of an upstream as a whole. Any of its rules opens it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Statuses of responses that count as failures.
    pub statuses: Statuses,
    /// Consecutive failures that open it; the end of a shared connection counts once; 0: never. The breaker of the
    /// last endpoint in service opens only by failures to connect and by responses with one of `statuses`.
    pub consecutive_failures: u32,
    /// Share of failed calls in the window that opens it, up to 1; 0: never.
    pub failure_ratio: f64,
    /// Share of slow calls in the window that opens it, up to 1; 0: never.
    pub slow_ratio: f64,
    /// A call is slow if its response head takes at least this long.
    pub slow_call: Duration,
    /// The time over which the shares are counted.
    pub window: Duration,
    /// The fewest calls in the window for the shares to apply.
    pub min_requests: u32,
    /// How long it stays open before probes are let through.
    pub open_for: Duration,
    /// The longest time it stays open after probes have failed repeatedly; at least `open_for`.
    pub max_open_for: Duration,
    /// Probes in flight at once while it is half-open, at least 1.
    pub probes: u32,
    /// Probes that must succeed before it closes, at least 1.
    pub probe_successes: u32,
}

/// Statuses from 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statuses([u64; 4]);

impl Statuses {
    const FIRST: u16 = 400;
    const LAST: u16 = 599;

    /// Whether a status is among them.
    pub fn contains(self, status: u16) -> bool {
        Self::bit(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    fn bit(status: u16) -> Option<(usize, u64)> {
        let known = (Self::FIRST..=Self::LAST).contains(&status);
        known.then(|| usize::from(status - Self::FIRST)).map(|place| (place / 64, 1 << (place % 64)))
    }
}

impl FromIterator<u16> for Statuses {
    /// Statuses outside of 400 to 599 are left out.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut words = [0; 4];
        for (word, bit) in statuses.into_iter().filter_map(Self::bit) {
            words[word] |= bit;
        }
        Statuses(words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_were_named() {
        let named = [400, 463, 464, 503, 599];
        let statuses: Statuses = named.into_iter().chain([200, 399, 600]).collect();
        let found: Vec<u16> = (100..=999).filter(|status| statuses.contains(*status)).collect();
        assert_eq!(found, named);
        assert!((100..=999).all(|status| !Statuses::default().contains(status)));
    }
}
