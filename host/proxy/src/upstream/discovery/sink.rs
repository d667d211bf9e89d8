//! What a source gives its sets to.
//!
//! A sink keeps two things apart: what the source *says*, and the last *good* set, which is in service. What is reported becomes
//! good if it holds to the [`Limits`]; otherwise the good set stays as it is, and the status tells why. So a source that
//! fails, goes silent or talks nonsense takes no endpoint away.

use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::allow::quoted;
use super::{Allow, EndpointSpec, EndpointSpecs, Key, Readiness};
use crate::upstream::adjust::LARGEST_WEIGHT;
use crate::upstream::events::{EventKind, Events};

/// Characters of a name or zone, at most.
const LONGEST_NAME: usize = 253;

/// The last priority, as in the configuration.
const LAST_PRIORITY: u32 = 127;

/// What the sets of a source are held to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Which addresses it may give. Others are left out of its sets.
    pub allow: Allow,
    /// Endpoints of a set at most. A larger set is refused as a whole.
    pub max_endpoints: usize,
    /// Endpoints of a set at least, of those that serve. A smaller set is refused as a whole; 0: an empty set is believed.
    pub min_endpoints: usize,
    /// The time between two changes of the set in service at least; the first change after a calm is made at once.
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

/// What has changed since the source spoke last.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// Endpoints that are new, or of which something else is told.
    pub changed: Vec<EndpointSpec>,
    /// Endpoints that are gone; unknown ones do not matter.
    pub gone: Vec<Key>,
}

/// Why a set is not put in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It has more endpoints than are allowed. Nothing that is new in it is taken in: a source that tells differences should
    /// tell a whole set next.
    TooMany {
        /// How many it has, or would have.
        endpoints: usize,
        /// How many are allowed.
        most: usize,
    },
    /// It has fewer endpoints that serve than there must be. Differences go on from it.
    TooFew {
        /// How many serve, of those that are allowed.
        serving: usize,
        /// How many must.
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

/// How a source stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkStatus {
    /// Milliseconds since the source last told a good set, or that it still holds.
    pub age: u64,
    /// Endpoints of the last good set.
    pub endpoints: usize,
    /// Endpoints that were left out of what the source reported last.
    pub left_out: usize,
    /// Why the latest attempt failed, why the latest set was refused, or why an endpoint was left out; none: all is well.
    pub error: Option<String>,
}

/// What a source gives its sets to. Cheap to clone; it may be used from any thread.
#[derive(Debug, Clone, Default)]
pub struct Sink(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    state: Mutex<State>,
    /// Those of the upstream; they wake the keeper.
    events: Arc<Events>,
}

#[derive(Debug, Default)]
struct State {
    limits: Limits,
    /// What the source says, without what is left out.
    reported: BTreeMap<Key, Arc<EndpointSpec>>,
    left_out: LeftOut,
    good: Option<EndpointSpecs>,
    /// Counts good sets.
    version: u64,
    confirmed: Option<Instant>,
    error: Option<String>,
    failing: bool,
    /// When a set was put in service last.
    served: Option<Instant>,
}

/// Endpoints that are left out. Their keys may be of any length, so only their hashes are kept.
#[derive(Debug, Default)]
struct LeftOut {
    hashes: HashSet<u64>,
    /// Why the latest of them was left out.
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

/// What the keeper finds.
#[derive(Debug, Clone)]
pub(in crate::upstream) enum PendingSet {
    /// Nothing that is not in service.
    None,
    /// There will be something to put in service then.
    At(Instant),
    /// A set to be put in service, and its version.
    Set(EndpointSpecs, u64),
}

impl Sink {
    /// The sink of the upstream that has these events: its failures are some of them, and its news wake who keeps it.
    pub(in crate::upstream) fn new(events: Arc<Events>) -> Sink {
        Sink(Arc::new(Inner { state: Mutex::default(), events }))
    }

    /// The source tells all of its endpoints. Endpoints that are not allowed, or malformed, are left out. Of two with the
    /// same key, the one that is readier counts; of two that are equally ready, the later.
    ///
    /// # Errors
    /// The set is not put in service, and the last good one stays.
    pub fn whole(&self, endpoints: impl IntoIterator<Item = EndpointSpec>) -> Result<(), Refused> {
        let mut state = self.lock();
        let most = state.limits.max_endpoints;
        let before = std::mem::take(&mut state.reported);
        state.left_out = LeftOut::default();
        let mut seen = 0;
        for spec in endpoints {
            seen += 1;
            // Counted to its end, so that the message is right; kept only as far as allowed.
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

    /// The source tells what has changed. Before the first whole set, a difference is one from nothing.
    ///
    /// # Errors
    /// The set is not put in service, and the last good one stays.
    pub fn difference(&self, difference: Difference) -> Result<(), Refused> {
        let mut state = self.lock();
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

    /// The set that was told last still holds, e.g. because the source was asked again and nothing has changed.
    pub fn confirm(&self) {
        let mut state = self.lock();
        state.confirmed = Some(Instant::now());
        self.note_recovery(&mut state);
    }

    /// The source could not be asked; why, in a sentence. The last good set stays.
    pub fn failed(&self, why: impl Into<String>) {
        let mut state = self.lock();
        self.note_failure(&mut state, why.into());
    }

    /// How the source stands; none: it has never reported anything.
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

    /// The last good set and its version; none: there has been none.
    pub(in crate::upstream) fn good(&self) -> Option<(EndpointSpecs, u64)> {
        let state = self.lock();
        state.good.clone().map(|good| (good, state.version))
    }

    /// Another source begins, with limits of its own. What the one before reported is forgotten; its last good set stays until
    /// the new one has told a good one, unless that knows its set from the start.
    pub(in crate::upstream) fn begin(&self, limits: Limits, knows_its_set: bool) {
        let mut state = self.lock();
        let good = state.good.take().filter(|_| !knows_its_set);
        let (version, served) = (state.version, state.served);
        *state = State { limits, good, version, served, ..State::default() };
    }

    /// What is to be put in service, where the version in service is this one.
    pub(in crate::upstream) fn pending(&self, in_service: u64, now: Instant) -> PendingSet {
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

    /// Makes what is reported the good set, if it may be one.
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
            self.0.events.wake();
        }
        Ok(())
    }

    fn refuse(&self, mut state: MutexGuard<'_, State>, refused: Refused) -> Result<(), Refused> {
        self.note_failure(&mut state, refused.to_string());
        Err(refused)
    }

    fn note_failure(&self, state: &mut State, why: String) {
        if !std::mem::replace(&mut state.failing, true) {
            self.0.events.record(EventKind::SourceFailed, None, &*why);
        }
        state.error = Some(why);
    }

    fn note_recovery(&self, state: &mut State) {
        state.error = None;
        if std::mem::take(&mut state.failing) {
            self.0.events.record(EventKind::SourceRecovered, None, "it tells its endpoints again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes in one endpoint, or leaves it out. What is told as before stays the same object, by which it is seen later that
    /// nothing has changed.
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

/// Whether an endpoint is well-formed and allowed.
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
