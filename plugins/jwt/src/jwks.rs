//! Keys that are fetched: cached, shared by all instances through the store, and fetched again when a token names a key
//! that is not there yet.
//!
//! An instance that waits for a fetch serves nobody else, the gateway makes others meanwhile, and one whose caller leaves is
//! gone with all it holds. So what lasts is in the store: the keys, and whose turn it is to fetch. Where the store is not
//! granted, each instance does what it can alone.
//!
//! A fetch fails if it is slow, is refused, or brings no key set or an empty one; then the keys that are held serve on, for
//! `stale_for`. What a good set does not list any more is not accepted any more.

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
    /// The algorithm of RSA keys that do not say it themselves.
    #[serde(default = "default_rsa_algorithm")]
    rsa_algorithm: Algorithm,
    /// How old the keys may get before they are fetched again.
    #[serde(default = "default_refresh")]
    refresh: Period,
    /// How long to wait at least between two fetches, however many tokens name unknown keys. While there are no keys at all, a
    /// fetch whose client leaves before its end keeps the next one waiting for a second at most.
    #[serde(default = "default_min_interval")]
    min_interval: Period,
    /// For how long keys that are older than `refresh` stay in use while every fetch fails: one that is slow or refused, and
    /// one that brings no key set or an empty one.
    #[serde(default = "default_stale_for")]
    stale_for: Period,
    /// Time for one fetch; absent: what the binding's wall budget leaves of a call, which bounds it in any case.
    timeout: Option<Period>,
    /// The store space in which all instances share the keys; the binding's `store` grant must list it. Where it is not
    /// granted, each instance fetches its own, and while the identity server is slow or away, good tokens are turned
    /// away with 503.
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
    /// When the keys were fetched, by whichever instance.
    fetched: Option<Duration>,
    /// When this instance last tried without the store.
    attempted: Option<Duration>,
}

/// Time that has passed since; for ever if it never was.
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

    /// The keys, fetched if they are old or `sufficient` says no.
    #[inline(never)]
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

    /// Whether the keys may serve, if only because there are no newer ones.
    fn is_of_use(&self, cache: &Cache, now: Duration) -> bool {
        age(now, cache.fetched) < self.settings.refresh.duration() + self.settings.stale_for.duration()
    }

    /// Takes the keys of the store, if they are newer; an error if the store cannot be used.
    fn take_over(&self, cache: &mut Cache) -> Result<(), ()> {
        if let Some((text, fetched)) = self.shared.newer(cache.fetched).map_err(|_| ())? {
            match set::read(&text).and_then(|keys| self.read(keys)) {
                Ok(keys) => (cache.keys, cache.fetched) = (Rc::new(keys), Some(fetched)),
                Err(why) => self.warn(&why),
            }
        }
        Ok(())
    }

    /// Fetches if it is this call's turn, of all calls on all instances. If there is nothing to be had, what is held serves on.
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

    /// Fetches without the help of the store, once in each interval, which begins when the fetch has ended: a fetch that is
    /// slow keeps the instance from serving.
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

    /// Keys from the upstream, and the text of them for others.
    fn fetch(&self) -> Result<(KeySet, Vec<u8>), String> {
        let mut request = fetch::get(&*self.settings.upstream, &*self.settings.path)
            .with_header("accept", "application/jwk-set+json, application/json");
        if let Some(timeout) = self.settings.timeout {
            request = request.with_timeout(timeout.duration());
        }
        let response = request.send().map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(format!("it answered {}", response.status));
        }
        let keys = set::read(&response.body)?;
        let text = set::write(&keys);
        Ok((self.read(keys)?, text))
    }

    /// Reads keys. One that cannot be used here is left out; two with one id are refused, because a token could not say
    /// which it means.
    fn read(&self, keys: Vec<Value>) -> Result<KeySet, String> {
        let mut set = KeySet::default();
        for value in keys {
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
