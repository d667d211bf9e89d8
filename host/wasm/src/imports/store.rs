//! Interface `store`: keys shared by all instances of a plugin, on all cores.

use std::time::Duration;

use crate::bindings::witgate::plugin::store::{Error, Host};
use crate::input_tracker::Mark;
use crate::state::HostState;

/// The longest key, in bytes, including its space.
pub(crate) const KEY: usize = 1 << 10;

/// The largest value, in bytes.
pub(crate) const VALUE: usize = 1 << 20;

/// The keys of one plugin: in memory, or in a store that several gateways share.
///
/// The functions must not block. A store that has to wait for a network must use a mailbox like that of `fetch`,
/// so that the caller can wait.
pub trait KeyStore: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be reached; this applies to every other function, too.
    fn get(&self, space: &str, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes a value.
    ///
    /// # Errors
    /// `Full` if there is no room.
    fn set(&self, space: &str, key: &str, value: Vec<u8>, ttl: Option<Duration>) -> Result<(), StoreError>;

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    /// As [`KeyStore::get`].
    fn remove(&self, space: &str, key: &str) -> Result<bool, StoreError>;

    /// Adds to a counter, which is stored as decimal text. `ttl` counts from the creation of the counter.
    ///
    /// # Errors
    /// `NotANumber` if the value is no number or would overflow; `Full` if there is no room.
    fn increment(&self, space: &str, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, StoreError>;

    /// Writes `new` if the current value equals `expected`; returns whether it did.
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

/// Why an operation of the store failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreError {
    /// The budget, in bytes, is used up.
    Full,
    /// The value is not a counter, or the counter would overflow.
    NotANumber,
    /// The store cannot be reached.
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
    /// Calls `act` if the space is granted to the binding.
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
