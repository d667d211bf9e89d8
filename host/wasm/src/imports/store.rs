//! `store`: keys shared by all instances of a plugin, on all cores.

use std::time::Duration;

use crate::bindings::witgate::plugin::store::{Error, Host};
use crate::input_tracker::Mark;
use crate::state::HostState;

/// Bytes of a key, its space included.
pub(crate) const KEY: usize = 1 << 10;

/// Bytes of a value.
pub(crate) const VALUE: usize = 1 << 20;

/// Keys of one plugin: in memory, or where several gateways share them.
///
/// A store that must wait for an answer belongs behind the mailbox that `fetch` uses, so that its caller can wait.
pub trait KeyStore: Send + Sync {
    /// The value under a key.
    ///
    /// # Errors
    /// The store cannot be reached. The same goes for every other function.
    fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a value.
    ///
    /// # Errors
    /// `Full` if there is no room.
    fn set(&self, space: &str, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), StoreError>;

    /// Removes a value; says whether there was one.
    ///
    /// # Errors
    /// As [`KeyStore::get`].
    fn remove(&self, space: &str, key: &str) -> Result<bool, StoreError>;

    /// Adds to a counter, which is kept as decimal text. `ttl` counts from its first use.
    ///
    /// # Errors
    /// `NotANumber` if the value is none or would overflow; `Full` if there is no room.
    fn increment(&self, space: &str, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, StoreError>;

    /// Writes `new` if the present value equals `expected`; says whether it did.
    ///
    /// # Errors
    /// As [`KeyStore::set`].
    fn compare_and_swap(
        &self,
        space: &str,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<Vec<u8>>,
        ttl: Option<Duration>,
    ) -> Result<bool, StoreError>;
}

/// Why the store did not do as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The byte budget is used up.
    Full,
    /// The value is not a counter, or the counter would overflow.
    NotANumber,
    /// It cannot be reached.
    Unavailable,
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full => Error::Full,
            StoreError::NotANumber => Error::NotANumber,
            StoreError::Unavailable => Error::Unavailable,
        }
    }
}

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl Host for HostState {
    fn get(&mut self, space: String, key: String) -> Answer<Option<Vec<u8>>> {
        self.keys(&space, |state| Ok(state.rights.keys.get(&space, &key)?))
    }

    fn set(&mut self, space: String, key: String, value: Vec<u8>, ttl: Option<u64>) -> Answer<()> {
        self.keys(&space, |state| {
            check_size(&space, &key, Some(&value))?;
            Ok(state.rights.keys.set(&space, &key, value, ttl.map(Duration::from_millis))?)
        })
    }

    fn remove(&mut self, space: String, key: String) -> Answer<bool> {
        self.keys(&space, |state| Ok(state.rights.keys.remove(&space, &key)?))
    }

    fn increment(&mut self, space: String, key: String, by: i64, ttl: Option<u64>) -> Answer<i64> {
        self.keys(&space, |state| {
            check_size(&space, &key, None)?;
            Ok(state.rights.keys.increment(&space, &key, by, ttl.map(Duration::from_millis))?)
        })
    }

    fn compare_and_swap(
        &mut self,
        space: String,
        key: String,
        expected: Option<Vec<u8>>,
        new: Option<Vec<u8>>,
        ttl: Option<u64>,
    ) -> Answer<bool> {
        self.keys(&space, |state| {
            check_size(&space, &key, new.as_deref())?;
            let ttl = ttl.map(Duration::from_millis);
            Ok(state.rights.keys.compare_and_swap(&space, &key, expected.as_deref(), new, ttl)?)
        })
    }
}

impl HostState {
    /// Acts on the keys of a space, if it is granted.
    fn keys<T>(&mut self, space: &str, act: impl FnOnce(&Self) -> Result<T, Error>) -> Answer<T> {
        self.marked(Mark::Store)?;
        if !self.rights.grants.store.iter().flatten().any(|granted| granted == space) {
            self.rights.meter.grant_refused();
            return Ok(Err(Error::Denied));
        }
        Ok(act(self))
    }
}

fn check_size(space: &str, key: &str, value: Option<&[u8]>) -> Result<(), Error> {
    let fits = space.len() + key.len() <= KEY && value.is_none_or(|value| value.len() <= VALUE);
    if fits { Ok(()) } else { Err(Error::Full) }
}
