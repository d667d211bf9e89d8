//! The endpoints of an upstream at one time: what was told of each, how each stands, who takes requests.
//!
//! | what | holds | lives |
//! |---|---|---|
//! | [`EndpointSet`] | entries, sessions, the [`View`] | until anything of it changes |
//! | [`Member`] | an endpoint, and what was told of it | until something else is told of it |
//! | [`Endpoint`](super::endpoint::Endpoint) | breaker, health, ejection, latency, slow start; pools go by it | as long as it is told of |
//!
//! A set is immutable; a change makes another, which shares all that stays, and is one swap of a pointer for every core.
//! Whoever needs an endpoint for longer than one look at a set (an attempt, a session, the list of those tried, the view)
//! holds its member: a place in the set says nothing after the next change.

mod member;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Upstream;
use super::discovery::{EndpointSpec, Readiness};
use super::endpoint::Availability;
use super::events::EventKind;
use super::sticky::Sessions;
use super::view::{Tables, View};
use crate::balancer::clock;
pub(super) use member::{Member, MemberBuilder, Rank};

/// Hash tables are made anew once in this time at most: making one takes long.
const TABLE_PACE: Duration = Duration::from_secs(1);

/// The endpoints of an upstream at one time.
pub(super) struct EndpointSet {
    /// In the order told.
    pub(super) entries: Box<[Entry]>,
    pub(super) view: View,
    /// None: the upstream has no sticky sessions.
    pub(super) sessions: Option<Arc<Sessions>>,
    /// Which of the sets of its source it is; 0: the source has given none yet.
    version: u64,
}

impl EndpointSet {
    /// Nobody is in it.
    pub(super) fn empty() -> EndpointSet {
        EndpointSet { entries: Box::default(), view: View::empty(), sessions: None, version: 0 }
    }

    /// The members, in the order told.
    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.entries.iter().map(|entry| &entry.member)
    }
}

/// A member, and how it stood when the set was made.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) member: Arc<Member>,
    pub(super) state: EndpointState,
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
    pub(super) fn effective(self) -> u32 {
        self.weight.saturating_mul(self.percent)
    }

    /// Whether its operator and its source want it to take requests.
    pub(super) fn is_wanted(self) -> bool {
        !matches!(self.availability, Availability::Drained | Availability::NotReady) && self.weight > 0
    }
}

/// Held while the set of an upstream is changed: when its hash tables were made last, in the time of the balancing clock.
#[derive(Debug, Default)]
pub(super) struct Changing(Mutex<Option<Duration>>);

impl Changing {
    fn lock(&self) -> MutexGuard<'_, Option<Duration>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether hash tables may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableMaking {
    /// If none was made for a second. Until then the old ones are used, and those in them that take no requests are skipped.
    Paced,
    /// An operator waits for the change.
    AtOnce,
}

impl Upstream {
    /// The first set, of these members.
    pub(super) fn first_set(&self, members: Vec<Arc<Member>>, version: u64) -> EndpointSet {
        let now = clock::now();
        apply_readiness(&members, now);
        let sessions = self.sessions_of(&members, None);
        let entries: Box<[Entry]> =
            members.into_iter().map(|member| Entry { state: self.state_of(&member, now), member }).collect();
        let view = self.view_of(&entries, Tables { before: None, may_make: true });
        EndpointSet { entries, view, sessions, version }
    }

    /// Looks whether its endpoints stand otherwise than the set says, and if so, makes another. For the keeper, and for
    /// whoever has changed something: it may take a lock, and time, so it is never called on a core.
    pub(super) fn refresh(&self, now: Duration, making: TableMaking) {
        let mut tables_made = self.changing.lock();
        let set = self.set.load_full();
        let entries = self.current_entries(&set.entries, now);
        let changed = entries.iter().zip(&set.entries).any(|(after, before)| after.state != before.state);
        if changed || set.view.is_stale {
            let next = EndpointSet {
                entries,
                view: View::empty(),
                sessions: set.sessions.clone(),
                version: set.version,
            };
            self.swap(&set, next, &mut tables_made, making, now);
        }
    }

    /// Puts another set in service, of what was told as this version.
    pub(super) fn put_in_service(&self, spec: &[Arc<EndpointSpec>], version: u64, now: Duration) {
        let mut tables_made = self.changing.lock();
        let set = self.set.load_full();
        let builder = MemberBuilder {
            zone: self.zone.as_deref(),
            tls: self.config.tls.is_some(),
            counts_in_flight: self.policy.counts_in_flight(),
            before: Some(&set),
            same_way: true,
        };
        // The sink has let through addresses only, of which every one can be a host.
        let Ok(members) = builder.members(spec) else { return };
        apply_readiness(&members, now);
        let sessions = self.sessions_of(&members, set.sessions.as_deref());
        let stand = |member: Arc<Member>| Entry { state: self.state_of(&member, now), member };
        let entries: Box<[Entry]> = members.into_iter().map(stand).collect();
        let next = EndpointSet { entries, view: View::empty(), sessions, version };
        self.swap(&set, next, &mut tables_made, TableMaking::Paced, now);
        self.retire_missing(&set);
    }

    /// Endpoints of a set that are in the one in service no more leave: their idle connections are closed.
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

    /// Which of the sets of its source is in service.
    pub(super) fn version_in_service(&self) -> u64 {
        self.set.load().version
    }

    /// When hash tables that are not of the set in service may be made anew; none: there are none.
    pub(super) fn tables_due(&self) -> Option<Duration> {
        let tables_made = self.changing.lock();
        self.set.load().view.is_stale.then(|| tables_made.unwrap_or_default() + TABLE_PACE)
    }

    /// How an endpoint stands now.
    pub(super) fn state_of(&self, member: &Member, now: Duration) -> EndpointState {
        let endpoint = member.endpoint();
        EndpointState {
            availability: endpoint.availability(),
            weight: member.weight(),
            percent: endpoint.newness.percent(self.config.slow_start.as_ref(), now),
        }
    }

    /// How all stand now. Where that is configured, endpoints that have recovered are new again.
    fn current_entries(&self, entries: &[Entry], now: Duration) -> Box<[Entry]> {
        let anew = self.config.slow_start.is_some_and(|settings| settings.after_recovery);
        let look = |Entry { member, state: before }: &Entry| {
            let mut state = self.state_of(member, now);
            let was_away = !matches!(
                before.availability,
                Availability::Available | Availability::Drained | Availability::NotReady
            );
            if anew && was_away && state.availability == Availability::Available {
                member.endpoint().newness.begin(now);
                state = self.state_of(member, now);
            }
            Entry { member: member.clone(), state }
        };
        entries.iter().map(look).collect()
    }

    fn swap(
        &self,
        before: &EndpointSet,
        mut next: EndpointSet,
        tables_made: &mut Option<Duration>,
        making: TableMaking,
        now: Duration,
    ) {
        let paced = making == TableMaking::Paced && self.policy.makes_tables();
        let may_make = !paced || tables_made.is_none_or(|made| now.saturating_sub(made) >= TABLE_PACE);
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

/// Lets endpoints take requests, or not, by what was told: those that are ready; where none is, those that still serve. One
/// that becomes ready comes in slowly, as a new one does.
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
    /// The endpoint at a place of the set in service.
    pub(super) fn endpoint(&self, index: usize) -> Arc<super::endpoint::Endpoint> {
        self.member(index).endpoint().clone()
    }

    /// The member at a place of the set in service.
    pub(super) fn member(&self, index: usize) -> Arc<Member> {
        self.set.load().entries[index].member.clone()
    }

    /// How an endpoint stands by the set in service.
    pub(super) fn seen_availability(&self, index: usize) -> Availability {
        self.set.load().entries[index].state.availability
    }
}
