//! A configuration that is in service for one command: with listeners and plugins, without an admin listener and without
//! watching files.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use witgate_exchange::contracts::store::KeyStore;
use witgate_exchange::contracts::{Binding, Fetch};
use witgate_proxy::listener::DataPlane;
use witgate_proxy::snapshot::{Services, Snapshot};
use witgate_telemetry::Telemetry;
use witgate_wasm::Compiling;

use super::brokers::Brokers;
use super::components::Components;
use super::data::DataFiles;
use super::library::Library;
use super::library::source::{Fetches, SOURCES};
use super::load::{self, Before};
use super::source::{Refusal, Source};
use super::states::States;
use super::wanted::Force;
use super::{discovery, preflight};
use crate::exit::Exit;

/// Time for requests in flight, for bindings that observe, and for the log, each.
const LAST: Duration = Duration::from_secs(2);

/// Bindings by name.
pub(crate) type Bindings = BTreeMap<String, Arc<dyn Binding>>;

/// A configuration in service.
pub(crate) struct Rehearsal {
    data_plane: DataPlane,
    library: Library<Components>,
    telemetry: Arc<Telemetry>,
    store: Arc<dyn KeyStore>,
}

impl Rehearsal {
    /// Puts a configuration in service. `wrap` may put bindings of its own around the plugins; `fill` is given the store of the
    /// plugin named `plugin` before any call except those that configure it.
    ///
    /// # Errors
    /// All problems of the configuration and its plugins, or a listener cannot be bound.
    pub(crate) fn start(
        source: &Source,
        plugin: &str,
        wrap: impl FnOnce(Bindings) -> Bindings,
        fill: impl FnOnce(&dyn KeyStore) -> Result<(), Refusal>,
    ) -> Result<Rehearsal, Refusal> {
        let reading = source.read()?;
        let telemetry = Telemetry::new();
        let upstreams: Arc<OnceLock<Arc<Snapshot>>> = Arc::default();
        let current = Arc::clone(&upstreams);
        let in_service = Arc::new(move || Some(Arc::clone(current.get()?) as Arc<dyn Fetch>));
        let components =
            Components::with(&reading.config, &telemetry, None, in_service, Compiling::in_own_binary());
        let mut library = Library::new(components, SOURCES, Fetches::new(|_| {}));
        let (states, data) = (States::for_checking(), DataFiles::default());
        let discovery = discovery::of_this_build();
        let brokers = Brokers::for_checking();
        let before =
            Before { states: &states, data: &data, brokers: &brokers, discovery: &discovery, snapshot: None };
        let built = load::build(&library, &reading, &Force::default(), before)?;
        preflight::check(&reading)?;
        let settings = &reading.config.plugins[plugin];
        let store = built.kept.states.of_plugin(settings).store(plugin, settings.store_bytes);
        fill(&*store)?;
        let services = Services {
            plugins: wrap(built.draft.plugins()),
            counter: built.kept.states.counter(&reading.config.gateway),
            discovery,
            wrappers: built.snapshot.wrappers.clone(),
            brokers: built.snapshot.brokers.clone(),
        };
        let refused = |problems| reading.refusal(Exit::Config, problems);
        let snapshot = Snapshot::build(reading.config.clone(), services, None).map_err(refused)?;
        let snapshot = Arc::new(snapshot);
        // Set once, here.
        let _ = upstreams.set(Arc::clone(&snapshot));
        let data_plane = DataPlane::start(snapshot, telemetry.clone()).map_err(refused)?;
        library.keep(built.draft);
        Ok(Rehearsal { data_plane, library, telemetry, store })
    }

    /// The address of the only listener.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.data_plane.addresses().first().map(|(_, address)| *address)
    }

    /// The store of the plugin.
    pub(crate) fn store(&self) -> &Arc<dyn KeyStore> {
        &self.store
    }

    /// Waits until requests in flight have ended and bindings that observe were told of them. Blocks.
    pub(crate) fn end(self) {
        self.data_plane.drain(LAST);
        self.library.loader().flush(LAST);
        self.telemetry.flush(LAST);
    }
}
