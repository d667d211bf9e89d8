//! Bounded load for hash policies: an endpoint above the bound passes some of its keys on to the next one
//! (consistent hashing with bounded loads, Mirrokni et al.).

use super::{Candidate, Pick};

/// The most requests in flight that an endpoint may have, relative to the average.
pub(crate) struct Bound {
    factor: f64,
    weights: f64,
}

impl Bound {
    /// A bound of `factor` times the average by weight.
    pub(crate) fn new(factor: f64, candidates: &[Candidate]) -> Self {
        Bound { factor, weights: candidates.iter().map(|candidate| f64::from(candidate.weight)).sum() }
    }

    /// Whether an endpoint may take one more request. Cores that ask at the same time may each be admitted.
    fn admits(&self, candidate: &Candidate, in_flight: usize) -> bool {
        candidate.load() <= self.most(candidate, in_flight)
    }

    /// The most requests in flight for an endpoint once its group has one more; at least 1.
    fn most(&self, candidate: &Candidate, in_flight: usize) -> usize {
        let share = f64::from(candidate.weight) / self.weights;
        (self.factor * (in_flight + 1) as f64 * share).ceil() as usize
    }
}

/// The first endpoint in a key's order that is usable and within the bound; if all usable ones are above it, the
/// first usable.
pub(crate) fn first_within(
    bound: Option<&Bound>,
    candidates: &[Candidate],
    pick: &Pick,
    usable: &dyn Fn(usize) -> bool,
    way: impl Iterator<Item = u32>,
) -> Option<usize> {
    let mut beyond = None;
    for index in way.map(|index| index as usize) {
        // The endpoint was just found to be above the bound; the same one may follow itself in the order.
        if beyond == Some(index) || !usable(index) {
            continue;
        }
        match bound {
            Some(bound) if !bound.admits(&candidates[index], pick.in_flight) => {
                beyond = beyond.or(Some(index));
            }
            _ => return Some(index),
        }
    }
    beyond
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use proptest::prelude::*;

    use super::super::key::hash;
    use super::super::tests::{group, policy};
    use super::*;

    proptest! {
        /// However the keys are distributed, no endpoint ever exceeds the bound, and requests that end make room.
        #[test]
        fn the_bound_is_never_exceeded(
            kind in prop::sample::select(vec!["ring-hash", "maglev"]),
            weights in prop::collection::vec(1_u32..8, 2..10),
            factor in 1.05_f64..2.0,
            hot in 1_u64..4,
        ) {
            let settings = serde_json::json!({ "load_factor": factor });
            let policy = policy(kind, settings).unwrap();
            prop_assert!(policy.counts_in_flight());
            let (group, again) = (group(&weights), group(&weights));
            let bound = Bound::new(factor, &group.candidates);
            let candidates = group.candidates.clone();
            drop(again);
            let balancer = policy.balancer(group);
            let mut under_way = std::collections::VecDeque::new();
            for number in 0..400_u64 {
                let hash = Some(hash(&(number % hot).to_le_bytes(), 0));
                let pick = Pick { hash, in_flight: under_way.len() };
                let index = balancer.pick(&pick, &|_| true).unwrap();
                let active = candidates[index].active.fetch_add(1, Ordering::Relaxed) + 1;
                prop_assert!(active <= bound.most(&candidates[index], under_way.len()));
                under_way.push_back(index);
                if number % 3 == 0 {
                    let over = under_way.pop_front().unwrap();
                    candidates[over].active.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
    }
}
