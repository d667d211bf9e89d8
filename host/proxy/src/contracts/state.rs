//! One place that keeps counters and stores, as the configuration names it.

use std::sync::Arc;

use witgate_config::{Problems, Settings};

use super::counter::Counter;
use super::store::KeyStore;

/// One `[state.NAME]`: where counters and the stores of plugins are kept.
///
/// It is made when its settings are new and lives on, with all it holds, for as long as a configuration in service has it
/// with equal settings.
pub trait State: Send + Sync {
    /// Where the draws of the rate-limiting contract are counted. The same one each time.
    fn counter(&self) -> Arc<dyn Counter>;

    /// The keys of a plugin, which may hold so many bytes from now on. The same ones each time for the same name.
    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore>;
}

/// A kind of state: a row of the table of kinds.
pub struct Kind {
    /// The word in the configuration.
    pub name: &'static str,
    /// Makes one. Never called on the data path; it must not wait for what is not on this machine.
    ///
    /// # Errors
    /// All that is wrong with its settings, unknown keys included.
    pub build: fn(&Settings) -> Result<Arc<dyn State>, Problems>,
}
