//! Receives the sets of a source.
//!
//! A sink keeps the set that the source *reported* last and the last *good* set, which is in service. A reported
//! set becomes the good one if it is within the [`Limits`]. Otherwise the good set stays in service, and the
//! status shows the reason. A source that fails, hangs or sends invalid data therefore removes no endpoint.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use witgate_config::model;

use super::allow::quoted;
use super::{
    Allow, Difference, EndpointSink, EndpointSpec, EndpointSpecs, Key, OwnAddresses, Readiness, Refused,
};
use crate::observe::events::{EventKind, Events};
use crate::pick::adjust::LARGEST_WEIGHT;

/// The most bytes of a name or zone.
const LONGEST_NAME: usize = 253;

/// The last priority, the same as in the configuration.
const LAST_PRIORITY: u32 = 127;

/// For how many endpoints that are left out the reasons are kept.
const REASONS: usize = 10;

/// Limits for the sets of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The addresses that the source may report. Endpoints at other addresses are left out.
    pub allow: Allow,
    /// The most endpoints of a set. A larger set is refused as a whole.
    pub max_endpoints: usize,
    /// The fewest endpoints of a set that are ready or serving. A smaller set is refused as a whole. With 0 an
    /// empty set is accepted.
    pub min_endpoints: usize,
    /// The shortest time between two changes of the set in service.
    pub pace: Duration,
    /// How long a set is trusted after the source has confirmed it. `None`: without a limit.
    pub keep_stale: Option<Duration>,
}

impl Limits {
    /// The limits of a configuration.
    pub(crate) fn of(discover: &model::Discover, own: OwnAddresses) -> Limits {
        Limits {
            allow: Allow { networks: discover.allow.clone(), own },
            max_endpoints: discover.max_endpoints,
            min_endpoints: discover.min_endpoints,
            keep_stale: discover.keep_stale,
            ..Limits::default()
        }
    }

    /// The endpoints of a set that is known before its source runs, if the set is within the limits. Otherwise none.
    pub(crate) fn screen(&self, set: Vec<EndpointSpec>) -> Vec<Arc<EndpointSpec>> {
        if set.len() > self.max_endpoints {
            return Vec::new();
        }
        let fit = set.into_iter().filter(|spec| check(spec, &self.allow).is_ok());
        let by_key: BTreeMap<Key, Arc<EndpointSpec>> = fit.map(|spec| (spec.key(), Arc::new(spec))).collect();
        let serving = by_key.values().filter(|spec| spec.readiness > Readiness::NotServing).count();
        if serving < self.min_endpoints { Vec::new() } else { by_key.into_values().collect() }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            allow: Allow::default(),
            max_endpoints: 10_000,
            min_endpoints: 1,
            pace: Duration::from_secs(1),
            keep_stale: None,
        }
    }
}

/// The state of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// The kind of the source, e.g. `dns`.
    pub kind: String,
    /// Milliseconds since the source last reported a good set, or confirmed it.
    pub age: u64,
    /// Milliseconds since the last good set changed; absent if there has been none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// How often the last good set has changed.
    pub changes: u64,
    /// Whether the source has failed, or its latest set was refused.
    pub failing: bool,
    /// Whether the last good set is older than `keep_stale`.
    pub stale: bool,
    /// Whether the last good set was saved by an earlier process, and the source has not reported one yet.
    #[serde(default)]
    pub restored: bool,
    /// The number of endpoints in the last good set.
    pub endpoints: usize,
    /// The number of endpoints that were left out of the set reported last.
    pub left_out: usize,
    /// Why endpoints were left out, for up to ten of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    /// Why the source failed, why the latest set was refused, or why an endpoint was left out. `None` if there is
    /// no problem.
    pub error: Option<String>,
}

/// Receives the sets of a source. Cheap to clone, and usable from any thread.
#[derive(Debug, Clone)]
pub struct Sink {
    inner: Arc<Inner>,
    /// The source that this was made for; what a source reports after another has begun is ignored.
    generation: u64,
}

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// The events of the upstream. Each event wakes the keeper.
    events: Arc<Events>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts the sources of the upstream.
    generation: u64,
    limits: Limits,
    /// The set reported last, without the endpoints that are left out.
    reported: BTreeMap<Key, Arc<EndpointSpec>>,
    left_out: LeftOut,
    good: Option<EndpointSpecs>,
    /// The number of good sets so far.
    version: u64,
    /// The kind of the source. `None` for the fixed list.
    kind: Option<&'static str>,
    confirmed: Option<Instant>,
    /// When the last good set changed.
    changed: Option<Instant>,
    /// Whether the last good set was saved by an earlier process, and the source has not reported one yet.
    restored: bool,
    error: Option<String>,
    failing: bool,
    /// Whether it was recorded that the last good set is older than `keep_stale`.
    told_stale: bool,
    /// When a set was last handed to the keeper.
    served: Option<Instant>,
}

/// Endpoints that are left out. Only hashes of their keys are kept, because an invalid key may be arbitrarily
/// long.
#[derive(Debug, Default)]
struct LeftOut {
    hashes: HashSet<u64>,
    /// Why the first [`REASONS`] of them were left out, by their hash.
    why: BTreeMap<u64, String>,
}

impl LeftOut {
    fn contains(&self, key: &Key) -> bool {
        self.hashes.contains(&hash(key))
    }

    fn insert(&mut self, key: &Key, why: String) {
        let hash = hash(key);
        self.hashes.insert(hash);
        if self.why.len() < REASONS || self.why.contains_key(&hash) {
            self.why.insert(hash, why);
        }
    }

    fn remove(&mut self, key: &Key) {
        let hash = hash(key);
        self.hashes.remove(&hash);
        self.why.remove(&hash);
    }
}

fn hash(key: &Key) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// What the keeper has to put in service.
#[derive(Debug, Clone)]
pub(crate) enum PendingSet {
    /// Nothing: the last good set is in service.
    None,
    /// A set that may be put in service at this time.
    At(Instant),
    /// A set that is to be put in service now, and its version.
    Set(EndpointSpecs, u64),
}

impl Sink {
    /// The sink of an upstream. Failures of its source are recorded in `events`, and a new good set wakes the
    /// keeper.
    pub(crate) fn new(events: Arc<Events>) -> Sink {
        Sink { inner: Arc::new(Inner { state: Mutex::default(), events }), generation: 0 }
    }

    /// Reports all endpoints. Endpoints that are malformed or not allowed are left out. Of several endpoints with
    /// the same key the one with the best readiness is used; among equals, the last one.
    ///
    /// # Errors
    /// The set is outside the limits. The last good set stays in service.
    pub fn whole(&self, endpoints: impl IntoIterator<Item = EndpointSpec>) -> Result<(), Refused> {
        let Some(mut state) = self.current() else { return Ok(()) };
        let most = state.limits.max_endpoints;
        let before = std::mem::take(&mut state.reported);
        state.left_out = LeftOut::default();
        let mut seen = 0;
        for spec in endpoints {
            seen += 1;
            // All are counted, for the message. No more than allowed are kept.
            if seen <= most {
                let key = spec.key();
                let readier = state.reported.get(&key).is_some_and(|known| known.readiness > spec.readiness);
                if !readier {
                    state.insert(key.clone(), spec, before.get(&key));
                }
            }
        }
        if seen > most {
            state.reported = before;
            return self.refuse(state, Refused::TooMany { endpoints: seen, most });
        }
        self.publish(state)
    }

    /// Reports a change of the set reported last. Before the first set, that is the empty set.
    ///
    /// # Errors
    /// The resulting set is outside the limits. The last good set stays in service.
    pub fn difference(&self, difference: Difference) -> Result<(), Refused> {
        let Some(mut state) = self.current() else { return Ok(()) };
        for key in &difference.gone {
            state.reported.remove(key);
            state.left_out.remove(key);
        }
        let most = state.limits.max_endpoints;
        let is_new = |spec: &&EndpointSpec| {
            !state.reported.contains_key(&spec.key()) && !state.left_out.contains(&spec.key())
        };
        let new = difference.changed.iter().filter(is_new).count();
        let endpoints = state.reported.len() + state.left_out.hashes.len() + new;
        if endpoints > most {
            return self.refuse(state, Refused::TooMany { endpoints, most });
        }
        for spec in difference.changed {
            let key = spec.key();
            let known = state.reported.remove(&key);
            state.insert(key, spec, known.as_ref());
        }
        self.publish(state)
    }

    /// Reports that the last set is still current.
    pub fn confirm(&self) {
        let Some(mut state) = self.current() else { return };
        let was_stale = state.is_stale();
        state.confirmed = Some(Instant::now());
        self.note_recovery(&mut state);
        if was_stale {
            self.inner.events.wake();
        }
    }

    /// Reports that the source failed, and why. The last good set stays in service.
    pub fn failed(&self, why: impl Into<String>) {
        let Some(mut state) = self.current() else { return };
        self.note_failure(&mut state, why.into());
    }

    /// The state of the source. `None` for the fixed list.
    pub fn status(&self) -> Option<SinkStatus> {
        let state = self.lock();
        let refused: Vec<String> = state.left_out.why.values().cloned().collect();
        state.kind.map(|kind| SinkStatus {
            kind: kind.to_owned(),
            age: state.confirmed.map_or(0, |confirmed| millis(confirmed.elapsed())),
            changed: state.changed.map(|changed| millis(changed.elapsed())),
            changes: state.version,
            failing: state.failing,
            stale: state.is_stale(),
            restored: state.restored,
            endpoints: state.good.as_ref().map_or(0, |good| good.len()),
            left_out: state.left_out.hashes.len(),
            error: state.error.clone().or_else(|| refused.first().cloned()),
            refused,
        })
    }

    /// Whether the last good set is older than `keep_stale`, and when it will be if it is not. The first time it
    /// is, that is recorded as an event.
    pub(crate) fn staleness(&self) -> (bool, Option<Instant>) {
        let mut state = self.lock();
        let until = state.good.as_ref().and(state.confirmed).zip(state.limits.keep_stale);
        let stale = state.is_stale();
        if !std::mem::replace(&mut state.told_stale, stale) && stale {
            let why = "the source has not confirmed the endpoints for longer than `keep_stale`";
            self.inner.events.record(EventKind::EndpointsStale, None, why);
        }
        (stale, until.map(|(confirmed, keep)| confirmed + keep).filter(|_| !stale))
    }

    /// Whether its source has neither reported a good set nor failed so far, and there is no set of an earlier process;
    /// or whether the first set is not in service yet. `in_service`: the version of the set that is.
    pub(crate) fn is_awaited(&self, in_service: u64) -> bool {
        let state = self.lock();
        match state.good {
            None => !state.failing,
            Some(_) => state.served.is_none() && state.version != in_service,
        }
    }

    /// The last good set and its version, if there is one.
    pub(crate) fn good(&self) -> Option<(EndpointSpecs, u64)> {
        let state = self.lock();
        state.good.clone().map(|good| (good, state.version))
    }

    /// The last good set with its version, if its source has confirmed it, and when. A set that an earlier process
    /// has saved is not returned.
    pub(crate) fn confirmed(&self) -> Option<(EndpointSpecs, u64, Instant)> {
        let state = self.lock();
        let confirmed = state.confirmed.filter(|_| !state.restored)?;
        Some((state.good.clone()?, state.version, confirmed))
    }

    /// The sink for another source. What the previous source reported is dropped, and its sink is ignored from now
    /// on. Its last good set is kept until the new source has reported a good set, unless the new source knows its
    /// set from the start.
    pub(crate) fn begin(
        &self,
        kind: Option<&'static str>,
        limits: Limits,
        knows_its_set: bool,
        restored: Option<(EndpointSpecs, Duration)>,
    ) -> Sink {
        let mut state = self.lock();
        let good = state.good.take().filter(|_| !knows_its_set);
        // The set of the previous source ages on until this one has reported one.
        let confirmed = state.confirmed.filter(|_| good.is_some() && kind.is_some());
        let (version, served, generation) = (state.version, state.served, state.generation + 1);
        *state = State { generation, limits, good, confirmed, version, served, kind, ..State::default() };
        if let Some((set, age)) = restored.filter(|_| state.good.is_none()) {
            let now = Instant::now();
            (state.good, state.restored) = (Some(set), true);
            state.confirmed = Some(now.checked_sub(age).unwrap_or(now));
        }
        state.withdraw();
        Sink { inner: self.inner.clone(), generation }
    }

    /// Takes endpoints out of the last good set that are no longer allowed, because the gateway listens at their
    /// addresses by now.
    pub(crate) fn withdraw(&self) {
        self.lock().withdraw();
    }

    /// What has to be put in service if this version is in service.
    pub(crate) fn pending(&self, in_service: u64, now: Instant) -> PendingSet {
        let mut state = self.lock();
        let Some(good) = state.good.clone().filter(|_| state.version != in_service) else {
            return PendingSet::None;
        };
        match state.served.map(|served| served + state.limits.pace).filter(|due| *due > now) {
            Some(due) => PendingSet::At(due),
            None => {
                state.served = Some(now);
                PendingSet::Set(good, state.version)
            }
        }
    }

    /// Makes the reported set the good set, if it is within the limits.
    fn publish(&self, mut state: MutexGuard<'_, State>) -> Result<(), Refused> {
        let serving = state.reported.values().filter(|spec| spec.readiness > Readiness::NotServing).count();
        let least = state.limits.min_endpoints;
        if serving < least {
            return self.refuse(state, Refused::TooFew { serving, least });
        }
        let was_stale = state.is_stale();
        state.confirmed = Some(Instant::now());
        self.note_recovery(&mut state);
        if was_stale {
            self.inner.events.wake();
        }
        state.restored = false;
        let same = state.good.as_ref().is_some_and(|good| good.iter().eq(state.reported.values()));
        if !same {
            state.good = Some(state.reported.values().cloned().collect());
            state.version += 1;
            state.changed = Some(Instant::now());
            self.inner.events.wake();
        }
        Ok(())
    }

    fn refuse(&self, mut state: MutexGuard<'_, State>, refused: Refused) -> Result<(), Refused> {
        self.note_failure(&mut state, refused.to_string());
        Err(refused)
    }

    fn note_failure(&self, state: &mut State, why: String) {
        if !std::mem::replace(&mut state.failing, true) {
            self.inner.events.record(EventKind::SourceFailed, None, &*why);
        }
        state.error = Some(why);
    }

    fn note_recovery(&self, state: &mut State) {
        state.error = None;
        if std::mem::take(&mut state.failing) {
            self.inner.events.record(EventKind::SourceRecovered, None, "the source supplies endpoints again");
        }
    }

    /// The state, unless another source has begun since.
    fn current(&self) -> Option<MutexGuard<'_, State>> {
        Some(self.lock()).filter(|state| state.generation == self.generation)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As it is called by sources.
impl EndpointSink for Sink {
    fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused> {
        Sink::whole(self, endpoints)
    }

    fn difference(&self, difference: Difference) -> Result<(), Refused> {
        Sink::difference(self, difference)
    }

    fn confirm(&self) {
        Sink::confirm(self);
    }

    fn failed(&self, why: String) {
        Sink::failed(self, why);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl State {
    fn is_stale(&self) -> bool {
        let keep = self.limits.keep_stale;
        self.good.is_some() && self.confirmed.zip(keep).is_some_and(|(at, keep)| at.elapsed() >= keep)
    }

    /// Takes out of all sets what is not allowed by now. The fixed list is the operator's, who may name anything.
    fn withdraw(&mut self) {
        if self.kind.is_none() {
            return;
        }
        let State { reported, left_out, good, version, limits, .. } = self;
        reported.retain(|key, spec| match check(spec, &limits.allow) {
            Ok(()) => true,
            Err(why) => {
                left_out.insert(key, why);
                false
            }
        });
        let is_allowed = |spec: &&Arc<EndpointSpec>| check(spec, &limits.allow).is_ok();
        if let Some(all) = good.as_ref().filter(|all| !all.iter().all(|spec| is_allowed(&spec))) {
            *good = Some(all.iter().filter(is_allowed).cloned().collect());
            *version += 1;
        }
    }

    /// Adds one endpoint, or leaves it out. An unchanged endpoint keeps its object, so that comparisons are cheap
    /// later.
    fn insert(&mut self, key: Key, spec: EndpointSpec, before: Option<&Arc<EndpointSpec>>) {
        match check(&spec, &self.limits.allow) {
            Ok(()) => {
                let same = before.filter(|before| ***before == spec).cloned();
                self.left_out.remove(&key);
                self.reported.insert(key, same.unwrap_or_else(|| Arc::new(spec)));
            }
            Err(why) => self.left_out.insert(&key, why),
        }
    }
}

/// Checks that an endpoint is well-formed and allowed. The error is the reason if it is not.
fn check(spec: &EndpointSpec, allow: &Allow) -> Result<(), String> {
    let at = || format!("{} with port {}", quoted(&spec.host), spec.port);
    if spec.port == 0 {
        return Err(format!("{} has no port", at()));
    }
    if spec.weight > LARGEST_WEIGHT {
        return Err(format!("{} has a weight of {}: at most {LARGEST_WEIGHT}", at(), spec.weight));
    }
    if spec.priority > LAST_PRIORITY {
        return Err(format!("{} has a priority of {}: at most {LAST_PRIORITY}", at(), spec.priority));
    }
    let texts = [("name", &spec.name), ("zone", &spec.zone)];
    for (what, text) in texts.into_iter().filter_map(|(what, text)| Some((what, text.as_ref()?))) {
        if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(char::is_control) {
            return Err(format!("the {what} of {} is empty, too long or not text", at()));
        }
    }
    allow.check(&spec.host, spec.port)
}
