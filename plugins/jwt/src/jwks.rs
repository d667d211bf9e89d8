//! Fetched keys: cached, shared by all instances through the store, and fetched again when a token names an
//! unknown key.
//!
//! An instance that waits for a fetch serves no other call, so the gateway makes more instances meanwhile; and an
//! instance whose client disconnects is dropped with all its data. So everything that must last is in the store:
//! the keys, and which call may fetch. If the store is not granted, each instance fetches for itself.
//!
//! A fetch has failed if it is slow or refused, or returns no key set or an empty one; the current keys then stay
//! in use for `stale_for`. A key that a valid set no longer lists is no longer accepted.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use witgate_sdk::{Period, SettingsProblem, clock, fetch, log, settings};

use crate::algorithm::{Algorithm, Family};
use crate::jwk;
use crate::keys::KeySet;
use crate::refusal::Refusal;
use crate::set;
use crate::shared::{Shared, Turn};

/// Where keys are fetched from.
#[settings]
pub(crate) struct Settings {
    /// The upstream to fetch from; the binding's `fetch` grant must list it.
    upstream: String,
    /// The path of the key set at that upstream.
    #[serde(default = "default_path")]
    path: String,
    /// The algorithm of RSA keys that do not name one.
    #[serde(default = "default_rsa_algorithm")]
    rsa_algorithm: Algorithm,
    /// Age at which keys are fetched again.
    #[serde(default = "default_refresh")]
    refresh: Period,
    /// The shortest time between two fetches, however many tokens name unknown keys. While there are no keys at
    /// all, a fetch whose client disconnects before its end delays the next one by at most a second.
    #[serde(default = "default_min_interval")]
    min_interval: Period,
    /// How long keys that are older than `refresh` stay in use while every fetch fails. A fetch fails if it is
    /// slow or refused, or returns no key set or an empty one.
    #[serde(default = "default_stale_for")]
    stale_for: Period,
    /// Time limit of one fetch. The wall time budget of the binding limits it in any case, and is the only limit
    /// if this is absent.
    timeout: Option<Period>,
    /// The space of the store in which all instances share the keys; the binding's `store` grant must list it. If
    /// it is not granted, each instance fetches for itself, and while the identity server is slow or unreachable,
    /// valid tokens are refused with 503.
    #[serde(default = "default_store")]
    store: String,
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

fn default_store() -> String {
    "jwks".to_owned()
}

/// Fetched keys.
pub(crate) struct Jwks {
    settings: Settings,
    shared: Shared,
    cache: RefCell<Cache>,
}

#[derive(Default)]
struct Cache {
    keys: Rc<KeySet>,
    /// When the keys were fetched, by any instance.
    fetched: Option<Duration>,
    /// When this instance last tried to fetch without the store.
    attempted: Option<Duration>,
}

/// The time since a moment; `Duration::MAX` if there was none.
fn age(now: Duration, since: Option<Duration>) -> Duration {
    since.map_or(Duration::MAX, |since| now.saturating_sub(since))
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
        if problems.len() > before {
            return None;
        }
        let place = format!("{}{}", settings.upstream, settings.path);
        let lifetime = settings.refresh.duration() + settings.stale_for.duration();
        let shared = Shared::new(settings.store.clone(), &place, settings.min_interval.duration(), lifetime);
        Some(Self { settings, shared, cache: RefCell::default() })
    }

    /// The keys, fetched again if they are old or `sufficient` returns false for them.
    pub(crate) fn keys(&self, sufficient: impl Fn(&KeySet) -> bool) -> Result<Rc<KeySet>, Refusal> {
        let now = clock::now();
        let mut cache = self.cache.borrow_mut();
        let is_due = |cache: &Cache| {
            age(now, cache.fetched) >= self.settings.refresh.duration() || !sufficient(&cache.keys)
        };
        if is_due(&cache) {
            match self.take_over(&mut cache) {
                Ok(()) if !is_due(&cache) => {}
                Ok(()) => self.renew(&mut cache, now),
                Err(()) => self.renew_alone(&mut cache, now),
            }
        }
        if self.is_of_use(&cache, now) { Ok(Rc::clone(&cache.keys)) } else { Err(Refusal::Unavailable) }
    }

    /// Whether the keys may be used, even if only because there are no newer ones.
    fn is_of_use(&self, cache: &Cache, now: Duration) -> bool {
        age(now, cache.fetched) < self.settings.refresh.duration() + self.settings.stale_for.duration()
    }

    /// Takes newer keys from the store, if there are any; an error if the store cannot be used.
    fn take_over(&self, cache: &mut Cache) -> Result<(), ()> {
        if let Some((text, fetched)) = self.shared.newer(cache.fetched).map_err(|_| ())? {
            match set::read(&text).and_then(|keys| self.read(keys)) {
                Ok(keys) => (cache.keys, cache.fetched) = (Rc::new(keys), Some(fetched)),
                Err(why) => self.warn(&why),
            }
        }
        Ok(())
    }

    /// Fetches, if no other call on any instance has the turn to fetch. If the fetch fails, the current keys stay
    /// in use.
    fn renew(&self, cache: &mut Cache, now: Duration) {
        let is_served = self.is_of_use(cache, now);
        match self.shared.turn(is_served) {
            Turn::Mine => {}
            Turn::NotMine => return,
            Turn::Alone => return self.renew_alone(cache, now),
        }
        match self.fetch() {
            Ok((keys, text)) => {
                (cache.keys, cache.fetched) = (Rc::new(keys), Some(now));
                self.shared.publish(&text, now, is_served);
            }
            Err(why) => {
                self.warn(&why);
                if !is_served {
                    self.shared.failed();
                }
            }
        }
    }

    /// Fetches without the store, at most once in each interval. The interval begins when a fetch ends, because a
    /// slow fetch keeps the instance from serving.
    fn renew_alone(&self, cache: &mut Cache, now: Duration) {
        if age(now, cache.attempted) < self.settings.min_interval.duration() {
            return;
        }
        match self.fetch() {
            Ok((keys, _)) => (cache.keys, cache.fetched) = (Rc::new(keys), Some(now)),
            Err(why) => self.warn(&why),
        }
        cache.attempted = Some(clock::now());
    }

    fn warn(&self, why: &str) {
        log::warn(format_args!("no keys from upstream {}: {why}", self.settings.upstream));
    }

    /// The keys of the upstream, and their text for other instances.
    fn fetch(&self) -> Result<(KeySet, Vec<u8>), String> {
        let mut request = fetch::get(&*self.settings.upstream, &*self.settings.path)
            .with_header("accept", "application/jwk-set+json, application/json");
        if let Some(timeout) = self.settings.timeout {
            request = request.with_timeout(timeout.duration());
        }
        let response = request.send().map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(format!("the status of its response was {}", response.status));
        }
        let keys = set::read(&response.body)?;
        let text = set::write(&keys);
        Ok((self.read(keys)?, text))
    }

    /// Reads keys. A key that cannot be used here is left out; a set with two keys of the same id is refused,
    /// because a token could not tell them apart. So is a set of which no key can be used, unless it says that a key
    /// is for another purpose: otherwise a mistake of the issuer would make all its tokens invalid at once.
    fn read(&self, keys: Vec<Value>) -> Result<KeySet, String> {
        let mut set = KeySet::default();
        let has_other_purpose = keys
            .iter()
            .any(|key| key["kty"] != "oct" && key["use"].as_str().is_some_and(|usage| usage != "sig"));
        for value in keys {
            // A symmetric key that anybody can fetch is not secret.
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
        if set.keys.is_empty() && !has_other_purpose {
            return Err("no key of the set can be used".to_owned());
        }
        Ok(set)
    }
}
