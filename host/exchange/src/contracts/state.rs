//! One place that keeps counters and stores, as the configuration names it.

use std::sync::Arc;

use witgate_config::model::Secret;
use witgate_config::{Problems, Settings};

use super::counter::Counter;
use super::store::KeyStore;

/// One `[state.NAME]`: where counters and the stores of plugins are kept.
///
/// It is kept with its contents through reloads for as long as its settings are equal.
pub trait State: Send + Sync {
    /// The counter of the rate-limiting contract; the same one for each call.
    fn counter(&self) -> Arc<dyn Counter>;

    /// The store of a plugin, by its name, with a budget in bytes that applies from now on; the same store for
    /// each call with the same name.
    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore>;

    /// Whether the state can be reached and how its operations ended, for metrics and status. `None` for a kind
    /// that is always reachable.
    fn health(&self) -> Option<Health> {
        None
    }
}

/// The condition of a state that may be unreachable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// Why it cannot be used at the moment, as a sentence; `None` while it can.
    pub problem: Option<String>,
    /// Number of operations since the state was made, by how they ended. The names are values of a metric's label.
    pub operations: Vec<(&'static str, u64)>,
}

/// What a state is built with, in addition to its own settings.
#[derive(Clone, Copy)]
pub struct BuildContext<'a> {
    /// The secrets of the fleet: names are written with the first and read with all. Empty if the configuration
    /// has none; a state that several gateways share must refuse that.
    pub secrets: &'a [Secret],
    /// Whether the state is going to serve. If not, only its settings are checked: no thread is started, nothing
    /// is connected to, and no file is opened or created.
    pub serving: bool,
    /// Makes an empty state in memory. It serves while the state itself is unreachable, and replaces a state whose
    /// settings are only checked.
    pub memory: fn() -> Arc<dyn State>,
}

/// A kind of state: a row of the table of kinds.
pub struct Kind {
    /// The name in the configuration.
    pub name: &'static str,
    /// Makes a state. Called by a load, never on the data path; it must not wait for another machine.
    ///
    /// # Errors
    /// All problems of its settings, unknown keys included.
    pub build: fn(&Settings, BuildContext<'_>) -> BuildResult,
}

/// A state, or all problems of its settings.
pub type BuildResult = Result<Arc<dyn State>, Problems>;
