//! Keys that are fetched: cached, shared through the store if there is one, and fetched again when a token names a key
//! that is not there yet.
//!
//! A fetch fails if it is slow, is refused, or brings no key set or an empty one; then the keys that are held serve on, for
//! `stale_for`. What a good set does not list any more is not accepted any more.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use witgate_sdk::{Period, SettingsProblem, clock, fetch, log, settings, store};

use crate::algorithm::{Algorithm, Family};
use crate::jwk;
use crate::keys::KeySet;
use crate::refusal::Refusal;

/// More keys than any issuer has, and few enough to try.
const MOST_KEYS: usize = 64;
const SHARED: &str = "jwks";
const ATTEMPT: &str = "jwks-attempt";

/// Where keys are fetched from.
#[settings]
pub(crate) struct Settings {
    /// The upstream to fetch from; the binding's `fetch` grant must list it.
    upstream: String,
    /// The path of the key set at that upstream.
    #[serde(default = "default_path")]
    path: String,
    /// The algorithm of RSA keys that do not say it themselves.
    #[serde(default = "default_rsa_algorithm")]
    rsa_algorithm: Algorithm,
    /// How old the keys may get before they are fetched again.
    #[serde(default = "default_refresh")]
    refresh: Period,
    /// How long to wait at least between two fetches, however many tokens name unknown keys.
    #[serde(default = "default_min_interval")]
    min_interval: Period,
    /// For how long keys that are older than `refresh` stay in use while every fetch fails: one that is slow or refused, and
    /// one that brings no key set or an empty one.
    #[serde(default = "default_stale_for")]
    stale_for: Period,
    /// Time for one fetch; absent: what the binding's wall budget leaves of a call, which bounds it in any case.
    timeout: Option<Period>,
    /// A store space in which all instances share the keys; the binding's `store` grant must list it. Without one,
    /// each instance fetches its own.
    store: Option<String>,
}

fn default_path() -> String {
    "/.well-known/jwks.json".to_owned()
}

fn default_rsa_algorithm() -> Algorithm {
    Algorithm::Rs256
}

fn default_refresh() -> Period {
    Period::from_secs(600)
}

fn default_min_interval() -> Period {
    Period::from_secs(10)
}

fn default_stale_for() -> Period {
    Period::from_secs(3600)
}

/// Fetched keys.
pub(crate) struct Jwks {
    settings: Settings,
    cache: RefCell<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Rc<KeySet>,
    /// When the keys were fetched, by whichever instance.
    fetched: Option<Duration>,
    /// When this instance last tried.
    attempted: Option<Duration>,
}

/// A key set (RFC 7517 section 5).
#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl Jwks {
    pub(crate) fn new(settings: Settings, problems: &mut Vec<SettingsProblem>) -> Option<Self> {
        let before = problems.len();
        if settings.upstream.is_empty() {
            problems.push(SettingsProblem::new("/jwks/upstream", "name the upstream that has the keys"));
        }
        if !settings.path.starts_with('/') {
            problems.push(SettingsProblem::new("/jwks/path", "a path begins with `/`"));
        }
        if !matches!(settings.rsa_algorithm.family(), Family::Rsa(_)) {
            problems.push(SettingsProblem::new(
                "/jwks/rsa_algorithm",
                "write one of RS256 to RS512, PS256 to PS512",
            ));
        }
        (problems.len() == before).then(|| Self { settings, cache: RefCell::default() })
    }

    /// The keys, fetched if they are old or `sufficient` says no.
    #[inline(never)]
    pub(crate) fn keys(&self, sufficient: impl Fn(&KeySet) -> bool) -> Result<Rc<KeySet>, Refusal> {
        let now = clock::now();
        let age = |since: Option<Duration>| since.map_or(Duration::MAX, |since| now.saturating_sub(since));
        let mut cache = self.cache.borrow_mut();
        let is_due = age(cache.fetched) >= self.settings.refresh.duration() || !sufficient(&cache.keys);
        if is_due && age(cache.attempted) >= self.settings.min_interval.duration() {
            cache.attempted = Some(now);
            match self.load(now, &sufficient) {
                // The store tells whole seconds.
                Ok((keys, fetched)) if cache.fetched.is_none_or(|own| own.as_secs() <= fetched.as_secs()) => {
                    cache.keys = Rc::new(keys);
                    cache.fetched = Some(fetched);
                }
                // A fetch failed, and what the store has is older than what is at hand.
                Ok(_) => {}
                Err(why) => self.warn(&why),
            }
        }
        if age(cache.fetched) < self.settings.refresh.duration() + self.settings.stale_for.duration() {
            Ok(Rc::clone(&cache.keys))
        } else {
            Err(Refusal::Unavailable)
        }
    }

    /// From the store, if another instance was there first, else from the upstream. If the upstream has none, the keys of
    /// the store serve on.
    fn load(
        &self,
        now: Duration,
        sufficient: &impl Fn(&KeySet) -> bool,
    ) -> Result<(KeySet, Duration), String> {
        let shared = self.settings.store.as_deref().map(store::space);
        let interval = Some(self.settings.min_interval.duration());
        let held = match shared.map(|space| (space, self.shared(space))) {
            Some((space, Some((keys, fetched)))) => {
                let is_fresh = now.saturating_sub(fetched) < self.settings.refresh.duration();
                let attempt = || space.compare_and_swap(ATTEMPT, None, Some(b"1"), interval) == Ok(true);
                // Of all instances, one in each interval goes on to fetch.
                if (is_fresh && sufficient(&keys)) || !attempt() {
                    return Ok((keys, fetched));
                }
                Some((keys, fetched))
            }
            Some((space, None)) if matches!(space.get(ATTEMPT), Ok(Some(_))) => {
                return Err("another instance has just tried in vain".to_owned());
            }
            _ => None,
        };
        let fetched = self.fetch().and_then(|document| Ok((self.read(&document)?, document)));
        let (keys, document) = match (fetched, held) {
            (Ok(fetched), _) => fetched,
            (Err(why), Some(held)) => {
                self.warn(&why);
                return Ok(held);
            }
            (Err(why), None) => {
                // Others need not find out for themselves at once. If the store fails, they do.
                let _ = shared.map(|space| space.set(ATTEMPT, b"1", interval));
                return Err(why);
            }
        };
        if let Some(space) = shared {
            let mut entry = now.as_secs().to_be_bytes().to_vec();
            entry.extend_from_slice(&document);
            let ttl = self.settings.refresh.duration() + self.settings.stale_for.duration();
            if let Err(error) = space.set(SHARED, entry, Some(ttl)) {
                log::warn(format_args!("the keys are not shared: {error}"));
            }
        }
        Ok((keys, now))
    }

    /// The keys another instance has put into the store, and when they were fetched.
    fn shared(&self, space: store::Space) -> Option<(KeySet, Duration)> {
        let entry = space.get(SHARED).ok()??;
        let (seconds, document) = entry.split_first_chunk()?;
        Some((self.read(document).ok()?, Duration::from_secs(u64::from_be_bytes(*seconds))))
    }

    fn warn(&self, why: &str) {
        log::warn(format_args!("no keys from upstream {}: {why}", self.settings.upstream));
    }

    fn fetch(&self) -> Result<Vec<u8>, String> {
        let mut request = fetch::get(&*self.settings.upstream, &*self.settings.path)
            .with_header("accept", "application/jwk-set+json, application/json");
        if let Some(timeout) = self.settings.timeout {
            request = request.with_timeout(timeout.duration());
        }
        let response = request.send().map_err(|error| error.to_string())?;
        match response.status {
            200 => Ok(response.body),
            status => Err(format!("it answered {status}")),
        }
    }

    /// Reads a key set. A key that cannot be used here is left out; two with one id are refused, because a token
    /// could not say which it means. A set without a key is more likely a mistake of the issuer's than the end of all its
    /// tokens, and is refused too.
    fn read(&self, document: &[u8]) -> Result<KeySet, String> {
        let document: Document = serde_json::from_slice(document).map_err(|error| error.to_string())?;
        // RFC 7517 section 4.1: what every key says of itself.
        if !document.keys.iter().any(|key| key["kty"].is_string()) {
            return Err("the key set is empty".to_owned());
        }
        let mut set = KeySet::default();
        for value in document.keys.into_iter().take(MOST_KEYS) {
            // A secret that anybody can fetch is none.
            if value["kty"] == "oct" {
                log::warn("the key set has a symmetric key: it is left out");
                continue;
            }
            let says_nothing = value["kty"] == "RSA" && value["alg"].is_null();
            match jwk::read(value, says_nothing.then_some(self.settings.rsa_algorithm)) {
                Ok(key) if key.kid.is_some() && set.keys.iter().any(|known| known.kid == key.kid) => {
                    return Err("two keys have the same id".to_owned());
                }
                Ok(key) => set.keys.push(key),
                Err(why) => log::debug(format_args!("a key is left out: {why}")),
            }
        }
        Ok(set)
    }
}
