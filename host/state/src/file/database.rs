//! The tables of the file, and how one transaction changes them.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Bound;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use redb::{Database, ReadableTable, StorageError, Table, TableDefinition, WriteTransaction};
use witgate_exchange::contracts::counter::{BucketState, Draw, Settlement};
use witgate_exchange::contracts::store::StoreError;

/// Nanoseconds since 1970 at which each bucket will be full again.
const BUCKETS: TableDefinition<'static, u128, u64> = TableDefinition::new("buckets");

/// A plugin, and the name of a value.
type ValueKey = (&'static str, &'static [u8]);

/// The time at which a value expires, in milliseconds since 1970, and the value.
type TimedValue = (u64, &'static [u8]);

/// The values of all plugins.
const VALUES: TableDefinition<'static, ValueKey, TimedValue> = TableDefinition::new("values");

/// The values that expire, ordered by time, so that expired ones are found without a search.
const EXPIRIES: TableDefinition<'static, (u64, &str, &[u8]), ()> = TableDefinition::new("expiries");

/// The most buckets that are stored.
const MOST_BUCKETS: u64 = 100_000;

/// Bytes that a value counts for in addition to its name and content.
const OVERHEAD: usize = 128;

/// The most expired values that one operation removes.
const SWEEP: usize = 1000;

/// Bytes of the page cache.
const CACHE: usize = 8 << 20;

/// The open file, with sums that are computed when it is opened.
pub(super) struct Store {
    database: Database,
    books: Books,
}

/// Sums over the content of the file.
#[derive(Default, Clone)]
pub(super) struct Books {
    /// Bytes that the values of each plugin count for.
    used: HashMap<String, usize>,
    /// Number of buckets.
    buckets: u64,
    /// Time of the last search for full buckets, in nanoseconds since 1970.
    swept: u64,
}

impl Books {
    fn total(&self) -> usize {
        self.used.values().sum()
    }
}

impl Store {
    /// Opens the database in a file, and repairs it after a crash.
    ///
    /// # Errors
    /// Another process has the file open, it is damaged, or the disk fails.
    pub(super) fn open(file: File) -> Result<Store, redb::Error> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        let database = builder.create_with_backend(redb::backends::FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        let mut books = Books::default();
        {
            let buckets = transaction.open_table(BUCKETS)?;
            books.buckets = redb::ReadableTableMetadata::len(&buckets)?;
            for entry in transaction.open_table(VALUES)?.iter()? {
                let (key, value) = entry?;
                let (plugin, name) = key.value();
                *books.used.entry(plugin.to_owned()).or_default() += cost(name, value.value().1);
            }
            transaction.open_table(EXPIRIES)?;
        }
        transaction.commit()?;
        Ok(Store { database, books })
    }

    /// Runs some operations in one transaction. When this returns, their changes are on the disk. If it fails,
    /// nothing is changed.
    ///
    /// # Errors
    /// The disk fails.
    pub(super) fn transact(
        &mut self,
        act: impl FnOnce(&mut Changes<'_>) -> Result<(), StorageError>,
    ) -> Result<(), redb::Error> {
        let transaction = self.database.begin_write()?;
        let mut books = self.books.clone();
        let changed = {
            let mut changes = Changes::open(&transaction, &mut books)?;
            act(&mut changes)?;
            changes.changed
        };
        // A transaction that only reads needs no write to the disk.
        if changed {
            transaction.commit()?
        } else {
            transaction.abort()?
        }
        self.books = books;
        Ok(())
    }

    /// Copies the bytes that the values of each plugin count for.
    pub(super) fn copy_used(&self, target: &mut HashMap<String, usize>) {
        target.clone_from(&self.books.used);
    }
}

/// Names of values, and the last name that was read if there may be more.
pub(super) type NamesPage = (Vec<Vec<u8>>, Option<Vec<u8>>);

/// A transaction in progress.
pub(super) struct Changes<'t> {
    buckets: Table<'t, u128, u64>,
    values: Table<'t, ValueKey, TimedValue>,
    expiries: Table<'t, (u64, &'static str, &'static [u8]), ()>,
    books: &'t mut Books,
    changed: bool,
}

/// An existing value.
pub(super) struct StoredValue {
    pub(super) value: Vec<u8>,
    /// The time at which it expires, in milliseconds since 1970. The largest number means never.
    pub(super) ends: u64,
}

/// The key of a value in the table, and the limits that apply to it.
pub(super) struct StoreKey<'p> {
    pub(super) plugin: &'p str,
    pub(super) name: &'p [u8],
    /// The most bytes of the plugin.
    pub(super) budget: usize,
    /// The most bytes of all plugins.
    pub(super) size: usize,
}

impl<'t> Changes<'t> {
    fn open(transaction: &'t WriteTransaction, books: &'t mut Books) -> Result<Changes<'t>, redb::Error> {
        Ok(Changes {
            buckets: transaction.open_table(BUCKETS)?,
            values: transaction.open_table(VALUES)?,
            expiries: transaction.open_table(EXPIRIES)?,
            books,
            changed: false,
        })
    }

    /// Charges all draws, or none if one is over its limit.
    pub(super) fn charge(&mut self, draws: &[Draw]) -> Result<Vec<BucketState>, StorageError> {
        let now = nanoseconds();
        // The new states of buckets, because the same bucket may be drawn on twice.
        let mut becomes: Vec<(u128, u64)> = Vec::with_capacity(draws.len());
        let mut tried = Vec::with_capacity(draws.len());
        for draw in draws {
            let bucket = self.bucket_of(draw, now)?;
            let before = match becomes.iter().rev().find(|(other, _)| *other == bucket) {
                Some((_, full)) => *full,
                None => self.buckets.get(bucket)?.map_or(0, |full| full.value()),
            };
            // A bucket cannot owe more than this. It seems to if the limit was lowered or the clock was set back.
            let full = before.min(draw.rate.latest(now));
            let after = draw.rate.charge(full, now, draw.cost);
            if let Some(after) = after.filter(|_| draw.cost > 0) {
                becomes.push((bucket, after));
            }
            tried.push((full, after));
        }
        let refused = tried.iter().any(|(_, after)| after.is_none());
        if !refused {
            for (bucket, full) in becomes {
                self.changed = true;
                self.books.buckets += u64::from(self.buckets.insert(bucket, full)?.is_none());
            }
        }
        let state = |(draw, (full, after)): (&Draw, &(u64, Option<u64>))| {
            let shown = if refused { *full } else { after.unwrap_or(*full) };
            draw.rate.state(shown, now, draw.cost, after.is_some())
        };
        Ok(draws.iter().zip(&tried).map(state).collect())
    }

    /// Settles draws that were charged before.
    pub(super) fn settle(&mut self, settled: &[Settlement]) -> Result<(), StorageError> {
        let now = nanoseconds();
        for Settlement { bucket, policy, rate, change } in settled.iter().copied() {
            let bucket = self.bucket_of(&Draw { bucket, policy, cost: 0, rate }, now)?;
            let before = self.buckets.get(bucket)?.map_or(0, |full| full.value());
            let full = rate.settle(before, now, change);
            if full != before {
                self.changed = true;
                self.books.buckets += u64::from(self.buckets.insert(bucket, full)?.is_none());
            }
        }
        Ok(())
    }

    /// The bucket in which a draw is counted. It is the draw's own bucket or, if there are too many buckets, one
    /// that all new buckets of the policy share, so that a flood of keys neither fills the disk nor lifts a limit.
    fn bucket_of(&mut self, draw: &Draw, now: u64) -> Result<u128, StorageError> {
        if self.books.buckets < MOST_BUCKETS || self.buckets.get(draw.bucket)?.is_some() {
            return Ok(draw.bucket);
        }
        let second = 1_000_000_000;
        if self.books.swept + second < now {
            self.forget_full_buckets(now)?;
            if self.books.buckets < MOST_BUCKETS {
                return Ok(draw.bucket);
            }
        }
        Ok(u128::from(draw.policy))
    }

    fn forget_full_buckets(&mut self, now: u64) -> Result<(), StorageError> {
        self.books.swept = now;
        let before = self.books.buckets;
        self.buckets.retain(|_, full| full > now)?;
        self.books.buckets = redb::ReadableTableMetadata::len(&self.buckets)?;
        self.changed |= self.books.buckets != before;
        Ok(())
    }

    /// Removes buckets that are full again, and expired values.
    pub(super) fn sweep(&mut self) -> Result<(), StorageError> {
        self.forget_full_buckets(nanoseconds())?;
        self.forget_ended()
    }

    fn forget_ended(&mut self) -> Result<(), StorageError> {
        let now = milliseconds();
        for _ in 0..SWEEP {
            let ended = match self.expiries.first()? {
                Some((key, _)) if key.value().0 <= now => {
                    let (ends, plugin, name) = key.value();
                    (ends, plugin.to_owned(), name.to_owned())
                }
                _ => break,
            };
            self.expiries.remove((ended.0, ended.1.as_str(), ended.2.as_slice()))?;
            self.take(&ended.1, &ended.2)?;
            self.changed = true;
        }
        Ok(())
    }

    /// The value with this name, unless it has expired.
    pub(super) fn get(&self, place: &StoreKey<'_>) -> Result<Option<StoredValue>, StorageError> {
        let held = self.values.get((place.plugin, place.name))?;
        let now = milliseconds();
        Ok(held.and_then(|held| {
            let (ends, value) = held.value();
            (ends > now).then(|| StoredValue { value: value.to_vec(), ends })
        }))
    }

    /// The names of values of a plugin that begin with `prefix` and come after another name, at most so many. Reads at
    /// most that number of values, expired ones included; returns the last name that was read if there may be more.
    pub(super) fn list(
        &self,
        plugin: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        most: usize,
    ) -> Result<NamesPage, StorageError> {
        let begin = match after {
            Some(after) => Bound::Excluded((plugin, after)),
            None => Bound::Included((plugin, prefix)),
        };
        let (now, mut names) = (milliseconds(), Vec::new());
        let mut last = None;
        for (read, entry) in self.values.range::<(&str, &[u8])>((begin, Bound::Unbounded))?.enumerate() {
            if read == most {
                return Ok((names, last));
            }
            let (key, value) = entry?;
            let (owner, name) = key.value();
            if owner != plugin || !name.starts_with(prefix) {
                break;
            }
            if value.value().0 > now {
                names.push(name.to_vec());
            }
            last = Some(name.to_vec());
        }
        Ok((names, None))
    }

    /// Writes a value.
    pub(super) fn write(
        &mut self,
        place: &StoreKey<'_>,
        value: &[u8],
        ends: u64,
    ) -> Result<Result<(), StoreError>, StorageError> {
        let cost = cost(place.name, value);
        let present = self
            .values
            .get((place.plugin, place.name))?
            .map_or(0, |held| self::cost(place.name, held.value().1));
        let fits = |books: &Books, present: usize| {
            let used = books.used.get(place.plugin).copied().unwrap_or_default();
            used - present + cost <= place.budget && books.total() - present + cost <= place.size
        };
        let mut fit = fits(self.books, present);
        if !fit {
            self.forget_ended()?;
            let present = self
                .values
                .get((place.plugin, place.name))?
                .map_or(0, |held| self::cost(place.name, held.value().1));
            fit = fits(self.books, present);
        }
        if !fit {
            return Ok(Err(StoreError::Full));
        }
        self.remove(place)?;
        self.values.insert((place.plugin, place.name), (ends, value))?;
        if ends != u64::MAX {
            self.expiries.insert((ends, place.plugin, place.name), ())?;
        }
        *self.books.used.entry(place.plugin.to_owned()).or_default() += cost;
        self.changed = true;
        Ok(Ok(()))
    }

    /// Removes a value, expired or not.
    pub(super) fn remove(&mut self, place: &StoreKey<'_>) -> Result<(), StorageError> {
        if let Some(ends) = self.take(place.plugin, place.name)? {
            self.expiries.remove((ends, place.plugin, place.name))?;
            self.changed = true;
        }
        Ok(())
    }

    /// Removes a value from its table and from the sums; returns when it expires.
    fn take(&mut self, plugin: &str, name: &[u8]) -> Result<Option<u64>, StorageError> {
        let Some(held) = self.values.remove((plugin, name))? else { return Ok(None) };
        let (ends, value) = held.value();
        if let Some(used) = self.books.used.get_mut(plugin) {
            *used = used.saturating_sub(cost(name, value));
        }
        Ok(Some(ends))
    }
}

fn cost(name: &[u8], value: &[u8]) -> usize {
    name.len() + value.len() + OVERHEAD
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn nanoseconds() -> u64 {
    u64::try_from(since_1970().as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX / 4)
}
