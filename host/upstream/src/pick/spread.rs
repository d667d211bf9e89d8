//! Computes how requests are spread over the groups of an upstream: its own zone before others, priority 0 before
//! 1.
//!
//! Each group in turn takes as much of the remaining requests as it can: all of them as long as a share of
//! `spill_below` of its endpoints is usable, below that a proportional part. If all groups together cannot take
//! all requests, the rest is spread in the same proportions. If then fewer than `panic_below` of all endpoints are
//! usable, unhealthy endpoints are used as well (panic).

/// The endpoints of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    /// Endpoints that neither operator nor source excludes: not drained, and with a weight.
    pub(crate) wanted: usize,
    /// Of the wanted endpoints, those that may take requests.
    pub(crate) usable: usize,
    /// Of the wanted endpoints, those that are excluded only by their health.
    pub(crate) unhealthy: usize,
}

/// The shares of the groups.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spread {
    /// The share of each group. The sum is 1, or 0 if no endpoint can take requests.
    pub(crate) shares: Vec<f64>,
    /// Whether endpoints that are excluded only by their health are used as well.
    pub(crate) panics: bool,
}

/// Ratios are compared with this tolerance, so that 7 of 10 are not below 0.7.
const TOLERANCE: f64 = 1e-9;

/// Computes the shares.
pub(crate) fn spread(counts: &[Count], spill_below: f64, panic_below: f64) -> Spread {
    let shares = shares(counts.iter().map(|count| (count.usable, count.wanted)), spill_below);
    let (usable, unhealthy, wanted) = counts.iter().fold((0, 0, 0), |(usable, unhealthy, wanted), count| {
        (usable + count.usable, unhealthy + count.unhealthy, wanted + count.wanted)
    });
    let enough = shares.iter().sum::<f64>() >= 1.0 - TOLERANCE;
    let panics = !enough && unhealthy > 0 && (usable as f64) < panic_below * wanted as f64 - TOLERANCE;
    let shares = if panics {
        self::shares(counts.iter().map(|count| (count.usable + count.unhealthy, count.wanted)), spill_below)
    } else {
        shares
    };
    let sum: f64 = shares.iter().sum();
    let whole = |share: f64| if sum > 0.0 { share / sum } else { 0.0 };
    Spread { shares: shares.into_iter().map(whole).collect(), panics }
}

/// The share of each group, from the numbers of its usable and its wanted endpoints.
fn shares(counts: impl Iterator<Item = (usize, usize)>, spill_below: f64) -> Vec<f64> {
    let mut left = 1.0;
    let share = |(usable, wanted): (usize, usize)| {
        let needed = spill_below * wanted as f64;
        let able = if usable as f64 >= needed - TOLERANCE { 1.0 } else { usable as f64 / needed };
        let share = if wanted == 0 { 0.0 } else { f64::min(left, able) };
        left -= share;
        share
    };
    counts.map(share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Usable, unhealthy and wanted endpoints of each group.
    fn groups(groups: &[(usize, usize, usize)]) -> Vec<Count> {
        let count = |(usable, unhealthy, wanted): &(usize, usize, usize)| Count {
            wanted: *wanted,
            usable: *usable,
            unhealthy: *unhealthy,
        };
        groups.iter().map(count).collect()
    }

    fn check(counts: &[(usize, usize, usize)], expected: &[f64], panics: bool) {
        let spread = spread(&groups(counts), 0.7, 0.5);
        let close =
            spread.shares.iter().zip(expected).all(|(share, expected)| (share - expected).abs() < 1e-6);
        assert!(close && spread.panics == panics, "{counts:?}: {spread:?}, not {expected:?}");
    }

    #[test]
    fn the_next_takes_what_is_left_below_the_threshold_exactly() {
        check(&[(10, 0, 10), (5, 0, 5)], &[1.0, 0.0], false);
        check(&[(7, 3, 10), (5, 0, 5)], &[1.0, 0.0], false);
        check(&[(6, 4, 10), (5, 0, 5)], &[6.0 / 7.0, 1.0 / 7.0], false);
        check(&[(0, 10, 10), (5, 0, 5)], &[0.0, 1.0], false);
        check(&[(0, 0, 0), (5, 0, 5)], &[0.0, 1.0], false);
        // The second is at 40 %: able to take 4/7, of which 4/7 is more than what is left.
        check(&[(5, 5, 10), (4, 6, 10), (1, 0, 1)], &[5.0 / 7.0, 2.0 / 7.0, 0.0], false);
    }

    #[test]
    fn health_is_not_believed_below_the_threshold_exactly() {
        check(&[(5, 5, 10)], &[1.0], false);
        check(&[(4, 6, 10)], &[1.0], true);
        check(&[(0, 3, 3)], &[1.0], true);
        // Endpoints that an open breaker keeps from it come back no sooner.
        check(&[(1, 0, 10)], &[1.0], false);
        check(&[(0, 0, 3)], &[0.0], false);
        // A level that can take everything is no reason to panic, however many endpoints before it are gone.
        check(&[(0, 30, 30), (3, 0, 3)], &[0.0, 1.0], false);
        // In panic the first level takes everything again.
        check(&[(1, 9, 10), (1, 9, 10)], &[1.0, 0.0], true);
    }

    #[test]
    fn never_is_never() {
        assert!(!spread(&groups(&[(0, 3, 3)]), 0.7, 0.0).panics);
    }

    proptest! {
        /// All requests go to some group as long as any endpoint is usable, and none to a group without usable
        /// endpoints.
        #[test]
        fn everything_goes_to_those_who_can_take_it(
            counts in prop::collection::vec((0_usize..20, 0_usize..20, 0_usize..20), 1..6),
            spill_below in 0.01_f64..=1.0,
            panic_below in 0.0_f64..=1.0,
        ) {
            let counts: Vec<_> = counts
                .iter()
                .map(|(usable, unhealthy, rest)| (*usable, *unhealthy, usable + unhealthy + rest))
                .collect();
            let spread = spread(&groups(&counts), spill_below, panic_below);
            let somebody = counts.iter().any(|(usable, unhealthy, _)| {
                *usable > 0 || (spread.panics && *unhealthy > 0)
            });
            let sum: f64 = spread.shares.iter().sum();
            let whole = if somebody { 1.0 } else { 0.0 };
            prop_assert!((sum - whole).abs() < 1e-6, "{} is not {}", sum, whole);
            for ((usable, unhealthy, _), share) in counts.iter().zip(&spread.shares) {
                prop_assert!(*share == 0.0 || *usable > 0 || (spread.panics && *unhealthy > 0));
            }
        }
    }
}
