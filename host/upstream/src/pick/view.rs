//! Which endpoints take requests now, in groups. A view is built when something changes, which is rare, so that a
//! pick is cheap.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::spread::{Count, Spread, spread};
use crate::balancer::{Balancer, Group, Pick, Policy};
use crate::endpoint::Availability;
use crate::set::{Entry, Member, Rank};

/// Which endpoints of an upstream take requests.
pub(crate) struct View {
    parts: Box<[Part]>,
    /// Whether unhealthy endpoints take requests, because too few healthy ones are left.
    pub(crate) panics: bool,
    /// Whether one of its hash tables is that of an earlier set, because another must not be built yet.
    pub(crate) is_stale: bool,
}

/// The share of one group in all requests.
struct Part {
    /// Requests whose point is below this value belong to this group or to one before it.
    below: u64,
    balanced: Arc<Balanced>,
}

/// The members of a group and their balancer. Following views share it until it changes.
struct Balanced {
    rank: Rank,
    /// The members, by the indices of the balancer.
    members: Box<[Weighted]>,
    place: usize,
    heaviest: u32,
    endpoints: usize,
    balancer: Box<dyn Balancer>,
}

/// A member and its effective weight in hundredths.
struct Weighted {
    member: Arc<Member>,
    weight: u32,
}

/// What a new view may take over from the previous one.
#[derive(Clone, Copy)]
pub(crate) struct Tables<'a> {
    pub(crate) before: Option<&'a View>,
    /// Whether balancers may be built. If not, outdated ones are taken over.
    pub(crate) may_make: bool,
}

/// An odd number whose multiples are well spread: 2^64 divided by the golden ratio.
const MIX: u64 = 0x9E37_79B9_7F4A_7C15;

/// Points of requests are whole numbers below this.
const POINTS: u64 = 1 << 32;

impl View {
    /// A view in which no endpoint takes requests.
    pub(crate) fn empty() -> View {
        View { parts: Box::default(), panics: false, is_stale: false }
    }

    /// Builds the view of these entries.
    pub(crate) fn of(
        entries: &[Entry],
        policy: &dyn Policy,
        (spill_below, panic_below): (f64, f64),
        tables: Tables<'_>,
    ) -> View {
        let mut groups: BTreeMap<Rank, (Count, Vec<&Entry>)> = BTreeMap::new();
        for entry in entries {
            let (count, wanted) = groups.entry(entry.member.rank).or_default();
            if entry.state.is_wanted() {
                wanted.push(entry);
                count.wanted += 1;
                count.usable += usize::from(entry.state.availability.takes_requests(false));
                count.unhealthy += usize::from(entry.state.availability == Availability::Unhealthy);
            }
        }
        let counts: Vec<Count> = groups.values().map(|(count, _)| *count).collect();
        let Spread { shares, panics } = spread(&counts, spill_below, panic_below);
        let heaviest = entries.iter().map(|entry| entry.state.weight).max().unwrap_or_default();
        let mut view = View { parts: Box::default(), panics, is_stale: false };
        let mut sum = 0.0;
        let parts =
            groups.into_iter().zip(shares).enumerate().filter_map(|(place, ((rank, (_, wanted)), share))| {
                sum += share;
                let takes = |entry: &&Entry| entry.state.availability.takes_requests(panics);
                let weighted = |entry: &Entry| Weighted {
                    member: entry.member.clone(),
                    weight: entry.state.effective(),
                };
                let wanted = GroupPlan {
                    rank,
                    members: wanted.into_iter().filter(takes).map(weighted).collect(),
                    place,
                    heaviest: heaviest.saturating_mul(100),
                    endpoints: entries.len(),
                };
                let balanced = (!wanted.members.is_empty())
                    .then(|| wanted.balanced(policy, tables, &mut view.is_stale))?;
                Some(Part { below: (sum * POINTS as f64).round() as u64, balanced })
            });
        view.parts = parts.collect();
        view
    }

    /// Picks the endpoint for a request. If no endpoint of the first group is usable, the next group is asked.
    pub(crate) fn pick(&self, hash: Option<u64>, usable: &dyn Fn(&Member) -> bool) -> Option<&Arc<Member>> {
        let first = match &*self.parts {
            [_] | [] => 0,
            // A key always spills over to the same group. Its hash is mixed, since the balancer uses the same
            // one.
            parts => {
                let point =
                    hash.map_or_else(|| u64::from(fastrand::u32(..)), |hash| hash.wrapping_mul(MIX) >> 32);
                parts.iter().position(|part| point < part.below).unwrap_or_default()
            }
        };
        let (before, after) = self.parts.split_at(first);
        after.iter().chain(before).find_map(|part| part.balanced.pick(hash, usable))
    }
}

/// What a group should consist of.
struct GroupPlan {
    rank: Rank,
    members: Box<[Weighted]>,
    place: usize,
    heaviest: u32,
    endpoints: usize,
}

impl GroupPlan {
    /// The group of the previous view if nothing has changed or if another must not be built yet; otherwise a new
    /// one.
    fn balanced(self, policy: &dyn Policy, tables: Tables<'_>, is_stale: &mut bool) -> Arc<Balanced> {
        let parts = tables.before.map_or(&[][..], |before| &before.parts);
        let before = parts.iter().map(|part| &part.balanced).find(|balanced| balanced.rank == self.rank);
        if let Some(before) = before {
            let same = self.is(before);
            if same || !tables.may_make {
                *is_stale |= !same;
                return before.clone();
            }
        }
        let group = Group {
            candidates: self.members.iter().map(|one| one.member.candidate(one.weight)).collect(),
            place: self.place,
            heaviest: self.heaviest,
            endpoints: self.endpoints,
        };
        let balancer = policy.balancer(group);
        let GroupPlan { rank, members, place, heaviest, endpoints } = self;
        Arc::new(Balanced { rank, members, place, heaviest, endpoints, balancer })
    }

    fn is(&self, known: &Balanced) -> bool {
        let same = |(one, other): (&Weighted, &Weighted)| {
            one.weight == other.weight && Arc::ptr_eq(&one.member, &other.member)
        };
        (self.place, self.heaviest, self.endpoints) == (known.place, known.heaviest, known.endpoints)
            && self.members.len() == known.members.len()
            && self.members.iter().zip(&known.members).all(same)
    }
}

impl Balanced {
    fn pick(&self, hash: Option<u64>, usable: &dyn Fn(&Member) -> bool) -> Option<&Arc<Member>> {
        let in_flight = self.members.first().map_or(0, |first| first.member.group_in_flight());
        let picked =
            self.balancer.pick(&Pick { hash, in_flight }, &|index| usable(&self.members[index].member))?;
        Some(&self.members[picked].member)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::balancer::tests::policy;
    use crate::discovery::EndpointSpec;
    use crate::set::EndpointState;

    const AVAILABLE: EndpointState =
        EndpointState { availability: Availability::Available, weight: 1, percent: 100 };
    const UNHEALTHY: EndpointState = EndpointState { availability: Availability::Unhealthy, ..AVAILABLE };
    const DRAINED: EndpointState = EndpointState { availability: Availability::Drained, ..AVAILABLE };

    const EVERYTHING: Tables<'_> = Tables { before: None, may_make: true };

    /// Entries in these states and with these priorities. The port of each is its index.
    fn entries(states: &[EndpointState], groups: &[usize]) -> Vec<Entry> {
        let entry = |(index, (state, group)): (usize, (&EndpointState, &usize))| {
            let spec = EndpointSpec { priority: *group as u32, ..EndpointSpec::at("10.0.0.1", index as u16) };
            Entry { member: Member::alone(spec, None), state: *state }
        };
        states.iter().zip(groups).enumerate().map(entry).collect()
    }

    fn view_of(kind: &str, entries: &[Entry], tables: Tables<'_>) -> View {
        let policy = policy(kind, serde_json::json!({})).unwrap();
        View::of(entries, &*policy, (0.7, 0.1), tables)
    }

    fn view(kind: &str, states: &[EndpointState], groups: &[usize]) -> View {
        view_of(kind, &entries(states, groups), EVERYTHING)
    }

    fn index(member: &Member) -> usize {
        usize::from(member.spec.port)
    }

    fn counts(view: &View, endpoints: usize, picks: usize) -> Vec<usize> {
        let mut counts = vec![0; endpoints];
        for _ in 0..picks {
            if let Some(member) = view.pick(None, &|_| true) {
                counts[index(member)] += 1;
            }
        }
        counts
    }

    /// Half of 10,000 endpoints are unusable, and a pick looks at one.
    #[test]
    fn a_pick_looks_at_none_of_those_that_are_out() {
        let states: Vec<EndpointState> =
            (0..10_000).map(|index| if index % 2 == 0 { AVAILABLE } else { UNHEALTHY }).collect();
        for kind in ["round-robin", "least-requests", "peak-ewma", "ring-hash", "maglev"] {
            let view = view(kind, &states, &[0; 10_000]);
            let looks = Cell::new(0);
            for number in 0..1000_u64 {
                let hash = Some(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
                let picked = view.pick(hash, &|member| {
                    looks.set(looks.get() + 1);
                    assert_eq!(index(member) % 2, 0, "{kind} has an endpoint that is out");
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
        let places = |zone| -> Vec<usize> {
            let endpoints = config.config.upstreams["a"].endpoints.iter();
            let ranks: Vec<Rank> = endpoints.map(|endpoint| Rank::of(&endpoint.into(), zone)).collect();
            let order: std::collections::BTreeSet<Rank> = ranks.iter().copied().collect();
            ranks.iter().map(|rank| order.iter().position(|other| other == rank).unwrap()).collect()
        };
        assert_eq!(places(Some("x")), [3, 0, 1, 2, 1]);
        assert_eq!(places(None), [1, 0, 0, 1, 0], "without a zone of its own, all are alike");
    }

    #[test]
    fn the_next_group_takes_over_gradually() {
        let groups = [0, 0, 0, 0, 0, 1, 1];
        let all = [AVAILABLE; 7];
        assert_eq!(counts(&view("round-robin", &all, &groups), 7, 700)[5..], [0, 0]);
        let mut some = all;
        some[..3].fill(UNHEALTHY);
        // 2 of 5 are 4/7 of what is needed, so the other requests go to the next group.
        let counts = counts(&view("round-robin", &some, &groups), 7, 14_000);
        assert_eq!(counts[..3], [0, 0, 0]);
        let spilled = (counts[5] + counts[6]) as f64 / 14_000.0;
        assert!((spilled - 3.0 / 7.0).abs() < 0.02, "{counts:?}");
    }

    #[test]
    fn a_request_whose_group_is_used_up_goes_to_the_next() {
        let view = view("round-robin", &[AVAILABLE; 3], &[0, 0, 1]);
        let picked = |usable: &dyn Fn(&Member) -> bool| view.pick(None, usable).map(|member| index(member));
        assert_eq!(picked(&|member| index(member) == 2), Some(2));
        assert_eq!(picked(&|_| false), None);
    }

    #[test]
    fn in_panic_the_unhealthy_take_requests_and_the_drained_do_not() {
        let view = view("round-robin", &[UNHEALTHY, UNHEALTHY, DRAINED], &[0, 0, 0]);
        assert!(view.panics);
        assert_eq!(counts(&view, 3, 100), [50, 50, 0]);
    }

    #[test]
    fn new_endpoints_take_their_part_of_the_weight() {
        let new = EndpointState { percent: 25, ..AVAILABLE };
        assert_eq!(counts(&view("round-robin", &[AVAILABLE, new], &[0, 0]), 2, 500), [400, 100]);
    }

    #[test]
    fn a_group_in_which_nothing_has_changed_is_not_made_anew_and_no_table_before_its_time() {
        let mut entries = entries(&[AVAILABLE; 6], &[0, 0, 0, 1, 1, 1]);
        // Two of three in the first group are unhealthy, so that both groups take requests.
        entries[0].state = UNHEALTHY;
        entries[1].state = UNHEALTHY;
        let first = view_of("maglev", &entries, EVERYTHING);
        entries[4].state = UNHEALTHY;
        let paced = view_of("maglev", &entries, Tables { before: Some(&first), may_make: false });
        assert!(paced.is_stale && !first.is_stale);
        let same = |one: &View, other: &View, part: usize| {
            Arc::ptr_eq(&one.parts[part].balanced, &other.parts[part].balanced)
        };
        assert!(same(&paced, &first, 0) && same(&paced, &first, 1));
        let second = view_of("maglev", &entries, Tables { before: Some(&paced), may_make: true });
        assert!(!second.is_stale && same(&second, &first, 0) && !same(&second, &first, 1));
    }
}
