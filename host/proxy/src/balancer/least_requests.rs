//! Of two endpoints drawn at random by weight, the one with fewer requests in flight for its weight.
//!
//! Choose it when requests differ much in cost, or endpoints in speed. Two choices are nearly as good as looking at all
//! of them, cost the same for any number, and do not send every core to the same idle endpoint at once.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Balancer, BalancerKind, Candidate, Pick};

/// The row of the table.
pub const KIND: BalancerKind = BalancerKind {
    kind: "least-requests",
    summary: "the less busy of two drawn by weight; for requests or endpoints that differ in speed",
    build: |weights| Box::new(LeastRequests::new(weights)),
};

/// Draws before all endpoints are looked at: enough unless most of them are unusable.
const DRAWS: usize = 8;

/// The policy.
pub struct LeastRequests {
    /// The sum of the weights up to and including each endpoint's.
    sums: Box<[u64]>,
    seed: AtomicU64,
}

impl LeastRequests {
    fn new(weights: &[u32]) -> Self {
        let mut sum = 0;
        let sums = weights.iter().map(|weight| {
            sum += u64::from(*weight);
            sum
        });
        LeastRequests { sums: sums.collect(), seed: AtomicU64::new(0) }
    }

    fn draw(&self) -> Option<usize> {
        let total = *self.sums.last().filter(|total| **total > 0)?;
        // SplitMix64: a counter, well mixed.
        let mut point = self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
        point = (point ^ (point >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        point = (point ^ (point >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        point ^= point >> 31;
        let point = (u128::from(point) * u128::from(total)) >> 64;
        Some(self.sums.partition_point(|sum| u128::from(*sum) <= point))
    }
}

impl Balancer for LeastRequests {
    fn pick(&self, pick: &Pick<'_>, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let mut first = None;
        for _ in 0..DRAWS {
            let index = self.draw()?;
            match first {
                _ if first == Some(index) || !usable(index) => {}
                None => first = Some(index),
                Some(first) => return Some(less_busy(pick.endpoints, first, index)),
            }
        }
        first.or_else(|| {
            let all =
                (0..pick.endpoints.len()).filter(|index| pick.endpoints[*index].weight > 0 && usable(*index));
            all.reduce(|best, index| less_busy(pick.endpoints, best, index))
        })
    }
}

/// The one with fewer requests for its weight; the first of equals.
fn less_busy(endpoints: &[Candidate], first: usize, second: usize) -> usize {
    let load = |index: usize| endpoints[index].active.load(Ordering::Relaxed) as u64 + 1;
    let weight = |index: usize| u64::from(endpoints[index].weight);
    if load(second) * weight(first) < load(first) * weight(second) { second } else { first }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn candidates(loads: &[(u32, usize)]) -> Vec<Candidate> {
        let candidate = |(weight, active): &(u32, usize)| Candidate {
            weight: *weight,
            active: Arc::new(AtomicUsize::new(*active)),
        };
        loads.iter().map(candidate).collect()
    }

    fn counts(endpoints: &[Candidate], rounds: usize, usable: &dyn Fn(usize) -> bool) -> Vec<usize> {
        let policy =
            LeastRequests::new(&endpoints.iter().map(|endpoint| endpoint.weight).collect::<Vec<_>>());
        let mut counts = vec![0; endpoints.len()];
        for _ in 0..rounds {
            if let Some(index) = policy.pick(&Pick { endpoints, hash_key: None }, usable) {
                counts[index] += 1;
            }
        }
        counts
    }

    #[test]
    fn the_busiest_is_avoided() {
        let counts = counts(&candidates(&[(1, 0), (1, 50), (1, 0)]), 300, &|_| true);
        assert!(counts[1] < 10, "{counts:?}");
        assert!(counts[0] > 50 && counts[2] > 50, "{counts:?}");
    }

    #[test]
    fn a_heavier_endpoint_may_be_busier() {
        let counts = counts(&candidates(&[(10, 5), (1, 2)]), 100, &|_| true);
        assert!(counts[0] > counts[1], "{counts:?}");
    }

    #[test]
    fn the_only_usable_one_of_many_is_found() {
        let endpoints = candidates(&[(1, 0); 1000]);
        assert_eq!(counts(&endpoints, 20, &|index| index == 777)[777], 20);
        assert_eq!(counts(&candidates(&[(0, 0), (0, 0)]), 20, &|_| true), [0, 0]);
    }
}
