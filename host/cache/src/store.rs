//! The stored responses, in memory.
//!
//! Under one key there is a resource: the responses that differ by `Vary`. [`quick_cache`] keeps the resources in shards,
//! each with a lock that is held for one look or change, and evicts by weight. A resource that was used once gives way to one
//! that was used more often, so a scan does not evict what is in use.

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::quality::RandomState;
use http::HeaderMap;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::entry::Entry;
use crate::key::Key;
use crate::purge::{Purges, Selector};
use crate::url::Url;

/// The number of shards. The largest object is a thirty-second of the memory, so it fits into one.
const SHARDS: usize = 16;

/// The size of a response by which the number of responses is estimated.
const TYPICAL: usize = 8 * 1024;

/// The most responses under one key. A client that invents values of a header that `Vary` names fills no more.
const VARIANTS: usize = 64;

/// Memory of a resource in addition to its key and its responses.
const OVERHEAD: usize = 256;

/// The number of slots of [`Store::invalidated`].
const SLOTS: usize = 1 << 14;

/// The responses under one key, the latest first.
#[derive(Debug)]
struct Resource {
    variants: Vec<Arc<Entry>>,
    weight: usize,
}

impl Resource {
    fn of(variants: Vec<Arc<Entry>>) -> Arc<Resource> {
        let weight = variants.iter().map(|entry| entry.size()).sum();
        Arc::new(Resource { variants, weight })
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl Weighter<Key, Arc<Resource>> for ByBytes {
    fn weight(&self, key: &Key, resource: &Arc<Resource>) -> u64 {
        (key.size() + resource.weight + OVERHEAD) as u64
    }
}

/// All stored responses.
#[derive(Debug)]
pub(crate) struct Store {
    resources: Cache<Key, Arc<Resource>, ByBytes, RandomState>,
    hasher: RandomState,
    /// Held while the responses under a key are changed, so that no change is lost.
    changes: [Mutex<()>; SHARDS],
    purges: Purges,
    /// By the hash of a URL, the number of the last unsafe request that invalidated it. Two URLs may share a slot; then the
    /// other one is revalidated once more than necessary.
    invalidated: Box<[AtomicU64]>,
}

impl Store {
    /// A store of this many bytes.
    pub(crate) fn new(bytes: usize) -> Store {
        let items = (bytes / TYPICAL).max(SHARDS * 32);
        let options = OptionsBuilder::new()
            .shards(SHARDS)
            .estimated_items_capacity(items)
            .weight_capacity(bytes as u64)
            .hot_allocation(0.9)
            .build();
        let options = options.expect("items and bytes are given");
        Store {
            resources: Cache::with_options(
                options,
                ByBytes,
                RandomState::default(),
                DefaultLifecycle::default(),
            ),
            hasher: RandomState::default(),
            changes: Default::default(),
            purges: Purges::default(),
            invalidated: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The latest response under a key that a request with these headers selects, and whether other ones are there.
    pub(crate) fn find(&self, key: &Key, request: &HeaderMap) -> Found {
        let Some(resource) = self.resources.get(key) else { return Found::Nothing };
        let selected = resource.variants.iter().find(|entry| entry.selection.fits(request));
        selected.map_or(Found::Others, |entry| Found::Entry(Arc::clone(entry)))
    }

    /// Stores a response, in place of those that a request with these headers selected so far.
    pub(crate) fn insert(&self, key: &Key, request: &HeaderMap, entry: Arc<Entry>) {
        if self.purges.concern(&entry) {
            return;
        }
        let room = usize::try_from(self.resources.shard_capacity()).unwrap_or(usize::MAX) / 10 * 8;
        self.change(key, |variants| {
            variants.retain(|known| !known.selection.fits(request) && known.selection != entry.selection);
            variants.insert(0, Arc::clone(&entry));
            variants.truncate(VARIANTS);
            while variants.len() > 1 && variants.iter().map(|entry| entry.size()).sum::<usize>() > room {
                variants.pop();
            }
        });
        // A purge may have passed since the first look.
        if self.purges.concern(&entry) {
            self.remove(key, &entry);
        }
    }

    /// Removes a response.
    pub(crate) fn remove(&self, key: &Key, entry: &Arc<Entry>) {
        self.change(key, |variants| variants.retain(|known| !Arc::ptr_eq(known, entry)));
    }

    fn change(&self, key: &Key, change: impl FnOnce(&mut Vec<Arc<Entry>>)) {
        let index = self.hasher.hash_one(key) as usize % SHARDS;
        let before;
        {
            let _guard = self.changes[index].lock().unwrap_or_else(PoisonError::into_inner);
            before = self.resources.peek(key);
            let mut variants = before.as_ref().map_or_else(Vec::new, |resource| resource.variants.clone());
            change(&mut variants);
            if variants.is_empty() {
                self.resources.remove(key);
            } else {
                self.resources.insert(key.clone(), Resource::of(variants));
            }
        }
        // What is no longer stored is dropped outside of the lock.
        drop(before);
    }

    /// The hash of a key.
    pub(crate) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key)
    }

    /// The number that a request for a response gets: invalidations and purges with higher ones concern its response.
    pub(crate) fn asked(&self) -> u64 {
        self.purges.number()
    }

    /// Invalidates the responses of a URL: they must be validated before they are used again.
    pub(crate) fn invalidate(&self, url: &Url) {
        let number = self.purges.next();
        self.slot(url.hash()).fetch_max(number, Ordering::Relaxed);
    }

    /// Whether an unsafe request has invalidated a response since it was asked for.
    pub(crate) fn is_invalidated(&self, entry: &Entry) -> bool {
        entry.asked < self.slot(entry.url_hash).load(Ordering::Relaxed)
    }

    /// Whether a purge has removed a response, which may still be on its way here, since it was asked for.
    pub(crate) fn is_purged(&self, entry: &Entry) -> bool {
        self.purges.concern(entry)
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        &self.invalidated[hash as usize % SLOTS]
    }

    /// Removes what a selector means, or makes it stale if `soft`. Returns how many responses these were. It locks one shard
    /// after the other, and takes time: it must not run on a core.
    pub(crate) fn purge(&self, selector: Selector, soft: bool) -> usize {
        let selector = self.purges.add(selector, soft);
        let (mut count, removed) = (AtomicU64::new(0), RefCell::new(Vec::new()));
        self.resources.retain(|_, resource| {
            let mut concerned = resource.variants.iter().filter(|entry| selector.means(entry)).peekable();
            if concerned.peek().is_none() {
                return true;
            }
            let mut number = 0;
            concerned.for_each(|entry| {
                entry.make_stale();
                number += 1;
            });
            if soft {
                count.fetch_add(number, Ordering::Relaxed);
            } else {
                count.fetch_add(resource.variants.len() as u64, Ordering::Relaxed);
                // Dropped when no shard is locked any more.
                removed.borrow_mut().push(Arc::clone(resource));
            }
            soft
        });
        *count.get_mut() as usize
    }

    /// The number of keys, and the bytes in use.
    pub(crate) fn size(&self) -> (usize, u64) {
        (self.resources.len(), self.resources.weight())
    }

    /// Calls a function with every stored response. It must not run on a core.
    pub(crate) fn for_each(&self, mut look: impl FnMut(&Entry)) {
        for (_, resource) in self.resources.iter() {
            resource.variants.iter().for_each(|entry| look(entry));
        }
    }
}

/// What is stored under a key.
pub(crate) enum Found {
    /// No response.
    Nothing,
    /// Only responses that other requests select.
    Others,
    /// The response that the request selects.
    Entry(Arc<Entry>),
}
