//! What a binding may do and where it is counted: shared by all its instances.

use std::sync::Arc;

use witgate_config::model::{Budget, Grants};
use witgate_proxy::contracts::store::KeyStore;

use crate::imports::log::Pace;
use crate::imports::metrics::Names;
use crate::journal::Journal;
use crate::meter::Meter;

/// What every instance of a binding shares. Two bindings share none of it but the plugin's store.
pub(crate) struct Rights {
    /// Name of the binding.
    pub(crate) binding: Arc<str>,
    /// Objects it may use.
    pub(crate) grants: Grants,
    /// What a call may use.
    pub(crate) budget: Budget,
    /// The keys of the plugin; none: it is only looked at.
    pub(crate) store: Option<Arc<dyn KeyStore>>,
    /// Where its lines go.
    pub(crate) journal: Arc<dyn Journal>,
    /// How many lines it may still write.
    pub(crate) pace: Pace,
    /// Metrics of its own.
    pub(crate) metrics: Arc<Names>,
    /// What the host counts about it.
    pub(crate) meter: Arc<Meter>,
}

impl Rights {
    /// Whether the store of the plugin may wait.
    pub(crate) fn store_waits(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.waits())
    }
}
