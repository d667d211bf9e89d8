//! Draws two endpoints at random by weight, and picks the one with fewer requests in flight for its weight.
//!
//! Choose it when requests differ much in cost, or endpoints in speed. Two choices are nearly as good as comparing
//! all endpoints, cost the same for any number, and do not send every core to the same idle endpoint at once.

use witgate_config::{Problems, Settings as Written};

use super::draw::Draw;
use super::{Balancer, BalancerKind, Candidate, Group, NoSettings as Settings, Pick, Policy};

/// The row of the table.
pub(crate) const KIND: BalancerKind = BalancerKind {
    kind: "least-requests",
    summary: "the less busy of two drawn by weight; for requests or endpoints that differ in speed",
    build,
    schema: super::schema_of::<Settings>,
};

fn build(settings: &Written) -> Result<Box<dyn Policy>, Problems> {
    settings.parse::<Settings>()?;
    Ok(Box::new(LeastRequests))
}

/// The policy.
struct LeastRequests;

impl Policy for LeastRequests {
    fn balancer(&self, group: Group) -> Box<dyn Balancer> {
        Box::new(LessBusy { draw: Draw::new(&group.candidates), candidates: group.candidates })
    }
}

/// Picks the less busy of two endpoints.
struct LessBusy {
    draw: Draw,
    candidates: Vec<Candidate>,
}

impl Balancer for LessBusy {
    fn pick(&self, _pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.draw.better_of_two(usable, |first, second| {
            let (one, other) = (&self.candidates[first], &self.candidates[second]);
            let load = other.load() as u64 * u64::from(one.weight);
            if load < one.load() as u64 * u64::from(other.weight) { second } else { first }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::tests::{group, worst_error};
    use super::*;

    /// How often each endpoint with this weight and load is picked.
    fn counts(loads: &[(u32, usize)], rounds: usize) -> Vec<usize> {
        let weights: Vec<u32> = loads.iter().map(|(weight, _)| *weight).collect();
        let group = group(&weights);
        for (candidate, (_, active)) in group.candidates.iter().zip(loads) {
            candidate.active.store(*active, Ordering::Relaxed);
        }
        let balancer = LeastRequests.balancer(group);
        let mut counts = vec![0; loads.len()];
        for _ in 0..rounds {
            counts[balancer.pick(&Pick::default(), &|_| true).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn the_busiest_is_avoided() {
        let counts = counts(&[(1, 0), (1, 50), (1, 0)], 300);
        // The busy endpoint is picked only if sixteen draws in a row hit it.
        assert!(counts[1] < 10, "{counts:?}");
        assert!(counts[0] > 50 && counts[2] > 50, "{counts:?}");
    }

    #[test]
    fn a_heavier_endpoint_may_be_busier() {
        let counts = counts(&[(10, 5), (1, 2)], 100);
        assert!(counts[0] > counts[1], "{counts:?}");
    }

    #[test]
    fn idle_endpoints_of_equal_weight_are_picked_equally_often() {
        let counts = counts(&[(3, 0); 5], 50_000);
        assert!(worst_error(&[3; 5], &counts) < 0.08, "{counts:?}");
    }

    /// With requests that do not end, the loads settle in proportion to the weights.
    #[test]
    fn loads_settle_by_weight() {
        let weights = [1, 2, 4];
        let group = group(&weights);
        let loads: Vec<_> = group.candidates.iter().map(|candidate| candidate.active.clone()).collect();
        let balancer = LeastRequests.balancer(group);
        for _ in 0..7000 {
            loads[balancer.pick(&Pick::default(), &|_| true).unwrap()].fetch_add(1, Ordering::Relaxed);
        }
        let counts: Vec<usize> = loads.iter().map(|load| load.load(Ordering::Relaxed)).collect();
        assert!(worst_error(&weights, &counts) < 0.02, "{counts:?}");
    }
}
