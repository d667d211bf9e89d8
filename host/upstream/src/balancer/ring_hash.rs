//! Sends requests with the same key to the same endpoint: each endpoint has points on a ring, and a key belongs to
//! the next point (consistent hashing, as in ketama).
//!
//! Choose it for caches and sessions whose endpoints come and go: when one leaves, only its keys move, and they
//! move to all others. Shares differ by a few percent; [`maglev`](super::maglev) is more even, but moves a few
//! more keys.

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::{Problems, Settings as Written};

use super::bound::{Bound, first_within};
use super::key::{Keys, default_keys, hash, mix};
use super::{Balancer, BalancerKind, Caller, Candidate, Group, Pick, Policy};

/// The row of the table.
pub(crate) const KIND: BalancerKind = BalancerKind {
    kind: "ring-hash",
    summary: "one key, one endpoint, by points on a ring; fewest keys move when endpoints come and go",
    build,
    schema: super::schema_of::<Settings>,
};

/// Settings of `ring-hash`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What a request's key is made from: the first of these that the request has. A request that has none goes to
    /// any endpoint.
    keys: Vec<String>,
    /// Points of the endpoint with the largest weight. More points make the shares more even, and take memory.
    #[schemars(range(min = 1, max = 100_000))]
    points: usize,
    /// How many times the average an endpoint may have in flight before some of its keys go to the next endpoint,
    /// e.g. 1.25. Without it, there is no bound.
    #[schemars(range(min = 1.0, max = 100.0))]
    load_factor: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { keys: default_keys(), points: 160, load_factor: None }
    }
}

fn build(settings: &Written) -> Result<Box<dyn Policy>, Problems> {
    let Settings { keys, points, load_factor } = settings.parse()?;
    Ok(Box::new(RingHash { keys: Keys::read(settings, &keys)?, points, load_factor }))
}

/// The policy.
struct RingHash {
    keys: Keys,
    points: usize,
    load_factor: Option<f64>,
}

/// The most points of all endpoints of an upstream together (unless each has one).
const MOST_POINTS: usize = 1 << 20;

impl Policy for RingHash {
    fn balancer(&self, group: Group) -> Box<dyn Balancer> {
        // The number of points must not depend on anything that changes when another endpoint leaves: otherwise
        // its keys would move.
        let most = self.points.min(MOST_POINTS / group.endpoints.max(1)).max(1);
        let points = |candidate: &Candidate| {
            let share = f64::from(candidate.weight) / f64::from(group.heaviest.max(1));
            (most as f64 * share).round().max(1.0) as u64
        };
        let mut ring = Vec::new();
        for (index, candidate) in (0..).zip(&group.candidates) {
            let place = hash(candidate.name.as_bytes(), 0);
            ring.extend((0..points(candidate)).map(|point| (mix(place.wrapping_add(mix(point + 1))), index)));
        }
        ring.sort_unstable();
        let bound = self.load_factor.map(|factor| Bound::new(factor, &group.candidates));
        Box::new(Ring { ring: ring.into(), candidates: group.candidates, bound })
    }

    fn hash(&self, caller: &Caller<'_>) -> Option<u64> {
        self.keys.hash(caller)
    }

    fn makes_tables(&self) -> bool {
        true
    }

    fn counts_in_flight(&self) -> bool {
        self.load_factor.is_some()
    }
}

/// The points in the order of the ring, with the endpoints that they belong to.
struct Ring {
    ring: Box<[(u64, u32)]>,
    candidates: Vec<Candidate>,
    bound: Option<Bound>,
}

impl Balancer for Ring {
    fn pick(&self, pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        let hash = pick.hash.unwrap_or_else(|| fastrand::u64(..));
        let (before, after) = self.ring.split_at(self.ring.partition_point(|(point, _)| *point < hash));
        let way = after.iter().chain(before).map(|(_, index)| *index);
        first_within(self.bound.as_ref(), &self.candidates, pick, usable, way)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{group, policy, worst_error};
    use super::*;

    fn place(balancer: &dyn Balancer, key: u64) -> usize {
        let pick = Pick { hash: Some(hash(&key.to_le_bytes(), 0)), in_flight: 0 };
        balancer.pick(&pick, &|_| true).unwrap()
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let weights = [1, 1, 2, 4];
        let policy = policy("ring-hash", serde_json::json!({ "points": 2000 })).unwrap();
        let balancer = policy.balancer(group(&weights));
        let mut counts = [0; 4];
        (0..100_000).for_each(|key| counts[place(&*balancer, key)] += 1);
        assert!(worst_error(&weights, &counts) < 0.1, "{counts:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// When an endpoint leaves, only its keys move.
        #[test]
        fn only_keys_of_the_leaver_move(
            weights in prop::collection::vec(1_u32..10, 2..12),
            leaver in 0_usize..12,
        ) {
            let leaver = leaver % weights.len();
            let policy = policy("ring-hash", serde_json::json!({})).unwrap();
            let all = policy.balancer(group(&weights));
            let mut left = group(&weights);
            let heaviest = left.heaviest;
            left.candidates.remove(leaver);
            let left = policy.balancer(Group { heaviest, ..left });
            for key in 0..2000 {
                let (before, after) = (place(&*all, key), place(&*left, key));
                let after = if after >= leaver { after + 1 } else { after };
                prop_assert!(before == leaver || before == after, "key {key}: {before}, {after}");
                // A key whose endpoint fails the last check goes to the endpoint that it will have in the next
                // ring.
                let pick = Pick { hash: Some(hash(&key.to_le_bytes(), 0)), in_flight: 0 };
                prop_assert_eq!(all.pick(&pick, &|index| index != leaver), Some(after));
            }
        }
    }
}
