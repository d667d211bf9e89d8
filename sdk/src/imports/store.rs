//! Keys shared by all instances of a plugin on all cores. Needs a `store` grant that names the space.
//!
//! ```
//! use std::time::Duration;
//! use witgate_sdk::store;
//!
//! let sessions = store::space("sessions");
//! sessions.set("4711", "alice", Some(Duration::from_secs(600)))?;
//! assert_eq!(sessions.get("4711")?.as_deref(), Some(&b"alice"[..]));
//! # Ok::<(), store::Error>(())
//! ```

use std::time::Duration;

use super::backend;
use super::calendar::Window;
use crate::contracts::milliseconds;

pub use crate::bindings::additions::witgate::plugin0_2_0::store::{Page, Removal};
pub use crate::bindings::host::witgate::plugin::store::Error;

/// A space, by its name. Other plugins cannot access the spaces of this one.
#[must_use]
pub fn space(name: &str) -> Space<'_> {
    Space { name }
}

/// One space of the store. Keys have at most 1 KiB, values at most 1 MiB.
#[derive(Clone, Copy, Debug)]
pub struct Space<'a> {
    name: &'a str,
}

impl Space<'_> {
    /// The value; `None` if there is none or it has expired.
    ///
    /// # Errors
    /// The space is not granted, or the store cannot be reached.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        backend::store::get(self.name, key)
    }

    /// Writes a value. Without a time to live it stays until it is removed or evicted.
    ///
    /// # Errors
    /// The space is not granted, the plugin's byte budget is used up, or the store cannot be reached.
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<(), Error> {
        backend::store::set(self.name, key, value.as_ref(), ttl.map(milliseconds))
    }

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    /// The space is not granted, or the store cannot be reached.
    pub fn remove(&self, key: &str) -> Result<bool, Error> {
        backend::store::remove(self.name, key)
    }

    /// Adds to a counter and returns the sum. A missing counter starts at 0; `ttl` counts from its creation.
    ///
    /// # Errors
    /// As for [`set`](Self::set); also if the value is not a counter, or would overflow.
    pub fn increment(&self, key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, Error> {
        backend::store::increment(self.name, key, by, ttl.map(milliseconds))
    }

    /// Writes `new` (`None`: removes the value) if the current value equals `expected` (`None`: there is no
    /// value); returns whether it did.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        new: Option<&[u8]>,
        ttl: Option<Duration>,
    ) -> Result<bool, Error> {
        backend::store::compare_and_swap(self.name, key, expected, new, ttl.map(milliseconds))
    }
    /// Adds to the counter of a day or month and returns the sum in it. The counter is the key that ends with the name of the
    /// window; it lives an hour longer than the window, for gateways whose clocks are late. Of version 0.2.0.
    ///
    /// ```
    /// use witgate_sdk::{calendar, store};
    ///
    /// let month = calendar::month("UTC").ok_or("no such time zone")?;
    /// let used = store::space("quota").count("alice", 1, &month).map_err(|error| error.to_string())?;
    /// assert_eq!(used, 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As for [`increment`](Self::increment).
    pub fn count(&self, key: &str, by: i64, window: &Window) -> Result<i64, Error> {
        let life = window.ends_in() + Duration::from_secs(3600);
        self.increment(&format!("{key}/{}", window.name), by, Some(life))
    }

    /// One page of the keys that begin with `prefix`, in no order. `after` is `next` of the page before; `None` begins. What a
    /// page costs depends on the store, see the reference; it is nothing for every request. Of version 0.2.0.
    ///
    /// ```
    /// use witgate_sdk::store;
    ///
    /// let (sessions, mut after, mut number) = (store::space("sessions"), None, 0);
    /// sessions.set("alice/1", "", None)?;
    /// loop {
    ///     let page = sessions.keys("alice/", after.as_deref())?;
    ///     number += page.keys.len();
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(number, 1);
    /// # Ok::<(), store::Error>(())
    /// ```
    ///
    /// # Errors
    /// The space is not granted, or the store cannot be reached.
    pub fn keys(&self, prefix: &str, after: Option<&str>) -> Result<Page, Error> {
        backend::store_additions::keys(self.name, prefix, after)
    }

    /// Removes the keys that [`keys`](Self::keys) would list in this page. Of version 0.2.0.
    ///
    /// # Errors
    /// The space is not granted, or the store cannot be reached; then some of the keys may have been removed.
    pub fn remove_keys(&self, prefix: &str, after: Option<&str>) -> Result<Removal, Error> {
        backend::store_additions::remove_keys(self.name, prefix, after)
    }
}
