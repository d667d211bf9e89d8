//! The rights and counters of a binding, shared by all its instances.

use std::sync::Arc;

use http::HeaderName;
use witgate_config::model::{Budget, Grants};
use witgate_exchange::contracts::store::KeyStore;
use witgate_exchange::credentials::Credentials;

use crate::data::Data;
use crate::imports::log::Pace;
use crate::imports::metrics::Names;
use crate::journal::Journal;
use crate::meter::Meter;
use crate::password::worker::PasswordWorkers;
use crate::sealing::Sealer;

/// What every instance of a binding shares. Two bindings of one plugin share only its store.
pub(crate) struct Rights {
    /// Name of the binding.
    pub(crate) binding: Arc<str>,
    /// The objects that it may use.
    pub(crate) grants: Grants,
    /// The response headers that `observe` may see.
    pub(crate) response_headers: Vec<HeaderName>,
    /// Which credentials the plugin may see.
    pub(crate) credentials: Credentials,
    /// The budget of a call.
    pub(crate) budget: Budget,
    /// The store of the plugin; `None` for a component that is only inspected.
    pub(crate) store: Option<Arc<dyn KeyStore>>,
    /// The files that it may read, by their names.
    pub(crate) data: Vec<(String, Arc<Data>)>,
    /// What seals and opens messages of the plugin.
    pub(crate) sealer: Sealer,
    /// The threads that verify passwords.
    pub(crate) passwords: Arc<PasswordWorkers>,
    /// Where its log lines go.
    pub(crate) journal: Arc<dyn Journal>,
    /// The rate limit of its log lines.
    pub(crate) pace: Pace,
    /// The metrics that the plugin defines.
    pub(crate) metrics: Arc<Names>,
    /// The counters of the host for this binding.
    pub(crate) meter: Arc<Meter>,
}

impl Rights {
    /// Whether the store of the plugin may wait.
    pub(crate) fn store_waits(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.waits())
    }
}
