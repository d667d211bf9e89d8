//! Weighted round robin, smooth: endpoints take turns, heavy ones more often, and never many turns in a row.
//!
//! Choose it when requests cost about the same and endpoints differ at most by a known factor. It is the default.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Balancer, BalancerKind, Pick};

/// The row of the table.
pub const KIND: BalancerKind = BalancerKind {
    kind: "round-robin",
    summary: "endpoints take turns by weight; for requests that cost about the same",
    build: |weights| Box::new(RoundRobin::new(weights)),
};

/// Turns of one round at most; larger weights are scaled down, which keeps their ratio to a tenth of a percent.
const LONGEST_ROUND: u64 = 1 << 16;

/// The order of turns is worked out once, so that a pick is one addition.
pub struct RoundRobin {
    round: Box<[u32]>,
    turn: AtomicUsize,
}

impl RoundRobin {
    fn new(weights: &[u32]) -> Self {
        RoundRobin { round: round(weights), turn: AtomicUsize::new(0) }
    }
}

impl Balancer for RoundRobin {
    fn pick(&self, _pick: &Pick<'_>, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let turns =
            (0..self.round.len()).map(|step| self.round[turn.wrapping_add(step) % self.round.len()] as usize);
        turns.into_iter().find(|index| usable(*index))
    }
}

/// One round: each endpoint as often as its weight says, its turns spread evenly. The k-th turn of an endpoint is due
/// at (k + 1/2) / weight, and turns come in the order in which they are due.
fn round(weights: &[u32]) -> Box<[u32]> {
    let shares = shares(weights);
    let due = |index: usize, taken: u64| (2 * taken + 1) * DUE_SCALE / (2 * shares[index]);
    let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> = (0..shares.len())
        .filter(|index| shares[*index] > 0)
        .map(|index| Reverse((due(index, 0), index, 0)))
        .collect();
    let mut round = Vec::new();
    while let Some(Reverse((_, index, taken))) = heap.pop() {
        round.push(u32::try_from(index).expect("a configuration has fewer endpoints than u32 can count"));
        if taken + 1 < shares[index] {
            heap.push(Reverse((due(index, taken + 1), index, taken + 1)));
        }
    }
    round.into()
}

/// Times are whole numbers in units small enough that different times stay different.
const DUE_SCALE: u64 = 1 << 40;

/// The weights in lowest terms, scaled down if a round would be too long. No weight above 0 becomes 0.
fn shares(weights: &[u32]) -> Vec<u64> {
    let divisor =
        weights.iter().fold(0, |divisor, weight| greatest_common_divisor(divisor, u64::from(*weight)));
    let shares: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / divisor.max(1)).collect();
    let total: u64 = shares.iter().sum();
    if total <= LONGEST_ROUND {
        return shares;
    }
    shares.iter().map(|share| if *share == 0 { 0 } else { (share * LONGEST_ROUND / total).max(1) }).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[u32], count: usize, usable: &dyn Fn(usize) -> bool) -> Vec<Option<usize>> {
        let policy = RoundRobin::new(weights);
        let pick = Pick { endpoints: &[], hash_key: None };
        (0..count).map(|_| policy.pick(&pick, usable)).collect()
    }

    #[test]
    fn equal_endpoints_take_turns() {
        let picks = picks(&[7, 7, 7], 6, &|_| true);
        assert_eq!(picks, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn a_heavy_endpoint_is_never_picked_all_in_a_row() {
        let picks = picks(&[5, 1, 1], 7, &|_| true);
        assert_eq!(picks.iter().filter(|pick| **pick == Some(0)).count(), 5);
        assert!(picks.windows(4).all(|run| run.iter().any(|pick| *pick != Some(0))), "{picks:?}");
    }

    #[test]
    fn weight_zero_and_unusable_endpoints_are_passed_over() {
        assert_eq!(picks(&[1, 0, 1], 2, &|_| true), [Some(0), Some(2)]);
        assert_eq!(picks(&[1, 1], 2, &|index| index == 1), [Some(1), Some(1)]);
        assert_eq!(picks(&[1, 1], 1, &|_| false), [None]);
        assert_eq!(picks(&[0], 1, &|_| true), [None]);
    }

    #[test]
    fn huge_weights_make_no_huge_round() {
        let round = round(&[u32::MAX, u32::MAX / 3, 1]);
        assert!(round.len() as u64 <= LONGEST_ROUND + 3);
        assert!(round.contains(&2));
    }
}
