//! One place that keeps counters and stores, as the configuration names it.

use std::sync::Arc;

use witgate_config::{Problems, Settings};

use super::counter::Counter;
use super::store::KeyStore;

/// One `[state.NAME]`: where counters and the stores of plugins are kept.
///
/// It is kept with its contents through reloads for as long as its settings are equal.
pub trait State: Send + Sync {
    /// The counter of the rate-limiting contract; the same one for each call.
    fn counter(&self) -> Arc<dyn Counter>;

    /// The store of a plugin, by its name, with a budget in bytes that applies from now on; the same store for each call with the
    /// same name.
    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore>;
}

/// A kind of state: a row of the table of kinds.
pub struct Kind {
    /// The word in the configuration.
    pub name: &'static str,
    /// Makes a state. Called by a load, never on the data path; it must not wait for another machine.
    ///
    /// # Errors
    /// All problems of its settings, unknown keys included.
    pub build: fn(&Settings) -> Result<Arc<dyn State>, Problems>,
}
