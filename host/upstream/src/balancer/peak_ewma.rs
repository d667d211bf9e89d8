//! Draws two endpoints at random by weight, and picks the one with the lower product of average latency and
//! requests in flight.
//!
//! Choose it when endpoints differ in speed, or one may become slow. The average rises at once with a slow
//! response and falls slowly (peak EWMA, as in Finagle); a failure counts as a slow response. A slow endpoint gets
//! requests again when its average has decayed, so that its recovery is noticed.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{self, Text};
use witgate_config::{Problems, Settings as Written};

use super::clock::{self, Clock};
use super::draw::Draw;
use super::{AttemptOutcome, Balancer, BalancerKind, Candidate, Group, Latency, Pick, Policy};

/// The row of the table.
pub(crate) const KIND: BalancerKind = BalancerKind {
    kind: "peak-ewma",
    summary: "of two drawn by weight, the one expected to respond earlier; for endpoints that may become slow",
    build,
    schema: super::schema_of::<Settings>,
};

/// Settings of `peak-ewma`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// The time in which an observation loses two thirds of its influence.
    decay: Text<scalar::Duration>,
    /// The least latency that a failure counts as.
    failure_latency: Text<scalar::Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings { decay: Text::of("10s"), failure_latency: Text::of("1s") }
    }
}

fn build(settings: &Written) -> Result<Box<dyn Policy>, Problems> {
    let Settings { decay, failure_latency } = settings.parse()?;
    let (decay, failure) = (decay.value.0, failure_latency.value.0);
    if decay.is_zero() {
        return Err(vec![settings.problem("/decay", "`decay` must be longer than 0", None)]);
    }
    Ok(Box::new(PeakEwma { decay, failure, clock: clock::now }))
}

/// The policy. The averages are kept with the endpoints.
#[derive(Clone)]
struct PeakEwma {
    decay: Duration,
    failure: Duration,
    clock: Clock,
}

impl Policy for PeakEwma {
    fn balancer(&self, group: Group) -> Box<dyn Balancer> {
        let draw = Draw::new(&group.candidates);
        Box::new(Earlier { draw, candidates: group.candidates, policy: self.clone() })
    }

    fn observe(&self, latency: &Latency, outcome: AttemptOutcome) {
        let took = match outcome {
            AttemptOutcome::Answered(took) => took,
            AttemptOutcome::Failed(took) => took.max(self.failure),
        };
        latency.observe((self.clock)(), took, self.decay);
    }
}

/// Picks the endpoint of two that is expected to respond earlier.
struct Earlier {
    draw: Draw,
    candidates: Vec<Candidate>,
    policy: PeakEwma,
}

impl Balancer for Earlier {
    fn pick(&self, _pick: &Pick, usable: &dyn Fn(usize) -> bool) -> Option<usize> {
        self.draw.better_of_two(usable, |first, second| {
            let now = (self.policy.clock)();
            let (one, other) = (&self.candidates[first], &self.candidates[second]);
            let [one, other] = [one, other].map(|candidate| self.policy.promise(candidate, now));
            if other < one { second } else { first }
        })
    }
}

impl PeakEwma {
    /// The expected time to a response. An endpoint without observations gets one request at a time.
    fn promise(&self, candidate: &Candidate, now: Duration) -> f32 {
        match candidate.latency.faded(now, self.decay) {
            Some(average) => average * candidate.load() as f32 / candidate.weight as f32,
            None if candidate.load() == 1 => 0.0,
            None => f32::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::Ordering;

    use super::super::tests::{group, policy};
    use super::*;

    thread_local! {
        static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    fn peak_ewma() -> PeakEwma {
        let second = Duration::from_secs(1);
        PeakEwma { decay: 10 * second, failure: second, clock: || NOW.get() }
    }

    /// Sends one request each millisecond, `times` overall; each endpoint takes its own time. Returns how often
    /// each was picked.
    fn traffic(
        policy: &PeakEwma,
        candidates: &[Candidate],
        requests: usize,
        outcomes: &[AttemptOutcome],
    ) -> Vec<usize> {
        let group =
            Group { candidates: candidates.to_vec(), place: 0, heaviest: 1, endpoints: candidates.len() };
        let balancer = policy.balancer(group);
        let (mut counts, mut under_way) = (vec![0; candidates.len()], Vec::new());
        for _ in 0..requests {
            NOW.set(NOW.get() + Duration::from_millis(1));
            under_way.retain(|(index, due)| {
                let over = *due <= NOW.get();
                if over {
                    let candidate: &Candidate = &candidates[*index];
                    candidate.active.fetch_sub(1, Ordering::Relaxed);
                    policy.observe(&candidate.latency, outcomes[*index]);
                }
                !over
            });
            let index = balancer.pick(&Pick::default(), &|_| true).unwrap();
            counts[index] += 1;
            candidates[index].active.fetch_add(1, Ordering::Relaxed);
            let (AttemptOutcome::Answered(took) | AttemptOutcome::Failed(took)) = outcomes[index];
            under_way.push((index, NOW.get() + took));
        }
        for (index, _) in under_way {
            candidates[index].active.fetch_sub(1, Ordering::Relaxed);
        }
        counts
    }

    fn answered(millis: u64) -> AttemptOutcome {
        AttemptOutcome::Answered(Duration::from_millis(millis))
    }

    #[test]
    fn requests_go_away_from_a_slow_endpoint_and_come_back_when_it_is_fast_again() {
        let (policy, candidates) = (peak_ewma(), group(&[1; 3]).candidates);
        let even = traffic(&policy, &candidates, 9000, &[answered(2); 3]);
        assert!(even.iter().all(|count| (2400..3600).contains(count)), "{even:?}");
        let slow = traffic(&policy, &candidates, 9000, &[answered(2), answered(400), answered(2)]);
        assert!(slow[1] < 180, "a slow one gets less than 2 %: {slow:?}");
        NOW.set(NOW.get() + Duration::from_secs(5));
        traffic(&policy, &candidates, 60_000, &[answered(2); 3]);
        let again = traffic(&policy, &candidates, 9000, &[answered(2); 3]);
        assert!(again[1] > 2000, "it is found again: {again:?}");
    }

    #[test]
    fn one_that_fails_fast_does_not_attract_requests() {
        let (policy, candidates) = (peak_ewma(), group(&[1; 3]).candidates);
        let failing = AttemptOutcome::Failed(Duration::from_millis(1));
        let counts = traffic(&policy, &candidates, 9000, &[answered(20), failing, answered(20)]);
        assert!(counts[1] < 180, "{counts:?}");
    }

    #[test]
    fn a_newcomer_gets_one_request_until_it_has_answered() {
        let (policy, candidates) = (peak_ewma(), group(&[1; 2]).candidates);
        candidates[0].latency.observe(NOW.get(), Duration::from_millis(5), policy.decay);
        let balancer = policy.balancer(Group { candidates: candidates.clone(), ..group(&[1; 2]) });
        let counts = (0..500).filter(|_| balancer.pick(&Pick::default(), &|_| true) == Some(1)).count();
        assert!(counts > 480, "an idle newcomer is tried: {counts}");
        candidates[1].active.store(1, Ordering::Relaxed);
        let counts = (0..500).filter(|_| balancer.pick(&Pick::default(), &|_| true) == Some(1)).count();
        assert!(counts < 20, "then its answer is waited for: {counts}");
    }

    #[test]
    fn decay_takes_time() {
        let problems = policy("peak-ewma", serde_json::json!({ "decay": "0s" })).err().unwrap();
        assert_eq!(problems[0].key, "upstreams.a.balancer.decay");
    }
}
