//! Smooth weighted round robin: endpoints take turns, heavier ones more often, and rarely several turns in a row.
//!
//! Choose it when requests cost about the same and endpoints differ at most by a known factor. It is the default.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use witgate_config::{Problems, Settings as Written};

use super::{Balancer, BalancerKind, Candidate, Group, NoSettings as Settings, Pick, Policy};

/// The row of the table.
pub(crate) const KIND: BalancerKind = BalancerKind {
    kind: "round-robin",
    summary: "endpoints take turns by weight; for requests that cost about the same",
    build,
    schema: super::schema_of::<Settings>,
};

fn build(settings: &Written) -> Result<Box<dyn Policy>, Problems> {
    settings.parse::<Settings>()?;
    Ok(Box::new(RoundRobin::default()))
}

/// The policy. It keeps the position of each group; the lock is taken only when endpoints change.
#[derive(Default)]
struct RoundRobin {
    turns: Mutex<BTreeMap<usize, Arc<AtomicUsize>>>,
}

impl Policy for RoundRobin {
    fn balancer(&self, group: Group) -> Box<dyn Balancer> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = turns.entry(group.place).or_default().clone();
        let round = round(&group.candidates);
        Box::new(Turns { stride: stride(round.len()), round, turn })
    }
}

/// The most turns of one round. Larger weights are scaled down, which keeps their ratio within a tenth of a
/// percent.
const LONGEST_ROUND: u64 = 1 << 16;

/// The precomputed order of turns, so that a pick is one addition.
struct Turns {
    round: Box<[u32]>,
    turn: Arc<AtomicUsize>,
    /// How far a pick moves on if the endpoint is unusable: not to the neighbour, which may be unusable for the
    /// same reason.
    stride: usize,
}

impl Balancer for Turns {
    fn pick(&self, _pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        if let [only] = *self.round {
            return usable(only as usize).then_some(only as usize);
        }
        let mut turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for _ in 0..self.round.len() {
            let index = self.round[turn % self.round.len()] as usize;
            if usable(index) {
                return Some(index);
            }
            turn = turn.wrapping_add(self.stride);
        }
        None
    }
}

/// About the golden section of a round, and coprime to its length, so that repeated steps reach all turns.
fn stride(round: usize) -> usize {
    let golden = (round as f64 * 0.618) as usize;
    let candidates = golden.max(1)..=round.max(1);
    let coprime = |stride: &usize| greatest_common_divisor(*stride as u64, round as u64) == 1;
    candidates.into_iter().find(coprime).unwrap_or(1)
}

/// One round: each endpoint as often as its weight says, its turns spread evenly. The k-th turn of an endpoint is
/// due at (k + 1/2) / weight, and turns are sorted by due time.
fn round(candidates: &[Candidate]) -> Box<[u32]> {
    let shares = shares(candidates);
    let due = |index: usize, taken: u64| (2 * taken + 1) * DUE_SCALE / (2 * shares[index]);
    let mut heap: BinaryHeap<Reverse<(u64, usize, u64)>> =
        (0..shares.len()).map(|index| Reverse((due(index, 0), index, 0))).collect();
    let mut round = Vec::new();
    while let Some(Reverse((_, index, taken))) = heap.pop() {
        round.push(u32::try_from(index).expect("a configuration has fewer endpoints than u32 can count"));
        if taken + 1 < shares[index] {
            heap.push(Reverse((due(index, taken + 1), index, taken + 1)));
        }
    }
    round.into()
}

/// Scale of the due times, which are integers: large enough that different times stay different.
const DUE_SCALE: u64 = 1 << 40;

/// The weights in lowest terms, scaled down if a round would be too long. None becomes 0.
fn shares(candidates: &[Candidate]) -> Vec<u64> {
    let weights = || candidates.iter().map(|candidate| u64::from(candidate.weight));
    let divisor = weights().fold(0, greatest_common_divisor);
    let shares: Vec<u64> = weights().map(|weight| weight / divisor.max(1)).collect();
    let total: u64 = shares.iter().sum();
    if total <= LONGEST_ROUND {
        return shares;
    }
    shares.iter().map(|share| (share * LONGEST_ROUND / total).max(1)).collect()
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::group;
    use super::*;

    fn picks(weights: &[u32], count: usize, usable: &dyn Fn(usize) -> bool) -> Vec<Option<usize>> {
        let balancer = RoundRobin::default().balancer(group(weights));
        (0..count).map(|_| balancer.pick(&Pick::default(), usable)).collect()
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
    fn unusable_endpoints_are_passed_over() {
        assert_eq!(picks(&[1, 1], 2, &|index| index == 1), [Some(1), Some(1)]);
        assert_eq!(picks(&[1, 1], 1, &|_| false), [None]);
        assert_eq!(picks(&[1], 1, &|_| false), [None]);
    }

    #[test]
    fn huge_weights_make_no_huge_round() {
        let round = round(&group(&[u32::MAX, u32::MAX / 3, 1]).candidates);
        assert!(round.len() as u64 <= LONGEST_ROUND + 3);
        assert!(round.contains(&2));
    }

    #[test]
    fn turns_go_on_where_they_were_when_endpoints_change() {
        let policy = RoundRobin::default();
        let all = policy.balancer(group(&[1, 1, 1]));
        assert_eq!(all.pick(&Pick::default(), &|_| true), Some(0));
        let again = policy.balancer(group(&[1, 1, 1]));
        assert_eq!(again.pick(&Pick::default(), &|_| true), Some(1));
        let elsewhere = policy.balancer(Group { place: 1, ..group(&[1, 1, 1]) });
        assert_eq!(elsewhere.pick(&Pick::default(), &|_| true), Some(0));
    }

    proptest! {
        /// Whole rounds are exact, and within a round no endpoint is ever ahead of its share by more than one
        /// turn.
        #[test]
        fn shares_are_exact_and_smooth(weights in prop::collection::vec(1_u32..50, 1..12)) {
            let total: u32 = weights.iter().sum();
            let picks = picks(&weights, total as usize * 2, &|_| true);
            let mut counts = vec![0_u32; weights.len()];
            for (number, index) in picks.iter().flatten().enumerate() {
                counts[*index] += 1;
                let fair = f64::from(weights[*index]) * (number + 1) as f64 / f64::from(total);
                prop_assert!(f64::from(counts[*index]) < fair + weights.len() as f64 / 2.0 + 1.0);
            }
            for (count, weight) in counts.iter().zip(&weights) {
                prop_assert_eq!(*count, 2 * weight);
            }
        }

        #[test]
        fn whoever_is_usable_is_found(len in 1_usize..300, only in 0_usize..300) {
            let only = only % len;
            prop_assert_eq!(picks(&vec![1; len], 1, &|index| index == only), [Some(only)]);
        }
    }
}
