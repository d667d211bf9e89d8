//! The store of one plugin in memory, shared by all cores.

use std::collections::hash_map::{Entry, RandomState};
use std::collections::{BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::store::{KeyStore, PAGE, Page, RemovedPage, StoreError, StoreResult};

/// Number of parts with a lock each, so that cores rarely contend for a lock.
const SHARDS: usize = 64;

/// Bytes that an entry counts for in addition to its key and value.
const ENTRY: usize = 128;

/// Keys of one plugin in this process. Carried over every reload.
pub struct MemoryKeys {
    hasher: RandomState,
    shards: Vec<Mutex<Shard>>,
    used: AtomicUsize,
    budget: AtomicUsize,
}

/// Space and key in one string of bytes. The length of the space comes first, so that different pairs never have
/// the same name.
type Name = Arc<[u8]>;

#[derive(Default)]
struct Shard {
    entries: HashMap<Name, StoredValue>,
    /// The entries with a time to live, the earliest expiry first, so that expired ones are found without a
    /// search.
    expiring: BTreeSet<(Instant, Name)>,
}

struct StoredValue {
    value: Vec<u8>,
    expires: Option<Instant>,
}

impl MemoryKeys {
    /// An empty store with a budget in bytes.
    pub fn new(budget: usize) -> Self {
        MemoryKeys {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            used: AtomicUsize::new(0),
            budget: AtomicUsize::new(budget),
        }
    }

    /// Changes the budget. Existing entries stay until they expire or are removed.
    pub fn set_budget(&self, budget: usize) {
        self.budget.store(budget, Ordering::Relaxed);
    }

    fn shard(&self, name: &[u8]) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(name);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        self.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves bytes, dropping expired entries if necessary.
    fn reserve(&self, bytes: usize) -> Result<(), StoreError> {
        if self.take_room(bytes) {
            return Ok(());
        }
        let now = Instant::now();
        for shard in &self.shards {
            let freed = shard.lock().unwrap_or_else(PoisonError::into_inner).drop_expired(now);
            self.used.fetch_sub(freed, Ordering::Relaxed);
        }
        if self.take_room(bytes) { Ok(()) } else { Err(StoreError::Full) }
    }

    fn take_room(&self, bytes: usize) -> bool {
        let budget = self.budget.load(Ordering::Relaxed);
        let taken = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= budget)
        });
        taken.is_ok()
    }

    /// Changes one entry atomically. `decide` gets the current value and returns the change, or `None` to leave
    /// it.
    fn change<T>(
        &self,
        name: &Name,
        room: usize,
        decide: impl FnOnce(Option<&StoredValue>) -> Result<(T, Option<Change>), StoreError>,
    ) -> Result<T, StoreError> {
        // The bytes are reserved before the shard is locked, because reserving locks all shards one by one.
        self.reserve(room)?;
        let mut shard = self.shard(name);
        let freed = shard.drop_expired(Instant::now());
        let decided = decide(shard.entries.get(name));
        let given_back = match decided {
            Ok((answer, Some(Change::Write(kept)))) => {
                let taken = cost(name, &kept.value);
                let released = shard.write(name, kept);
                Ok((answer, (room + released).saturating_sub(taken), taken.saturating_sub(room + released)))
            }
            Ok((answer, Some(Change::Remove))) => Ok((answer, room + shard.remove(name), 0)),
            Ok((answer, None)) => Ok((answer, room, 0)),
            Err(error) => Err(error),
        };
        drop(shard);
        let (back, more) = given_back.as_ref().map_or((room, 0), |(_, back, more)| (*back, *more));
        self.used.fetch_add(more, Ordering::Relaxed);
        self.used.fetch_sub(back + freed, Ordering::Relaxed);
        given_back.map(|(answer, _, _)| answer)
    }
}

/// A change of an entry.
enum Change {
    Write(StoredValue),
    Remove,
}

impl Shard {
    fn drop_expired(&mut self, now: Instant) -> usize {
        let mut freed = 0;
        while self.expiring.first().is_some_and(|(expires, _)| *expires <= now) {
            let Some((_, name)) = self.expiring.pop_first() else { break };
            if let Some(kept) = self.entries.remove(&name) {
                freed += cost(&name, &kept.value);
            }
        }
        freed
    }

    /// Writes an entry; returns the bytes of the entry that it replaces.
    fn write(&mut self, name: &Name, kept: StoredValue) -> usize {
        let released = self.remove(name);
        if let Some(expires) = kept.expires {
            self.expiring.insert((expires, Arc::clone(name)));
        }
        self.entries.insert(Arc::clone(name), kept);
        released
    }

    /// Removes an entry; returns its bytes.
    fn remove(&mut self, name: &Name) -> usize {
        let Entry::Occupied(entry) = self.entries.entry(Arc::clone(name)) else { return 0 };
        let kept = entry.remove();
        if let Some(expires) = kept.expires {
            self.expiring.remove(&(expires, Arc::clone(name)));
        }
        cost(name, &kept.value)
    }
}

fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + ENTRY
}

fn name(space: &str, key: &str) -> Name {
    let mut name = Vec::with_capacity(space.len() + key.len() + size_of::<u64>());
    name.extend_from_slice(&(space.len() as u64).to_le_bytes());
    name.extend_from_slice(space.as_bytes());
    name.extend_from_slice(key.as_bytes());
    name.into()
}

/// When a time to live ends; `None` if that is too far in the future to be represented.
fn expiry(ttl: Option<Duration>) -> Option<Instant> {
    ttl.and_then(|ttl| Instant::now().checked_add(ttl))
}

impl KeyStore for MemoryKeys {
    fn waits(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> Option<usize> {
        Some(self.used.load(Ordering::Relaxed))
    }

    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>> {
        let name = name(space, key);
        let shard = self.shard(&name);
        let kept = shard.entries.get(&name);
        let alive = kept.filter(|kept| kept.expires.is_none_or(|expires| expires > Instant::now()));
        MaybeReady::over(Ok(alive.map(|kept| kept.value.clone())))
    }

    fn set<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, ()> {
        let name = name(space, key);
        let room = cost(&name, &value);
        MaybeReady::over(self.change(&name, room, |_| {
            Ok(((), Some(Change::Write(StoredValue { value, expires: expiry(ttl) }))))
        }))
    }

    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool> {
        let remove = |kept: Option<&StoredValue>| Ok((kept.is_some(), Some(Change::Remove)));
        MaybeReady::over(self.change(&name(space, key), 0, remove))
    }

    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64> {
        let name = name(space, key);
        // 20 bytes are the longest decimal text of a 64-bit number.
        let room = name.len() + 20 + ENTRY;
        MaybeReady::over(self.change(&name, room, |kept| {
            let present = match kept {
                Some(kept) => number(&kept.value).ok_or(StoreError::NotANumber)?,
                None => 0,
            };
            let sum = present.checked_add(by).ok_or(StoreError::NotANumber)?;
            let expires = kept.map_or_else(|| expiry(ttl), |kept| kept.expires);
            Ok((sum, Some(Change::Write(StoredValue { value: sum.to_string().into_bytes(), expires }))))
        }))
    }

    fn compare_and_swap<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, bool> {
        let name = name(space, key);
        let room = new.as_ref().map_or(0, |value| cost(&name, value));
        MaybeReady::over(self.change(&name, room, |kept| {
            if kept.map(|kept| kept.value.as_slice()) != expected.as_deref() {
                return Ok((false, None));
            }
            let change = match new {
                Some(value) => Change::Write(StoredValue { value, expires: expiry(ttl) }),
                None => Change::Remove,
            };
            Ok((true, Some(change)))
        }))
    }

    fn list<'a>(&'a self, space: &'a str, prefix: &'a str, after: Option<String>) -> StoreResult<'a, Page> {
        let (names, next) = self.page(space, prefix, after.as_deref());
        MaybeReady::over(Ok(Page { keys: names.iter().map(|name| key_of(space, name)).collect(), next }))
    }

    fn remove_page<'a>(
        &'a self,
        space: &'a str,
        prefix: &'a str,
        after: Option<String>,
    ) -> StoreResult<'a, RemovedPage> {
        let (names, next) = self.page(space, prefix, after.as_deref());
        let mut removed = 0;
        for name in &names {
            let remove = |kept: Option<&StoredValue>| Ok((kept.is_some(), Some(Change::Remove)));
            removed += usize::from(self.change(name, 0, remove).unwrap_or_default());
        }
        MaybeReady::over(Ok(RemovedPage { removed, next }))
    }
}

impl MemoryKeys {
    /// The names of one page, of one shard. No order is kept beside the entries, because most stores are never listed:
    /// each page looks through its whole shard.
    fn page(&self, space: &str, prefix: &str, after: Option<&str>) -> (Vec<Name>, Option<String>) {
        let (shard, last) = after.and_then(|after| after.split_once('.')).unwrap_or(("0", ""));
        let Some(index) = shard.parse().ok().filter(|index: &usize| *index < SHARDS) else {
            return (Vec::new(), None);
        };
        let (wanted, after) = (name(space, prefix), name(space, last));
        let now = Instant::now();
        let shard = self.shards[index].lock().unwrap_or_else(PoisonError::into_inner);
        let alive = |kept: &StoredValue| kept.expires.is_none_or(|expires| expires > now);
        let found = shard.entries.iter().filter(|(name, kept)| {
            name.starts_with(&wanted) && (last.is_empty() || **name > after) && alive(kept)
        });
        let mut found: Vec<Name> = found.map(|(name, _)| Arc::clone(name)).collect();
        drop(shard);
        found.sort_unstable();
        let is_more = found.len() > PAGE;
        found.truncate(PAGE);
        let next = match found.last().filter(|_| is_more) {
            Some(last) => Some(format!("{index}.{}", key_of(space, last))),
            None => (index + 1 < SHARDS).then(|| format!("{}.", index + 1)),
        };
        (found, next)
    }
}

/// The key in a name of this space.
fn key_of(space: &str, name: &[u8]) -> String {
    String::from_utf8_lossy(&name[size_of::<u64>() + space.len()..]).into_owned()
}

fn number(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result of a store in memory, which is ready at once.
    fn now<T>(result: StoreResult<'_, T>) -> Result<T, StoreError> {
        result.at_once().expect("nothing is waited for")
    }

    const LONG: Option<Duration> = Some(Duration::from_secs(3600));

    #[test]
    fn spaces_and_keys_do_not_run_together() {
        let keys = MemoryKeys::new(1 << 20);
        now(keys.set("ab", "c", b"1".to_vec(), None)).unwrap();
        assert_eq!(now(keys.get("a", "bc")), Ok(None));
        assert_eq!(now(keys.get("ab", "c")), Ok(Some(b"1".to_vec())));
    }

    #[test]
    fn what_has_expired_is_gone_and_makes_room() {
        let keys = MemoryKeys::new(400);
        now(keys.set("s", "old", vec![0; 100], Some(Duration::ZERO))).unwrap();
        assert_eq!(now(keys.get("s", "old")), Ok(None));
        now(keys.set("s", "new", vec![0; 200], LONG)).unwrap();
        assert_eq!(now(keys.set("s", "more", vec![0; 200], None)), Err(StoreError::Full));
        assert_eq!(now(keys.remove("s", "new")), Ok(true));
        now(keys.set("s", "more", vec![0; 200], None)).unwrap();
    }

    #[test]
    fn every_byte_is_given_back() {
        let keys = MemoryKeys::new(1 << 20);
        for index in 0..100 {
            let key = format!("key-{index}");
            now(keys.set("s", &key, vec![1; index], LONG)).unwrap();
            now(keys.set("s", &key, vec![2; 100 - index], None)).unwrap();
            now(keys.increment("s", "count", 1, LONG)).unwrap();
            now(keys.compare_and_swap("s", &key, Some(vec![2; 100 - index]), Some(vec![3; 7]), LONG))
                .unwrap();
            assert_eq!(now(keys.compare_and_swap("s", &key, None, Some(vec![4; 7]), None)), Ok(false));
        }
        for index in 0..100 {
            assert_eq!(now(keys.remove("s", &format!("key-{index}"))), Ok(true));
        }
        assert_eq!(now(keys.remove("s", "count")), Ok(true));
        assert_eq!(keys.held_bytes(), Some(0));
    }

    #[test]
    fn counters_do_not_lose_a_step_between_threads() {
        let keys = MemoryKeys::new(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    (0..1000).for_each(|_| assert!(now(keys.increment("s", "n", 1, None)).is_ok()))
                });
            }
        });
        assert_eq!(now(keys.increment("s", "n", 0, None)), Ok(4000));
        now(keys.set("s", "n", b"many".to_vec(), None)).unwrap();
        assert_eq!(now(keys.increment("s", "n", 1, None)), Err(StoreError::NotANumber));
        now(keys.set("s", "n", i64::MAX.to_string().into_bytes(), None)).unwrap();
        assert_eq!(now(keys.increment("s", "n", 1, None)), Err(StoreError::NotANumber));
    }
}
