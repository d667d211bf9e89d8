//! Sends requests with the same key to the same endpoint, by a table that all endpoints fill in turns (Maglev,
//! Eisenbud et al., section 3.4).
//!
//! Choose it where shares must be even and a pick must be as cheap as possible: one table look-up. When an
//! endpoint leaves, its keys move, and a few others do; with [`ring_hash`](super::ring_hash) no others move.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::{Problems, Settings as Written};

use super::bound::{Bound, first_within};
use super::key::{Keys, default_keys, hash};
use super::{Balancer, BalancerKind, Caller, Candidate, Group, Pick, Policy};

/// The row of the table.
pub(crate) const KIND: BalancerKind = BalancerKind {
    kind: "maglev",
    summary: "one key, one endpoint, by a table; the most even shares",
    build,
    schema: super::schema_of::<Settings>,
};

/// Settings of `maglev`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// What a request's key is made from: the first of these that the request has. A request that has none goes to
    /// any endpoint.
    keys: Vec<String>,
    /// The number of entries of the table, a prime. A hundred for each endpoint keep the shares within one
    /// percent.
    #[schemars(range(min = 2, max = 5_000_011))]
    table_size: u64,
    /// How many times the average an endpoint may have in flight before some of its keys go to the next endpoint,
    /// e.g. 1.25. Without it, there is no bound.
    #[schemars(range(min = 1.0, max = 100.0))]
    load_factor: Option<f64>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { keys: default_keys(), table_size: 65_537, load_factor: None }
    }
}

fn build(settings: &Written) -> Result<Box<dyn Policy>, Problems> {
    let Settings { keys, table_size, load_factor } = settings.parse()?;
    let keys = Keys::read(settings, &keys);
    if !is_prime(table_size) {
        let next = (table_size..).find(|size| is_prime(*size));
        let hint = next.map(|next| format!("{next} is one"));
        let mut problems = keys.err().unwrap_or_default();
        problems.push(settings.problem("/table_size", "the size of the table must be a prime number", hint));
        return Err(problems);
    }
    Ok(Box::new(Maglev { keys: keys?, size: table_size, load_factor }))
}

fn is_prime(number: u64) -> bool {
    number >= 2
        && (2..)
            .take_while(|divisor| divisor * divisor <= number)
            .all(|divisor| !number.is_multiple_of(divisor))
}

/// The policy.
struct Maglev {
    keys: Keys,
    size: u64,
    load_factor: Option<f64>,
}

impl Policy for Maglev {
    fn balancer(&self, group: Group) -> Box<dyn Balancer> {
        let table = fill(&group.candidates, self.size);
        let bound = self.load_factor.map(|factor| Bound::new(factor, &group.candidates));
        Box::new(Table { table, candidates: group.candidates, bound })
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

/// A table entry without an endpoint.
const FREE: u32 = u32::MAX;

/// One endpoint while the table is filled. It visits the entries in an order of its own, and all of them, since
/// the size is prime.
struct Filler {
    next: u64,
    step: u64,
}

/// Scale of the due times, which are integers: large enough that different times stay different.
const DUE_SCALE: u64 = 1 << 40;

/// Endpoints take entries in turns, the k-th at the time k / weight, so that half the weight takes half as many
/// entries.
fn fill(candidates: &[Candidate], size: u64) -> Box<[u32]> {
    let mut table = vec![FREE; size as usize];
    let filler = |candidate: &Candidate| Filler {
        next: hash(candidate.name.as_bytes(), 1) % size,
        step: hash(candidate.name.as_bytes(), 2) % (size - 1) + 1,
    };
    let mut fillers: Vec<Filler> = candidates.iter().map(filler).collect();
    let due = |index: u32, turn: u64| turn * DUE_SCALE / u64::from(candidates[index as usize].weight);
    let first = (0..).zip(candidates).map(|(index, _)| Reverse((due(index, 1), index, 1)));
    let mut turns: BinaryHeap<Reverse<(u64, u32, u64)>> = first.collect();
    for _ in 0..size {
        let Some(Reverse((_, index, turn))) = turns.pop() else { break };
        let filler = &mut fillers[index as usize];
        while table[filler.next as usize] != FREE {
            filler.next = (filler.next + filler.step) % size;
        }
        table[filler.next as usize] = index;
        turns.push(Reverse((due(index, turn + 1), index, turn + 1)));
    }
    table.into()
}

/// The table: the index of an endpoint for each entry.
struct Table {
    table: Box<[u32]>,
    candidates: Vec<Candidate>,
    bound: Option<Bound>,
}

impl Balancer for Table {
    fn pick(&self, pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        if self.candidates.is_empty() {
            return None;
        }
        let hash = pick.hash.unwrap_or_else(|| fastrand::u64(..));
        // Neighbouring entries belong to unrelated endpoints, so the keys of an unusable endpoint are spread.
        let (before, after) = self.table.split_at((hash % self.table.len() as u64) as usize);
        let way = after.iter().chain(before).copied();
        first_within(self.bound.as_ref(), &self.candidates, pick, usable, way)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{group, policy, worst_error};
    use super::*;

    const SIZE: u64 = 65_537;

    fn counts(table: &[u32], endpoints: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        table.iter().for_each(|index| counts[*index as usize] += 1);
        counts
    }

    #[test]
    fn a_table_that_is_not_prime_is_refused_with_the_next_that_is() {
        let problems = policy("maglev", serde_json::json!({ "table_size": 65_536 })).err().unwrap();
        assert_eq!(problems[0].key, "upstreams.a.balancer.table_size");
        assert_eq!(problems[0].hint.as_deref(), Some("65537 is one"));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Entries are shared by weight up to one turn, and when an endpoint leaves, few entries move other than
        /// its own.
        #[test]
        fn shares_are_exact_and_few_keys_move(
            weights in prop::collection::vec(1_u32..10, 3..20),
            leaver in 0_usize..20,
        ) {
            let leaver = leaver % weights.len();
            let mut group = group(&weights);
            let all = fill(&group.candidates, SIZE);
            let error = worst_error(&weights, &counts(&all, weights.len()));
            prop_assert!(error < 0.01, "{error}");
            group.candidates.remove(leaver);
            let left = fill(&group.candidates, SIZE);
            let moved = all.iter().zip(&left).filter(|(before, after)| {
                let after = if **after as usize >= leaver { **after + 1 } else { **after };
                **before as usize != leaver && **before != after
            });
            let moved = moved.count() as f64 / SIZE as f64;
            let share = f64::from(weights[leaver]) / f64::from(weights.iter().sum::<u32>());
            prop_assert!(moved < share, "{moved} moved beside the {share} of the leaver");
        }
    }

    /// As in the figure of the paper: one endpoint of a hundred leaves, and few keys move besides its own.
    #[test]
    fn one_of_a_hundred_leaves() {
        let mut group = group(&[1; 100]);
        let all = fill(&group.candidates, SIZE);
        group.candidates.remove(40);
        let left = fill(&group.candidates, SIZE);
        let moved = all.iter().zip(&left).filter(|(before, after)| {
            let after = if **after >= 40 { **after + 1 } else { **after };
            **before != 40 && **before != after
        });
        let moved = moved.count() as f64 / SIZE as f64;
        assert!(moved < 0.02, "{moved}");
    }
}
