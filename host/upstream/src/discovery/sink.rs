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

use super::allow::quoted;
use super::{Allow, EndpointSpec, EndpointSpecs, Key, Readiness};
use crate::observe::events::{EventKind, Events};
use crate::pick::adjust::LARGEST_WEIGHT;

/// The most bytes of a name or zone.
const LONGEST_NAME: usize = 253;

/// The last priority, the same as in the configuration.
const LAST_PRIORITY: u32 = 127;

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
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            allow: Allow::default(),
            max_endpoints: 10_000,
            min_endpoints: 1,
            pace: Duration::from_secs(1),
        }
    }
}

/// A change of the set that the source reported last.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// New endpoints, and endpoints of which something has changed.
    pub changed: Vec<EndpointSpec>,
    /// Endpoints that are gone. Unknown keys are ignored.
    pub gone: Vec<Key>,
}

/// Why a set was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The set has more endpoints than are allowed. None of the changed endpoints was accepted, so a source that
    /// reports differences should report a whole set next.
    TooMany {
        /// The number of endpoints.
        endpoints: usize,
        /// The allowed number.
        most: usize,
    },
    /// Too few endpoints of the set are ready or serving. Later differences apply to this set all the same.
    TooFew {
        /// The number of endpoints that are ready or serving, and allowed.
        serving: usize,
        /// The required number.
        least: usize,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::TooMany { endpoints, most } => {
                write!(formatter, "a set of {endpoints} endpoints was refused: {most} are allowed")
            }
            Refused::TooFew { serving, least } => write!(
                formatter,
                "a set was refused in which {serving} endpoints serve: at least {least} must (`min_endpoints`)"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// The state of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Milliseconds since the source last reported a good set, or confirmed it.
    pub age: u64,
    /// The number of endpoints in the last good set.
    pub endpoints: usize,
    /// The number of endpoints that were left out of the set reported last.
    pub left_out: usize,
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
    confirmed: Option<Instant>,
    error: Option<String>,
    failing: bool,
    /// When a set was last handed to the keeper.
    served: Option<Instant>,
}

/// Endpoints that are left out. Only hashes of their keys are kept, because an invalid key may be arbitrarily
/// long.
#[derive(Debug, Default)]
struct LeftOut {
    hashes: HashSet<u64>,
    /// Why the most recent of them was left out.
    why: Option<String>,
}

impl LeftOut {
    fn contains(&self, key: &Key) -> bool {
        self.hashes.contains(&hash(key))
    }

    fn insert(&mut self, key: &Key, why: String) {
        self.hashes.insert(hash(key));
        self.why = Some(why);
    }

    fn remove(&mut self, key: &Key) {
        self.hashes.remove(&hash(key));
        if self.hashes.is_empty() {
            self.why = None;
        }
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
        state.confirmed = Some(Instant::now());
        self.note_recovery(&mut state);
    }

    /// Reports that the source failed, and why. The last good set stays in service.
    pub fn failed(&self, why: impl Into<String>) {
        let Some(mut state) = self.current() else { return };
        self.note_failure(&mut state, why.into());
    }

    /// The state of the source. `None` if it has never reported anything.
    pub fn status(&self) -> Option<SinkStatus> {
        let state = self.lock();
        let age = state.confirmed.map(|confirmed| confirmed.elapsed());
        (age.is_some() || state.error.is_some()).then(|| SinkStatus {
            age: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            endpoints: state.good.as_ref().map_or(0, |good| good.len()),
            left_out: state.left_out.hashes.len(),
            error: state.error.clone().or_else(|| state.left_out.why.clone()),
        })
    }

    /// The last good set and its version, if there is one.
    pub(crate) fn good(&self) -> Option<(EndpointSpecs, u64)> {
        let state = self.lock();
        state.good.clone().map(|good| (good, state.version))
    }

    /// The sink for another source. What the previous source reported is dropped, and its sink is ignored from now
    /// on. Its last good set is kept until the new source has reported a good set, unless the new source knows its
    /// set from the start.
    pub(crate) fn begin(&self, limits: Limits, knows_its_set: bool) -> Sink {
        let mut state = self.lock();
        let good = state.good.take().filter(|_| !knows_its_set);
        let (version, served, generation) = (state.version, state.served, state.generation + 1);
        *state = State { generation, limits, good, version, served, ..State::default() };
        Sink { inner: self.inner.clone(), generation }
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
        state.confirmed = Some(Instant::now());
        self.note_recovery(&mut state);
        let same = state.good.as_ref().is_some_and(|good| good.iter().eq(state.reported.values()));
        if !same {
            state.good = Some(state.reported.values().cloned().collect());
            state.version += 1;
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

impl State {
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
