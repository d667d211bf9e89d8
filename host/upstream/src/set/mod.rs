//! The endpoints of an upstream at one time: what their source reports, the state of each, and which take
//! requests.
//!
//! | type | contains | lives |
//! |---|---|---|
//! | [`EndpointSet`] | entries, sessions, the [`View`] | until any of it changes |
//! | [`Member`] | an endpoint, and what its source reports about it | until the source reports something else |
//! | [`Endpoint`](super::endpoint::Endpoint) | breaker, health, ejection, latency, slow start; the key of its connection pools | as long as the source reports it |
//!
//! A set is immutable. A change builds another set, which shares everything that has not changed, and exchanges
//! one pointer for all cores. Code that needs an endpoint for longer than one access to a set (an attempt, a
//! session, the list of tried endpoints, the view) holds the member, because an index is valid in one set only.

mod member;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use witgate_config::model;

use super::Upstream;
use super::discovery::{EndpointSpec, Readiness};
use super::endpoint::Availability;
use crate::balancer::clock;
use crate::observe::events::EventKind;
use crate::pick::view::{Tables, View};
use crate::request::sticky::Sessions;
pub(crate) use member::{Member, MemberBuilder, Rank};

/// The shortest time between two builds of the hash tables of an upstream: a build takes up to a tenth of a
/// second.
const TABLE_PACE: Duration = Duration::from_secs(1);

/// The endpoints of an upstream at one time.
pub(crate) struct EndpointSet {
    /// In the order of the source.
    pub(crate) entries: Box<[Entry]>,
    pub(crate) view: View,
    /// `None` if the upstream has no sticky sessions.
    pub(crate) sessions: Option<Arc<Sessions>>,
    /// The version of the set of its source ([`Sink`](super::discovery::Sink)); 0 before the first one.
    version: u64,
}

impl EndpointSet {
    /// A set without endpoints.
    pub(crate) fn empty() -> EndpointSet {
        EndpointSet { entries: Box::default(), view: View::empty(), sessions: None, version: 0 }
    }

    /// The members, in the order of the source.
    pub(crate) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.entries.iter().map(|entry| &entry.member)
    }
}

/// A member, and its state when the set was built.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) member: Arc<Member>,
    pub(crate) state: EndpointState,
}

/// The state of an endpoint, as far as it decides about its share of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndpointState {
    pub(crate) availability: Availability,
    /// The weight while it takes its full share.
    pub(crate) weight: u32,
    /// The percentage of its weight that it takes, less than 100 during slow start.
    pub(crate) percent: u32,
}

impl EndpointState {
    /// The weight for the balancer, in hundredths.
    pub(crate) fn effective(self) -> u32 {
        self.weight.saturating_mul(self.percent)
    }

    /// Whether neither an operator nor the source excludes it from taking requests.
    pub(crate) fn is_wanted(self) -> bool {
        !matches!(self.availability, Availability::Drained | Availability::NotReady | Availability::Stale)
            && self.weight > 0
    }
}

/// The lock for changes of the set of an upstream. It protects the time at which the hash tables were last built,
/// by the balancing clock.
#[derive(Debug, Default)]
pub(crate) struct Changing(Mutex<Option<Duration>>);

impl Changing {
    fn lock(&self) -> MutexGuard<'_, Option<Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When hash tables may be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableMaking {
    /// At most once a second. Until then the previous tables are used, and endpoints in them that take no requests
    /// are skipped.
    Paced,
    /// Now, because an operator waits for the change.
    AtOnce,
}

impl Upstream {
    /// The first set of this version of the upstream.
    pub(crate) fn first_set(&self, members: Vec<Arc<Member>>, version: u64) -> EndpointSet {
        let now = clock::now();
        apply_readiness(&members, now);
        let sessions = self.sessions_of(&members, None);
        let entries: Box<[Entry]> =
            members.into_iter().map(|member| Entry { state: self.state_of(&member, now), member }).collect();
        let view = self.view_of(&entries, Tables { before: None, may_make: true });
        EndpointSet { entries, view, sessions, version }
    }

    /// Builds another set if the states of endpoints differ from the set in service. It locks and may take long,
    /// so it is called by the keeper and by the control plane, never on a core.
    pub(crate) fn refresh(&self, now: Duration, making: TableMaking) {
        let mut tables_made = self.changing.lock();
        let set = self.set.load_full();
        let entries = self.current_entries(&set.entries, now);
        let changed = entries.iter().zip(&set.entries).any(|(after, before)| after.state != before.state);
        let may_make = self.may_make_tables(*tables_made, making, now);
        if changed || (set.view.is_stale && may_make) {
            let (sessions, version) = (set.sessions.clone(), set.version);
            let next = EndpointSet { entries, view: View::empty(), sessions, version };
            self.swap(&set, next, &mut tables_made, may_make, now);
        }
    }

    /// Puts a set of the source in service. `version` is that of the sink.
    pub(crate) fn put_in_service(&self, specs: &[Arc<EndpointSpec>], version: u64, now: Duration) {
        let mut tables_made = self.changing.lock();
        let set = self.set.load_full();
        let builder = MemberBuilder {
            zone: self.zone.as_deref(),
            tls: self.config.tls.is_some(),
            authority: authority(&self.config),
            counts_in_flight: self.policy.counts_in_flight(),
            before: Some(&set),
            same_way: true,
        };
        // The sink accepts only addresses, and every address is a valid host.
        let Ok(members) = builder.members(specs) else { return };
        apply_readiness(&members, now);
        let sessions = self.sessions_of(&members, set.sessions.as_deref());
        let stand = |member: Arc<Member>| Entry { state: self.state_of(&member, now), member };
        let entries: Box<[Entry]> = members.into_iter().map(stand).collect();
        let next = EndpointSet { entries, view: View::empty(), sessions, version };
        let may_make = self.may_make_tables(*tables_made, TableMaking::Paced, now);
        self.swap(&set, next, &mut tables_made, may_make, now);
        let after = self.set.load();
        let (endpoints, stay) = (after.entries.len(), stayed(&set, &after));
        let (joined, left) = (endpoints - stay, set.entries.len() - stay);
        let why = format!("{endpoints} endpoints: {joined} joined, {left} left");
        if joined + left > 0 {
            self.carried.events.record(EventKind::EndpointsChanged, None, why);
        }
        self.retire_missing(&set);
    }

    /// Marks whether endpoints take requests only as long as they pass their checks, because their source has not
    /// confirmed them for too long. An endpoint that proves its identity by TLS is not affected.
    pub(crate) fn distrust(&self, stale: bool) {
        let is_verified = self.config.tls.as_ref().is_some_and(|tls| !tls.insecure_skip_verify);
        let set = self.set.load();
        set.members().for_each(|member| member.endpoint().distrust(stale && !is_verified));
    }

    /// Marks the endpoints that were in the set `before` and are not in the set in service. Their idle connections
    /// are closed.
    fn retire_missing(&self, before: &EndpointSet) {
        let after = self.set.load();
        let stay: HashSet<u64> = after.members().map(|member| member.endpoint().id).collect();
        let all = before.members().map(|member| member.endpoint());
        let gone: Vec<_> = all.filter(|endpoint| !stay.contains(&endpoint.id)).collect();
        if !gone.is_empty() {
            gone.iter().for_each(|endpoint| endpoint.leave());
            self.carried.events.forget(&gone.iter().map(|endpoint| &*endpoint.name).collect());
            self.carried.limit.ring_cores();
        }
    }

    /// The version of the set in service.
    pub(crate) fn version_in_service(&self) -> u64 {
        self.set.load().version
    }

    /// When outdated hash tables may be built again, by the balancing clock. `None` if there are none.
    pub(crate) fn tables_due(&self) -> Option<Duration> {
        let tables_made = self.changing.lock();
        self.set.load().view.is_stale.then(|| tables_made.unwrap_or_default() + TABLE_PACE)
    }

    /// The current state of an endpoint.
    pub(crate) fn state_of(&self, member: &Member, now: Duration) -> EndpointState {
        let endpoint = member.endpoint();
        EndpointState {
            availability: endpoint.availability(),
            weight: member.weight(),
            percent: endpoint.newness.percent(self.config.slow_start.as_ref(), now),
        }
    }

    /// The current states. Slow start begins again for endpoints that have recovered, if that is configured.
    fn current_entries(&self, entries: &[Entry], now: Duration) -> Box<[Entry]> {
        let anew = self.config.slow_start.is_some_and(|settings| settings.after_recovery);
        let look = |Entry { member, state: before }: &Entry| {
            let mut state = self.state_of(member, now);
            let was_away = !matches!(
                before.availability,
                Availability::Available
                    | Availability::Drained
                    | Availability::NotReady
                    | Availability::Stale
            );
            if anew && was_away && state.availability == Availability::Available {
                member.endpoint().newness.begin(now);
                state = self.state_of(member, now);
            }
            Entry { member: member.clone(), state }
        };
        entries.iter().map(look).collect()
    }

    fn may_make_tables(&self, made: Option<Duration>, making: TableMaking, now: Duration) -> bool {
        let paced = making == TableMaking::Paced && self.policy.makes_tables();
        !paced || made.is_none_or(|made| now.saturating_sub(made) >= TABLE_PACE)
    }

    fn swap(
        &self,
        before: &EndpointSet,
        mut next: EndpointSet,
        tables_made: &mut Option<Duration>,
        may_make: bool,
        now: Duration,
    ) {
        next.view = self.view_of(&next.entries, Tables { before: Some(&before.view), may_make });
        if may_make {
            *tables_made = Some(now);
        }
        match (before.view.panics, next.view.panics) {
            (false, true) => {
                self.carried.events.record(EventKind::PanicBegan, None, "too few endpoints are usable");
            }
            (true, false) => {
                self.carried.events.record(EventKind::PanicEnded, None, "enough endpoints are usable");
            }
            _ => {}
        }
        self.set.store(Arc::new(next));
    }

    fn view_of(&self, entries: &[Entry], tables: Tables<'_>) -> View {
        View::of(entries, &*self.policy, (self.config.spill_below, self.config.panic_below), tables)
    }

    fn sessions_of(&self, members: &[Arc<Member>], before: Option<&Sessions>) -> Option<Arc<Sessions>> {
        self.sticky.as_ref().map(|sticky| Arc::new(sticky.sessions(members, before)))
    }
}

/// The host and port for the header `Host`, if the endpoints have no host names of their own.
pub(crate) fn authority(config: &model::Upstream) -> Option<(&str, u16)> {
    config.discover.as_ref().and_then(|discover| discover.source.host())
}

/// The number of endpoints that are in both sets.
fn stayed(before: &EndpointSet, after: &EndpointSet) -> usize {
    let known: HashSet<u64> = before.members().map(|member| member.endpoint().id).collect();
    after.members().filter(|member| known.contains(&member.endpoint().id)).count()
}

/// Marks which endpoints may take requests according to their source: those that are ready or, if none is, those
/// that still serve. Slow start begins when an endpoint becomes ready.
fn apply_readiness(members: &[Arc<Member>], now: Duration) {
    let best = members.iter().map(|member| member.spec.readiness).max().unwrap_or_default();
    let needed = best.max(Readiness::Serving);
    for member in members {
        if member.endpoint().become_ready(member.spec.readiness >= needed) {
            member.endpoint().newness.begin(now);
        }
    }
}

#[cfg(test)]
impl Upstream {
    /// The endpoint at this index of the set in service.
    pub(crate) fn endpoint(&self, index: usize) -> Arc<super::endpoint::Endpoint> {
        self.member(index).endpoint().clone()
    }

    /// The member at this index of the set in service.
    pub(crate) fn member(&self, index: usize) -> Arc<Member> {
        self.set.load().entries[index].member.clone()
    }

    /// The availability of an endpoint when the set in service was built.
    pub(crate) fn seen_availability(&self, index: usize) -> Availability {
        self.set.load().entries[index].state.availability
    }
}
