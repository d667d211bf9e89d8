//! The shared cache of HTTP responses (RFC 9111). It wraps the destination of a route.
//!
//! | module | what it holds |
//! |---|---|
//! | `destination` | what is done with a request: a hit, a wait for the same request of another client, or a fetch |
//! | `key`, `ask` | the key of a request and who may share its response; whether a stored response may be used |
//! | `fetch`, `refresh` | the request to the wrapped destination and its response; revalidation in the background |
//! | `policy`, `directives`, `vary` | what may be stored, for how long it is fresh, by what it was selected |
//! | `entry`, `store`, `purge`, `url` | stored responses, the memory for them, and how they are removed |
//! | `fill`, `collapsing` | bodies that are stored while they pass; requests for which others wait |
//! | `respond`, `status` | responses from what is stored, and what the client, the log and the metrics are told |
//!
//! Locks are held for one look or change of a map and never while a request waits. Bodies are shared by reference.

#![forbid(unsafe_code)]

mod ask;
mod collapsing;
mod destination;
mod directives;
mod entry;
mod fetch;
mod fill;
mod key;
mod policy;
mod purge;
mod refresh;
mod respond;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod url;
mod vary;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use http::HeaderName;
use witgate_config::model;
use witgate_exchange::destination::Destination;
use witgate_exchange::record::CacheResult;

use crate::collapsing::Collapsing;
use crate::destination::Cached;
use crate::fill::Budget;
use crate::key::{Key, KeyRules, Rights};
use crate::status::Counts;
use crate::store::Store;
pub use purge::Selector;

/// The share of the memory for bodies that are being stored.
const FILLING: usize = 4;

/// For how long requests do not wait for each other after a response that could not be stored, in seconds.
const UNCOLLAPSED_SECONDS: u64 = 10;

/// The upper half of a number.
const UPPER: u64 = 0xffff_ffff_0000_0000;

/// The number of slots for keys whose requests do not wait.
const UNCOLLAPSED_SLOTS: usize = 1 << 12;

/// The stored responses of all routes with a cache. It is kept through reloads.
#[derive(Debug)]
pub struct Cache {
    settings: model::Cache,
    store: Store,
    collapsing: Arc<Collapsing>,
    budget: Arc<Budget>,
    counts: Counts,
    begun: Instant,
    /// By the hash of a key, the keys whose requests do not wait for each other: the upper half of the hash, and the second
    /// from `begun` until which it is so. A key that takes the slot of another one only makes that one wait again.
    uncollapsed: Box<[AtomicU64]>,
}

impl Cache {
    /// An empty cache.
    pub fn new(settings: model::Cache) -> Arc<Cache> {
        let filling = settings.memory / FILLING;
        Arc::new(Cache {
            settings,
            store: Store::new(settings.memory - filling),
            collapsing: Arc::default(),
            budget: Budget::new(filling),
            counts: Counts::default(),
            begun: Instant::now(),
            uncollapsed: (0..UNCOLLAPSED_SLOTS).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> model::Cache {
        self.settings
    }

    /// Puts this cache in front of the destination of a route. `identity_headers` are the headers that tell upstreams about
    /// the identity of callers.
    pub fn wrap(
        self: &Arc<Self>,
        inner: Arc<dyn Destination>,
        settings: &model::RouteCache,
        identity_headers: &[HeaderName],
    ) -> Arc<dyn Destination> {
        Arc::new(Cached {
            cache: Arc::clone(self),
            inner,
            rules: Arc::new(KeyRules::new(settings, identity_headers)),
            settings: Arc::new(settings.clone()),
        })
    }

    /// Removes the responses that a selector means or, if `soft`, makes them stale, so that they are revalidated before
    /// they are used, and used for as long as they may be if the upstream fails. Returns how many these were. Responses that
    /// were asked for before and come later are not stored. It takes time, so it must not run on a core.
    pub fn purge(&self, selector: Selector, soft: bool) -> usize {
        self.store.purge(selector, soft)
    }

    /// The stored responses of a selector, `most` of them. It must not run on a core.
    pub fn list(&self, selector: &Selector, most: usize) -> Vec<Stored> {
        let (now, mut found) = (Instant::now(), Vec::new());
        self.store.for_each(|entry| {
            if found.len() < most && selector.means(entry) {
                found.push(Stored {
                    url: entry.url.to_string(),
                    status: entry.status.as_u16(),
                    bytes: entry.size(),
                    age_seconds: entry.age(now).as_secs(),
                    fresh_seconds: entry.freshness(now).map_or(0, |left| left.as_secs()),
                    tags: entry.tags.clone(),
                });
            }
        });
        found
    }

    /// What is in use, and what the cache did so far.
    pub fn usage(&self) -> Usage {
        let (resources, bytes) = self.store.size();
        Usage {
            memory: self.settings.memory,
            resources,
            bytes: bytes as usize,
            filling_bytes: self.budget.used(),
            results: CacheResult::ALL.map(|result| (result, self.counts.of(result))),
        }
    }

    /// Whether the requests under a key and with these rights wait for each other.
    fn collapses(&self, key: &Key, rights: Rights) -> bool {
        let (slot, mark) = self.slot(key, rights);
        let noted = slot.load(Ordering::Relaxed);
        noted & UPPER != mark || noted & !UPPER <= self.begun.elapsed().as_secs()
    }

    /// Notes that the response to a request could not be stored, so that others do not wait for the next one.
    fn note_unstored(&self, key: &Key, rights: Rights) {
        let (slot, mark) = self.slot(key, rights);
        slot.store(mark | (self.begun.elapsed().as_secs() + UNCOLLAPSED_SECONDS) & !UPPER, Ordering::Relaxed);
    }

    /// Notes that the response to a request was stored.
    fn note_stored(&self, key: &Key, rights: Rights) {
        let (slot, mark) = self.slot(key, rights);
        let _ = slot
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |noted| (noted & UPPER == mark).then_some(0));
    }

    /// The slot of a key, and what marks it as that of this key.
    fn slot(&self, key: &Key, rights: Rights) -> (&AtomicU64, u64) {
        let hash = self.store.hash(key) ^ if rights == Rights::Restricted { UPPER } else { 0 };
        (&self.uncollapsed[hash as usize % UNCOLLAPSED_SLOTS], hash & UPPER)
    }
}

/// What of a cache is in use, and what it did so far.
#[derive(Debug, Clone)]
pub struct Usage {
    /// Bytes that it may use.
    pub memory: usize,
    /// The number of keys under which responses are stored.
    pub resources: usize,
    /// Bytes of stored responses.
    pub bytes: usize,
    /// Bytes reserved for responses that are being stored.
    pub filling_bytes: usize,
    /// How often each result was.
    pub results: [(CacheResult, u64); CacheResult::ALL.len()],
}

/// A stored response, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// The URL as clients ask for it.
    pub url: String,
    /// The status.
    pub status: u16,
    /// Bytes of memory.
    pub bytes: usize,
    /// Its age in seconds.
    pub age_seconds: u64,
    /// For how many seconds it is still fresh; 0 if it is stale.
    pub fresh_seconds: u64,
    /// Its tags.
    pub tags: Vec<String>,
}
