//! Who takes requests now, in groups: made anew when something changes, which is seldom, so that a pick need not look.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::Upstream;
use super::endpoint::Availability;
use super::events::EventKind;
use super::spread::{Count, Spread, spread};
use crate::balancer::{Balancer, Candidate, Group, Pick, Policy};

/// A picture of an upstream's endpoints.
pub(super) struct View {
    parts: Box<[Part]>,
    /// Whether endpoints that only their health keeps from it take requests.
    pub(super) panics: bool,
    /// What it was made from, for each endpoint.
    pub(super) states: Box<[EndpointState]>,
}

/// A group that shares requests.
struct Part {
    /// Requests whose point is below this are this group's, or one's before it.
    below: u64,
    /// Where it stands among the groups of its upstream.
    place: usize,
    /// The endpoints behind the balancer's indices.
    members: Box<[u32]>,
    balancer: Box<dyn Balancer>,
}

/// How an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EndpointState {
    pub(super) availability: Availability,
    /// Its weight, whatever else.
    pub(super) weight: u32,
    /// How many percent of its weight it takes while it is new.
    pub(super) percent: u32,
}

impl EndpointState {
    /// The weight for the balancer, in hundredths.
    fn effective(self) -> u32 {
        self.weight.saturating_mul(self.percent)
    }

    /// Whether an operator wants it to take requests.
    pub(super) fn is_wanted(self) -> bool {
        self.availability != Availability::Drained && self.weight > 0
    }
}

/// Where an endpoint stands in the order of groups: by priority, and in a priority those in the gateway's zone first.
pub(super) fn groups(endpoints: &[witgate_config::model::Endpoint], zone: Option<&str>) -> Box<[usize]> {
    let rank = |endpoint: &witgate_config::model::Endpoint| {
        let elsewhere = zone.is_some() && endpoint.zone.as_deref() != zone;
        (endpoint.priority, elsewhere)
    };
    let mut ranks: Vec<_> = endpoints.iter().map(rank).collect();
    ranks.sort_unstable();
    ranks.dedup();
    let place = |endpoint| ranks.binary_search(&rank(endpoint)).unwrap_or_default();
    endpoints.iter().map(place).collect()
}

/// An odd number whose multiples are spread well (2^64 by the golden ratio).
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Points of requests are whole numbers below this.
const POINTS: u64 = 1 << 32;

impl View {
    /// Nobody takes requests.
    pub(super) fn empty() -> View {
        View { parts: Box::default(), panics: false, states: Box::default() }
    }

    /// A picture of endpoints that stand so. `groups` says which group each belongs to.
    pub(super) fn of(
        states: Box<[EndpointState]>,
        groups: &[usize],
        policy: &dyn Policy,
        candidate: &dyn Fn(usize, u32) -> Candidate,
        (spill_below, panic_below): (f64, f64),
    ) -> View {
        let mut counts = vec![Count::default(); groups.iter().max().map_or(0, |last| last + 1)];
        for (state_of, place) in states.iter().zip(groups).filter(|(state_of, _)| state_of.is_wanted()) {
            let count = &mut counts[*place];
            count.wanted += 1;
            count.usable += usize::from(state_of.availability.takes_requests(false));
            count.unhealthy += usize::from(state_of.availability == Availability::Unhealthy);
        }
        let Spread { shares, panics } = spread(&counts, spill_below, panic_below);
        let mut members = vec![Vec::new(); counts.len()];
        for (index, (state_of, place)) in (0..).zip(states.iter().zip(groups)) {
            if state_of.is_wanted() && state_of.availability.takes_requests(panics) {
                members[*place].push(index);
            }
        }
        let heaviest = states.iter().map(|state_of| state_of.weight).max().unwrap_or_default();
        let mut sum = 0.0;
        let parts = members.into_iter().zip(shares).enumerate().map(|(place, (members, share))| {
            sum += share;
            let weighted = |index: &u32| candidate(*index as usize, states[*index as usize].effective());
            let group = Group {
                candidates: members.iter().map(weighted).collect(),
                place,
                heaviest: heaviest.saturating_mul(100),
                endpoints: states.len(),
            };
            let balancer = policy.balancer(group);
            Part { below: (sum * POINTS as f64).round() as u64, place, members: members.into(), balancer }
        });
        let parts: Box<[Part]> = parts.filter(|part| !part.members.is_empty()).collect();
        View { parts, panics, states }
    }

    /// The endpoint for a request. A group whose endpoints are all unusable after all hands it on to the next.
    pub(super) fn pick(
        &self,
        hash: Option<u64>,
        in_flight: &dyn Fn(usize) -> usize,
        usable: &dyn Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = match &*self.parts {
            [_] | [] => 0,
            // A key always spills over to the same group. Its hash is mixed, since the balancer goes by the same one.
            parts => {
                let point =
                    hash.map_or_else(|| u64::from(fastrand::u32(..)), |hash| hash.wrapping_mul(MIX) >> 32);
                parts.iter().position(|part| point < part.below).unwrap_or_default()
            }
        };
        let (before, after) = self.parts.split_at(first);
        after.iter().chain(before).find_map(|part| {
            let pick = Pick { hash, in_flight: in_flight(part.place) };
            let picked = part.balancer.pick(&pick, &|index| usable(part.members[index] as usize))?;
            Some(part.members[picked] as usize)
        })
    }
}

impl Upstream {
    /// Looks whether its endpoints stand otherwise than the view says, and if so, makes another. For the keeper, and for
    /// whoever has changed something: it may take a lock, and time.
    pub(super) fn refresh(&self, now: Duration) {
        let _one_at_a_time = self.refreshing.lock();
        let view = self.view.load_full();
        let states: Box<[EndpointState]> =
            (0..self.endpoints.len()).map(|index| self.state_of(index, now)).collect();
        if states == view.states {
            return;
        }
        let states = if self.begin_anew(&view.states, &states, now) {
            (0..self.endpoints.len()).map(|index| self.state_of(index, now)).collect()
        } else {
            states
        };
        let next = self.view_of(states);
        match (view.panics, next.panics) {
            (false, true) => {
                self.events.record(EventKind::PanicBegan, None, "too few endpoints are usable");
            }
            (true, false) => self.events.record(EventKind::PanicEnded, None, "enough endpoints are usable"),
            _ => {}
        }
        self.view.store(Arc::new(next));
    }

    /// Where that is configured, endpoints that have recovered are new again. Says whether there are any.
    fn begin_anew(&self, before: &[EndpointState], after: &[EndpointState], now: Duration) -> bool {
        if !self.config.slow_start.is_some_and(|settings| settings.after_recovery) {
            return false;
        }
        let was_away = |state_of: &EndpointState| {
            !matches!(state_of.availability, Availability::Available | Availability::Drained)
        };
        let mut any = false;
        for (index, (before, after)) in before.iter().zip(after).enumerate() {
            if was_away(before) && after.availability == Availability::Available {
                self.endpoints[index].newness.begin(now);
                any = true;
            }
        }
        any
    }

    /// A view of endpoints that stand so.
    pub(super) fn view_of(&self, states: Box<[EndpointState]>) -> View {
        let candidate = |index: usize, weight| {
            let endpoint = &self.endpoints[index];
            Candidate {
                name: endpoint.name.clone(),
                weight,
                active: endpoint.active.clone(),
                latency: endpoint.latency.clone(),
            }
        };
        let thresholds = (self.config.spill_below, self.config.panic_below);
        View::of(states, &self.groups, &*self.policy, &candidate, thresholds)
    }

    /// How an endpoint stands now.
    pub(super) fn state_of(&self, index: usize, now: Duration) -> EndpointState {
        let endpoint = &self.endpoints[index];
        EndpointState {
            availability: endpoint.availability(),
            weight: endpoint.share.weight(self.config.endpoints[index].weight),
            percent: endpoint.newness.percent(self.config.slow_start.as_ref(), now),
        }
    }

    /// Requests in flight in a group, if the policy wants to know.
    pub(super) fn in_flight(&self, place: usize) -> usize {
        self.group_in_flight.get(place).map_or(0, |in_flight| in_flight.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::balancer::tests::{group, policy};

    const AVAILABLE: EndpointState =
        EndpointState { availability: Availability::Available, weight: 1, percent: 100 };
    const UNHEALTHY: EndpointState = EndpointState { availability: Availability::Unhealthy, ..AVAILABLE };
    const DRAINED: EndpointState = EndpointState { availability: Availability::Drained, ..AVAILABLE };

    fn view(kind: &str, states: &[EndpointState], groups: &[usize]) -> View {
        let policy = policy(kind, serde_json::json!({})).unwrap();
        let candidates = group(&vec![1; states.len()]).candidates;
        let candidate = |index: usize, weight| Candidate { weight, ..candidates[index].clone() };
        View::of(states.into(), groups, &*policy, &candidate, (0.7, 0.1))
    }

    fn counts(view: &View, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; view.states.len()];
        for _ in 0..picks {
            if let Some(index) = view.pick(None, &|_| 0, &|_| true) {
                counts[index] += 1;
            }
        }
        counts
    }

    /// The rule of the house for what matters: half of 10,000 endpoints are unusable, and a pick looks at one.
    #[test]
    fn a_pick_looks_at_none_of_those_that_are_out() {
        let states: Vec<EndpointState> =
            (0..10_000).map(|index| if index % 2 == 0 { AVAILABLE } else { UNHEALTHY }).collect();
        for kind in ["round-robin", "least-requests", "peak-ewma", "ring-hash", "maglev"] {
            let view = view(kind, &states, &[0; 10_000]);
            let looks = Cell::new(0);
            for number in 0..1000_u64 {
                let hash = Some(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let picked = view.pick(hash, &|_| 0, &|index| {
                    looks.set(looks.get() + 1);
                    assert_eq!(index % 2, 0, "{kind} has an endpoint that is out");
                    true
                });
                assert!(picked.is_some());
            }
            assert!(looks.get() <= 2002, "{kind} looked at {} for 1000 picks", looks.get());
        }
    }

    #[test]
    fn the_gateway_s_zone_comes_first_and_priorities_in_their_order() {
        let text = "[upstreams.a]\nendpoints = [{ address = \"a:1\", priority = 5 }, { address = \"a:2\", zone = \"x\" }, \
                    { address = \"a:3\", zone = \"y\" }, { address = \"a:4\", zone = \"x\", priority = 5 }, \"a:5\"]\n";
        let config =
            witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        let endpoints = &config.config.upstreams["a"].endpoints;
        assert_eq!(*groups(endpoints, Some("x")), [3, 0, 1, 2, 1]);
        assert_eq!(*groups(endpoints, None), [1, 0, 0, 1, 0], "without a zone of its own, all are alike");
    }

    #[test]
    fn the_next_group_takes_over_gradually() {
        let groups = [0, 0, 0, 0, 0, 1, 1];
        let all = [AVAILABLE; 7];
        assert_eq!(counts(&view("round-robin", &all, &groups), 700)[5..], [0, 0]);
        let mut some = all;
        some[..3].fill(UNHEALTHY);
        // 2 of 5 are 4/7 of what is needed: the rest goes on.
        let counts = counts(&view("round-robin", &some, &groups), 14_000);
        assert_eq!(counts[..3], [0, 0, 0]);
        let spilled = (counts[5] + counts[6]) as f64 / 14_000.0;
        assert!((spilled - 3.0 / 7.0).abs() < 0.02, "{counts:?}");
    }

    #[test]
    fn a_request_whose_group_is_used_up_goes_to_the_next() {
        let view = view("round-robin", &[AVAILABLE; 3], &[0, 0, 1]);
        assert_eq!(view.pick(None, &|_| 0, &|index| index == 2), Some(2));
        assert_eq!(view.pick(None, &|_| 0, &|_| false), None);
    }

    #[test]
    fn in_panic_the_unhealthy_take_requests_and_the_drained_do_not() {
        let view = view("round-robin", &[UNHEALTHY, UNHEALTHY, DRAINED], &[0, 0, 0]);
        assert!(view.panics);
        assert_eq!(counts(&view, 100), [50, 50, 0]);
    }

    #[test]
    fn new_endpoints_take_their_part_of_the_weight() {
        let new = EndpointState { percent: 25, ..AVAILABLE };
        assert_eq!(counts(&view("round-robin", &[AVAILABLE, new], &[0, 0]), 500), [400, 100]);
    }
}
