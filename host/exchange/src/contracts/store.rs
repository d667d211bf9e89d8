//! The interface of the stores in which plugins keep keys.

use std::time::Duration;

use super::MaybeReady;

/// The keys of one plugin, in memory or in a store that several gateways share.
///
/// A function that waits runs on the core that called it and may be dropped at any await. Then it is unknown
/// whether the operation was carried out. The caller limits the time of each wait.
pub trait KeyStore: Send + Sync {
    /// Whether its functions may wait. If not, every result is ready at once. Read when a binding is made, because
    /// the instances of a binding that may wait run on stacks of their own.
    fn waits(&self) -> bool;

    /// The bytes in use, for metrics; `None` if that is not known on this machine.
    fn held_bytes(&self) -> Option<usize> {
        None
    }

    /// The value of a key.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be reached. Every other function can fail in this way too.
    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>>;

    /// Writes a value. With a `ttl`, the value expires after that time.
    ///
    /// # Errors
    /// `Full` if there is no room.
    fn set<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        value: Vec<u8>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, ()>;

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    /// As [`KeyStore::get`].
    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool>;

    /// Adds to a counter, which is stored as decimal text. `ttl` counts from the creation of the counter.
    ///
    /// # Errors
    /// `NotANumber` if the value is no number or would overflow; `Full` if there is no room.
    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64>;

    /// Writes `new` if the current value equals `expected`, where `None` stands for no value; returns whether it
    /// did.
    ///
    /// # Errors
    /// As [`KeyStore::set`].
    fn compare_and_swap<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, bool>;

    /// One page of the keys of a space that begin with `prefix`, in no particular order. `after` is `next` of the page
    /// before; `None` begins.
    ///
    /// A key that exists during the whole listing is in at least one page, and rarely in more. Whether a key is listed
    /// that is written or removed meanwhile is not determined.
    ///
    /// # Errors
    /// As [`KeyStore::get`].
    fn list<'a>(&'a self, space: &'a str, prefix: &'a str, after: Option<String>) -> StoreResult<'a, Page>;

    /// Removes the keys of one page, as [`KeyStore::list`] would list them. Keys that are written meanwhile may be
    /// left.
    ///
    /// # Errors
    /// As [`KeyStore::get`]. Some of the keys may have been removed.
    fn remove_page<'a>(
        &'a self,
        space: &'a str,
        prefix: &'a str,
        after: Option<String>,
    ) -> StoreResult<'a, RemovedPage>;
}

/// The most keys of a page.
pub const PAGE: usize = 2048;

/// One page of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The keys, at most [`PAGE`]; perhaps none although more pages follow.
    pub keys: Vec<String>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// What became of one page of keys that were to be removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemovedPage {
    /// Number of keys that were removed.
    pub removed: usize,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// The result of an operation of a store, ready at once or later.
pub type StoreResult<'a, T> = MaybeReady<'a, Result<T, StoreError>>;

/// Why an operation of the store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The budget, in bytes, is used up.
    Full,
    /// The value is not a counter, or the counter would overflow.
    NotANumber,
    /// The store cannot be reached, or did not respond in time.
    Unavailable,
}
