//! The counter and the stores: they send operations to the thread and wait for the results.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redb::StorageError;
use tokio::sync::oneshot;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::counter::{BucketStates, Counter, Draw, Settlement, Unavailable};
use witgate_exchange::contracts::store::{KeyStore, PAGE, Page, RemovedPage, StoreError, StoreResult};

use super::database::{Changes, StoreKey, StoredValue, milliseconds};
use super::worker::{Job, Worker};

/// Counts draws in the file.
pub(super) struct FileCounter {
    worker: Arc<Worker>,
}

impl FileCounter {
    pub(super) fn new(worker: Arc<Worker>) -> FileCounter {
        FileCounter { worker }
    }
}

impl Counter for FileCounter {
    fn charge<'a>(&'a self, draws: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
        MaybeReady::waiting(async move {
            let draws = draws.to_vec();
            let charged =
                run(&self.worker, move |changes, _| changes.charge(&draws)).await.ok_or(Unavailable)?;
            Ok(match <[_; 1]>::try_from(charged) {
                Ok([one]) => BucketStates::One(one),
                Err(several) => BucketStates::Several(several),
            })
        })
    }

    fn settle(&self, settled: Vec<Settlement>) {
        // Nobody waits for the result.
        let (reply, _unheard) = oneshot::channel();
        let act = move |changes: &mut Changes<'_>, _: usize| changes.settle(&settled);
        self.worker.send(Box::new(Operation { act: Some(act), result: None, reply }));
    }
}

/// The keys of one plugin in the file.
pub(super) struct FileKeys {
    worker: Arc<Worker>,
    plugin: Arc<str>,
    budget: AtomicUsize,
}

impl FileKeys {
    pub(super) fn new(worker: Arc<Worker>, plugin: &str, budget: AtomicUsize) -> FileKeys {
        FileKeys { worker, plugin: plugin.into(), budget }
    }

    pub(super) fn plugin(&self) -> &str {
        &self.plugin
    }

    pub(super) fn set_budget(&self, bytes: usize) {
        self.budget.store(bytes, Ordering::Relaxed);
    }

    /// Changes one entry atomically. `decide` gets the present value and returns the result and the change.
    fn change<'a, T: Send + 'static>(
        &'a self,
        space: &str,
        key: &str,
        decide: impl FnOnce(Option<StoredValue>) -> Result<(T, Change), StoreError> + Send + 'static,
    ) -> StoreResult<'a, T> {
        let (plugin, name) = (Arc::clone(&self.plugin), name(space, key));
        let budget = self.budget.load(Ordering::Relaxed);
        MaybeReady::waiting(async move {
            let act = move |changes: &mut Changes<'_>, size: usize| {
                let place = StoreKey { plugin: &plugin, name: &name, budget, size };
                let (answer, change) = match decide(changes.get(&place)?) {
                    Ok(decided) => decided,
                    Err(error) => return Ok(Err(error)),
                };
                let changed = match change {
                    Change::Nothing => Ok(()),
                    Change::Write(StoredValue { value, ends }) if ends > milliseconds() => {
                        changes.write(&place, &value, ends)?
                    }
                    // A value with a time to live of zero has expired at once.
                    Change::Write(_) | Change::Remove => changes.remove(&place).map(Ok)?,
                };
                Ok(changed.map(|()| answer))
            };
            run(&self.worker, act).await.unwrap_or(Err(StoreError::Unavailable))
        })
    }
}

impl FileKeys {
    /// Does something with the names of one page, in one transaction.
    fn on_page<'a, T: Send + 'static>(
        &'a self,
        space: &str,
        prefix: &str,
        after: Option<&str>,
        act: impl FnOnce(&mut Changes<'_>, Vec<Vec<u8>>, Option<String>) -> Result<T, StorageError>
        + Send
        + 'static,
    ) -> StoreResult<'a, T> {
        let plugin = Arc::clone(&self.plugin);
        let (begin, after) = (name(space, prefix), after.map(|after| name(space, after)));
        let space_length = space.len();
        MaybeReady::waiting(async move {
            let act = move |changes: &mut Changes<'_>, _: usize| {
                let (names, last) = changes.list(&plugin, &begin, after.as_deref(), PAGE)?;
                let next = last.map(|last| key_of(space_length, &last));
                act(changes, names, next)
            };
            run(&self.worker, act).await.ok_or(StoreError::Unavailable)
        })
    }
}

/// A change of an entry.
enum Change {
    Nothing,
    Write(StoredValue),
    Remove,
}

/// Space and key in one string of bytes. The length of the space comes first, so that different pairs never have
/// the same name.
fn name(space: &str, key: &str) -> Vec<u8> {
    let length = (space.len() as u64).to_be_bytes();
    [&length[..], space.as_bytes(), key.as_bytes()].concat()
}

/// The time at which a time to live ends that begins now, in milliseconds since 1970.
fn ends(ttl: Option<Duration>) -> u64 {
    let milliseconds = |ttl: Duration| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    ttl.map_or(u64::MAX, |ttl| self::milliseconds().saturating_add(milliseconds(ttl)))
}

impl KeyStore for FileKeys {
    fn waits(&self) -> bool {
        true
    }

    fn held_bytes(&self) -> Option<usize> {
        Some(self.worker.used(&self.plugin))
    }

    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>> {
        self.change(space, key, |held| Ok((held.map(|held| held.value), Change::Nothing)))
    }

    fn set<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, ()> {
        self.change(space, key, move |_| Ok(((), Change::Write(StoredValue { value, ends: ends(ttl) }))))
    }

    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool> {
        self.change(space, key, |held| Ok((held.is_some(), Change::Remove)))
    }

    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64> {
        self.change(space, key, move |held| {
            let number = |held: &StoredValue| std::str::from_utf8(&held.value).ok()?.parse::<i64>().ok();
            let present = held.as_ref().map_or(Some(0), number);
            let sum = present.and_then(|present| present.checked_add(by)).ok_or(StoreError::NotANumber)?;
            let ends = held.map_or_else(|| ends(ttl), |held| held.ends);
            Ok((sum, Change::Write(StoredValue { value: sum.to_string().into_bytes(), ends })))
        })
    }

    fn compare_and_swap<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, bool> {
        self.change(space, key, move |held| {
            if held.map(|held| held.value) != expected {
                return Ok((false, Change::Nothing));
            }
            let change =
                new.map_or(Change::Remove, |value| Change::Write(StoredValue { value, ends: ends(ttl) }));
            Ok((true, change))
        })
    }

    fn list<'a>(&'a self, space: &'a str, prefix: &'a str, after: Option<String>) -> StoreResult<'a, Page> {
        let space_length = space.len();
        self.on_page(space, prefix, after.as_deref(), move |_, names, next| {
            let key = |name: &Vec<u8>| key_of(space_length, name);
            Ok(Page { keys: names.iter().map(key).collect(), next })
        })
    }

    fn remove_page<'a>(
        &'a self,
        space: &'a str,
        prefix: &'a str,
        after: Option<String>,
    ) -> StoreResult<'a, RemovedPage> {
        let plugin = Arc::clone(&self.plugin);
        self.on_page(space, prefix, after.as_deref(), move |changes, names, next| {
            for name in &names {
                changes.remove(&StoreKey { plugin: &plugin, name, budget: 0, size: 0 })?;
            }
            Ok(RemovedPage { removed: names.len(), next })
        })
    }
}

/// The key in a name whose space has this length.
fn key_of(space_length: usize, name: &[u8]) -> String {
    String::from_utf8_lossy(&name[size_of::<u64>() + space_length..]).into_owned()
}

/// Runs an operation on the thread and waits for its result. `None` if the file cannot be used or the thread has
/// too many operations waiting.
async fn run<T, F>(worker: &Worker, act: F) -> Option<T>
where
    T: Send + 'static,
    F: FnOnce(&mut Changes<'_>, usize) -> Result<T, StorageError> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    worker.send(Box::new(Operation { act: Some(act), result: None, reply }));
    answer.await.ok()
}

/// An operation, and the sender of its result.
struct Operation<T, F> {
    act: Option<F>,
    result: Option<T>,
    reply: oneshot::Sender<T>,
}

impl<T, F> Job for Operation<T, F>
where
    T: Send,
    F: FnOnce(&mut Changes<'_>, usize) -> Result<T, StorageError> + Send,
{
    fn act(&mut self, changes: &mut Changes<'_>, size: usize) -> Result<(), StorageError> {
        if let Some(act) = self.act.take() {
            self.result = Some(act(changes, size)?);
        }
        Ok(())
    }

    fn answer(self: Box<Self>, is_on_disk: bool) {
        // The receiver may be gone. Dropping the sender without sending means that there is no result.
        if let Some(result) = self.result.filter(|_| is_on_disk) {
            let _unheard = self.reply.send(result);
        }
    }
}
