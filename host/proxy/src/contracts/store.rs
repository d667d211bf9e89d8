//! Keys that plugins store.

use std::time::Duration;

use super::MaybeReady;

/// The keys of one plugin: in memory, or where several gateways share them.
///
/// What may wait does so on the core that asked and may be dropped at any await; then nobody is told whether it was done.
/// Nothing is done before a result that is waited for is polled. The caller bounds the time of each wait.
pub trait KeyStore: Send + Sync {
    /// Whether its functions may wait. If not, every result is there at once. Asked once for each binding, because
    /// instances that may wait run on stacks of their own.
    fn waits(&self) -> bool;

    /// Bytes it holds, for metrics; none: that is not known without asking elsewhere.
    fn held_bytes(&self) -> Option<usize> {
        None
    }

    /// The value under a key.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be reached. The same goes for every other function.
    fn get<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, Option<Vec<u8>>>;

    /// Writes a value, for the time of `ttl` or without end.
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

    /// Removes a value; says whether there was one.
    ///
    /// # Errors
    /// As [`KeyStore::get`].
    fn remove<'a>(&'a self, space: &'a str, key: &'a str) -> StoreResult<'a, bool>;

    /// Adds to a counter, which is kept as decimal text. `ttl` counts from its first use.
    ///
    /// # Errors
    /// `NotANumber` if the value is none or would overflow; `Full` if there is no room.
    fn increment<'a>(
        &'a self,
        space: &'a str,
        key: &'a str,
        by: i64,
        ttl: Option<Duration>,
    ) -> StoreResult<'a, i64>;

    /// Writes `new` if the present value equals `expected`, where none stands for no value; says whether it did.
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
}

/// What a store answers, at once or later.
pub type StoreResult<'a, T> = MaybeReady<'a, Result<T, StoreError>>;

/// Why the store did not do as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The byte budget is used up.
    Full,
    /// The value is not a counter, or the counter would overflow.
    NotANumber,
    /// It cannot be reached, or did not answer in time.
    Unavailable,
}
