//! The generic cell rate algorithm (ITU-T I.371, annex A), as pure arithmetic.
//!
//! A bucket is one number: the time at which it will be full again. A draw moves that time forward by what it
//! costs, and is admitted if the time then is no further away than a full bucket takes to fill. Over any span `t`
//! at most `burst + t * limit / window` is admitted.

use std::time::Duration;

use super::counter::BucketState;

/// The most nanoseconds that filling a bucket may take, a century. It keeps every sum in range.
const LONGEST: u64 = 100 * 366 * 24 * 3600 * 1_000_000_000;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds in which one unit is refilled, rounded up so that rounding never admits more.
    unit: u64,
    /// Units that a full bucket holds.
    burst: u32,
}

impl Rate {
    /// The rate of `limit` units in each window. `None` if the limit or the window is zero, or if filling a bucket
    /// takes longer than a century.
    pub fn of(limit: u32, window: Duration, burst: u32) -> Option<Rate> {
        if limit == 0 || window.is_zero() {
            return None;
        }
        let unit = window.as_nanos().div_ceil(u128::from(limit));
        let longest = unit * u128::from(burst.max(1));
        let unit = u64::try_from(unit).ok()?;
        (longest <= u128::from(LONGEST)).then_some(Rate { unit, burst })
    }

    /// Nanoseconds in which one unit is refilled.
    pub fn unit(self) -> u64 {
        self.unit
    }

    /// Units that a full bucket holds, which is the most that may be drawn at once.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// The rate of one of several gateways that share this rate evenly without communicating. A bucket holds at
    /// least one unit.
    #[must_use]
    pub fn share(self, gateways: u32) -> Rate {
        let gateways = gateways.max(1);
        let burst = (self.burst / gateways).max(1);
        let slowest = LONGEST / u64::from(burst);
        Rate { unit: self.unit.saturating_mul(u64::from(gateways)).min(slowest), burst }
    }

    /// Nanoseconds in which an empty bucket fills.
    pub fn capacity(self) -> u64 {
        self.unit * u64::from(self.burst)
    }

    /// The time at which a bucket that would be full at `full` is full after a draw at `now`; `None` if the draw
    /// is not admitted. A cost of 0 is always admitted.
    pub fn charge(self, full: u64, now: u64, cost: u32) -> Option<u64> {
        let after = full.max(now).checked_add(self.unit.checked_mul(u64::from(cost))?)?;
        (cost == 0 || after - now <= self.capacity()).then_some(after)
    }

    /// The latest time, seen from `now`, at which a bucket may be full: an empty bucket that owes as much again.
    pub fn latest(self, now: u64) -> u64 {
        now.saturating_add(self.capacity()).saturating_add(self.capacity())
    }

    /// The time at which a bucket that would be full at `full` is full after a settlement at `now`. It is never fuller than full,
    /// and owes at most [what it holds](Rate::latest).
    pub fn settle(self, full: u64, now: u64, change: i64) -> u64 {
        let amount = change.unsigned_abs();
        match change < 0 {
            true if full <= now => full,
            true => full.saturating_sub(amount).max(now),
            false => full.max(now).saturating_add(amount).min(self.latest(now)).max(full),
        }
    }

    /// The state at `now` of a bucket that will be full at `full`, for a draw that was admitted or not.
    pub fn state(self, full: u64, now: u64, cost: u32, admitted: bool) -> BucketState {
        let missing = full.saturating_sub(now);
        let remaining = self.capacity().saturating_sub(missing) / self.unit;
        let cost = self.unit.saturating_mul(u64::from(cost));
        let wait = missing.saturating_add(cost).saturating_sub(self.capacity());
        BucketState {
            admitted,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(missing),
            counted: true,
            retry_after: if admitted { Duration::ZERO } else { Duration::from_nanos(wait) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: u32, window: u64, burst: u32) -> Rate {
        Rate::of(limit, Duration::from_millis(window), burst).unwrap()
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_unit_each_interval() {
        let rate = rate(10, 1000, 3);
        let mut full = 0;
        let now = 5_000_000_000;
        for _ in 0..3 {
            full = rate.charge(full, now, 1).unwrap();
        }
        assert_eq!(rate.charge(full, now, 1), None);
        assert_eq!(rate.charge(full, now + 99_999_999, 1), None);
        let later = rate.charge(full, now + 100_000_000, 1).unwrap();
        assert_eq!(rate.charge(later, now + 100_000_000, 1), None);
    }

    #[test]
    fn a_settlement_gives_back_no_more_than_was_drawn_and_its_debt_is_bounded() {
        let rate = rate(10, 1000, 10);
        let (now, unit) = (5_000_000_000, 100_000_000);
        let full = rate.charge(0, now, 4).unwrap();
        assert_eq!(rate.settle(full, now, -3 * unit), now + 100_000_000);
        assert_eq!(rate.settle(full, now, -30 * unit), now, "never fuller than full");
        assert_eq!(rate.settle(now - 1, now, -unit), now - 1);
        assert_eq!(rate.settle(full, now, 2 * unit), now + 600_000_000);
        let owing = rate.settle(full, now, i64::MAX);
        assert_eq!(owing, now + 2 * rate.capacity());
        assert_eq!(rate.charge(owing, now, 1), None);
        assert_eq!(rate.charge(owing, now + rate.capacity(), 1), None);
        assert!(rate.charge(owing, now + rate.capacity() + 100_000_000, 1).is_some());
        assert_eq!(rate.state(owing, now, 1, false).remaining, 0);
        assert_eq!(rate.settle(owing + 7, now, unit), owing + 7, "a lowered limit forgives nothing");
    }

    #[test]
    fn rounding_never_admits_more() {
        let rate = rate(3, 1, 3);
        let mut full = 0;
        let admitted = (0..3_000_000_u64)
            .step_by(1000)
            .filter(|now| rate.charge(full, *now, 1).map(|after| full = after).is_some())
            .count();
        assert!(admitted <= 3 + 9, "{admitted}");
        assert!(admitted >= 11, "{admitted}");
    }

    #[test]
    fn a_draw_over_the_burst_is_never_admitted_and_a_cost_of_nothing_always_is() {
        let rate = rate(1, 1000, 1);
        assert_eq!(rate.charge(0, 10, 2), None);
        let full = rate.charge(0, 10, 1).unwrap();
        assert_eq!(rate.charge(full, 10, 0), Some(full));
        assert_eq!(rate.charge(0, 10, u32::MAX), None);
    }

    #[test]
    fn a_draw_whose_end_no_clock_can_tell_is_not_admitted() {
        let rate = Rate::of(1, Duration::from_secs(3_000_000_000), 1).unwrap();
        assert_eq!(rate.charge(0, u64::MAX / 4, 5), None);
    }

    #[test]
    fn shares_of_a_rate_add_up_to_no_more_than_it() {
        let share = rate(10, 1000, 9).share(3);
        assert_eq!((share.unit(), share.burst()), (300_000_000, 3));
        let share = rate(1, 1000, 1).share(3);
        assert_eq!(
            (share.unit(), share.burst()),
            (3_000_000_000, 1),
            "a bucket of nothing would admit nobody"
        );
        let century = Rate::of(1, Duration::from_secs(3_000_000_000), 1).unwrap().share(1000);
        assert!(century.charge(0, 1, 1).is_some(), "sums stay in range");
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        assert_eq!(Rate::of(0, Duration::from_secs(1), 1), None);
        assert_eq!(Rate::of(1, Duration::ZERO, 1), None);
        assert_eq!(Rate::of(1, Duration::from_millis(u64::MAX), 1), None);
        assert_eq!(Rate::of(1, Duration::from_secs(86_400), u32::MAX), None);
    }
}
