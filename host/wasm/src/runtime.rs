//! The runtime: what all bindings share, for the life of the process.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::HeaderName;
use prometheus_client::collector::Collector;
use wasmtime::component::Linker;
use witgate_config::model::{Budget, CompileLimits, Grants};
use witgate_exchange::contracts::Fetch;
use witgate_exchange::contracts::store::KeyStore;
use witgate_exchange::credentials::{Border, Credentials};

use crate::cache::Cache;
use crate::compile::{Compiler, Compiling};
use crate::engine::Engine;
use crate::expose::Bindings;
use crate::imports::log::Pace;
use crate::imports::{Linkers, Waits};
use crate::inspect::{self, Inspection};
use crate::journal::Journal;
use crate::load::{self, BindingRequest, Component, text};
use crate::meter::Meter;
use crate::observing::Queues;
use crate::password::worker::PasswordWorkers;
use crate::plugin::Loaded;
use crate::refusal::Refusal;
use crate::rights::Rights;
use crate::sealing::Sealer;
use crate::state::HostState;
use crate::upkeep::Upkeep;

/// Called with the name of a binding and the number of the version that is to be reverted.
pub type OnRevert = Arc<dyn Fn(&Arc<str>, u64) + Send + Sync>;

/// Returns where outbound requests go now; `None` if nothing is in service.
pub type CurrentUpstreams = Arc<dyn Fn() -> Option<Arc<dyn Fetch>> + Send + Sync>;

/// Options of a runtime.
pub struct RuntimeOptions {
    /// Number of worker threads of the data plane; each binding has a pool for each of them.
    pub cores: usize,
    /// Maximum number of instances at once, over all bindings and cores.
    pub instances: u32,
    /// Folder for compiled code; `None`: in memory only.
    pub cache: Option<PathBuf>,
    /// Where components are compiled that are not in the cache.
    pub compiling: Compiling,
    /// Requests the revert of a new version. Called on the data path, so it must not block.
    pub on_revert: OnRevert,
    /// The upstreams in service, for fetches of calls that belong to no request.
    pub upstreams: CurrentUpstreams,
}

/// Default for the maximum number of instances. Each instance takes a few of the 65,530 memory mappings that the
/// kernel allows.
pub const INSTANCES: u32 = 2_000;

/// The runtime could not be started.
#[derive(Debug)]
pub struct StartError(String);

impl fmt::Display for StartError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the plugin runtime cannot start: {}", self.0)
    }
}

impl std::error::Error for StartError {}

/// Loads plugins. There is one for the life of the process: compiled code and counters outlive every reload.
pub struct Runtime {
    options: RuntimeOptions,
    engine: Arc<Engine>,
    linkers: Linkers,
    compiler: Compiler,
    upkeep: Upkeep,
    journal: Arc<dyn Journal>,
    watched: Arc<Watched>,
    passwords: Arc<PasswordWorkers>,
    queues: Arc<Queues>,
}

/// What outlives versions and reloads, and is shown in the metrics.
#[derive(Default)]
pub(crate) struct Watched {
    /// The store of each plugin, for as long as somebody else keeps it.
    stores: Mutex<HashMap<String, Weak<dyn KeyStore>>>,
    /// The counters of each binding.
    meters: Mutex<HashMap<Arc<str>, Arc<Meter>>>,
    /// The live versions of each binding.
    versions: Mutex<HashMap<Arc<str>, Vec<Weak<Loaded>>>>,
}

impl Runtime {
    /// Starts the runtime with its threads. The log lines of plugins go to `journal`.
    ///
    /// # Errors
    /// The processor or the kernel lacks a feature that compiled code needs, or a thread cannot be started.
    pub fn new(options: RuntimeOptions, journal: Arc<dyn Journal>) -> Result<Runtime, StartError> {
        let engine = match options.compiling {
            Compiling::Counting => Engine::counting(options.instances),
            Compiling::Here | Compiling::Child { .. } => Engine::new(options.instances),
        };
        let engine = Arc::new(engine.map_err(|error| StartError(text(&error)))?);
        let system = |error: std::io::Error| StartError(error.to_string());
        let cache = options.cache.as_deref().and_then(|folder| Cache::open(folder, &*journal));
        let watched = Arc::new(Watched::default());
        Ok(Runtime {
            linkers: Linkers::new(&engine.wasmtime).map_err(|error| StartError(text(&error)))?,
            compiler: Compiler::start(Arc::clone(&engine), cache, options.compiling.clone())
                .map_err(system)?,
            upkeep: Upkeep::start().map_err(system)?,
            journal,
            watched,
            passwords: Arc::new(PasswordWorkers::new(options.cores)),
            queues: Arc::default(),
            engine,
            options,
        })
    }

    /// What `/metrics` shows of the bindings; to be registered once.
    pub fn collector(&self) -> Box<dyn Collector> {
        Box::new(Bindings(Arc::clone(&self.watched)))
    }

    /// Inspects and compiles a component. Blocks until it is compiled; never called on the data path.
    ///
    /// # Errors
    /// The bytes are not a component, are damaged, export no contract, import an interface that plugins may not
    /// use, or cannot be compiled.
    pub fn compile(&self, bytes: &[u8]) -> Result<Component, Refusal> {
        let inspection = inspect::look(bytes)?;
        let code = self.compiler.compile(inspection.digest, bytes)?;
        Ok(Component { inspection: Arc::new(inspection), code })
    }

    /// Sets the limits of compilation from now on.
    pub fn set_limits(&self, limits: CompileLimits) {
        self.compiler.set_limits(limits);
    }

    /// Forgets refused components, so that the same bytes are compiled again.
    pub fn forget_refused(&self) {
        self.compiler.forget_refused();
    }

    /// Everything about a component, including the schema of its settings.
    ///
    /// # Errors
    /// As [`Runtime::compile`], or the component fails when its schema is requested.
    pub fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        let component = self.compile(bytes)?;
        let schema = load::settings_schema(self, &component)?;
        let mut inspection = Inspection::clone(&component.inspection);
        inspection.settings_schema = Some(schema);
        Ok(inspection)
    }

    /// Makes a binding of a component: checks digest and grants, configures a first instance, fills the pools.
    /// Blocks for all of that; never called on the data path.
    ///
    /// # Errors
    /// Why this component cannot serve this binding.
    pub fn prepare(&self, component: &Component, order: &BindingRequest<'_>) -> Result<Arc<Loaded>, Refusal> {
        load::prepare(self, component, order)
    }

    /// Blocks until every finished exchange that was queued is passed on to the bindings that observe; only for the end of the
    /// process. False: the time ran out.
    pub fn flush(&self, time: Duration) -> bool {
        self.queues.flush(time)
    }

    pub(crate) fn queues(&self) -> Arc<Queues> {
        Arc::clone(&self.queues)
    }

    pub(crate) fn upstreams(&self) -> CurrentUpstreams {
        Arc::clone(&self.options.upstreams)
    }

    pub(crate) fn cores(&self) -> usize {
        self.options.cores
    }

    pub(crate) fn engine(&self) -> Arc<Engine> {
        Arc::clone(&self.engine)
    }

    pub(crate) fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    pub(crate) fn on_revert(&self) -> OnRevert {
        Arc::clone(&self.options.on_revert)
    }

    pub(crate) fn linker(&self, waits: Waits) -> &Linker<HostState> {
        self.linkers.of(waits)
    }

    /// The rights of a binding, with the counters of its earlier versions.
    pub(crate) fn rights(&self, order: &BindingRequest<'_>, border: Border) -> Rights {
        let name: Arc<str> = Arc::from(order.name);
        let meter = self.meter(&name);
        self.watched.watch_store(&order.binding.plugin, &order.store);
        Rights {
            grants: order.binding.grants.clone(),
            response_headers: header_names(&order.binding.grants.response_headers),
            credentials: Credentials::of(order.binding, border),
            budget: order.binding.budget,
            store: Some(Arc::clone(&order.store)),
            data: order.data.iter().map(|(name, data)| (name.clone(), Arc::clone(data))).collect(),
            sealer: Sealer::derive(order.secrets, &order.binding.plugin),
            passwords: Arc::clone(&self.passwords),
            journal: Arc::clone(&self.journal),
            pace: Pace::new(order.binding.budget.log_lines),
            metrics: Arc::clone(&meter.names),
            meter,
            binding: name,
        }
    }

    /// The rights of a component that is only inspected.
    pub(crate) fn no_rights(&self) -> Rights {
        let meter = Arc::<Meter>::default();
        Rights {
            binding: Arc::from("-"),
            grants: Grants::default(),
            response_headers: Vec::new(),
            credentials: Credentials::VISIBLE,
            budget: INSPECTION,
            store: None,
            data: Vec::new(),
            sealer: Sealer::derive(&[], "-"),
            passwords: Arc::clone(&self.passwords),
            journal: Arc::clone(&self.journal),
            pace: Pace::new(INSPECTION.log_lines),
            metrics: Arc::clone(&meter.names),
            meter,
        }
    }

    fn meter(&self, binding: &Arc<str>) -> Arc<Meter> {
        let mut meters = self.watched.meters.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(meters.entry(Arc::clone(binding)).or_default())
    }

    /// Shows the metrics of a binding for as long as it is in service.
    pub(crate) fn watch(&self, loaded: &Arc<Loaded>) {
        let mut versions = self.watched.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.values_mut().for_each(|alive| alive.retain(|version| version.strong_count() > 0));
        versions.retain(|_, alive| !alive.is_empty());
        versions.entry(Arc::clone(&loaded.name)).or_default().push(Arc::downgrade(loaded));
    }
}

impl Watched {
    /// Shows the size of a plugin's store from now on.
    fn watch_store(&self, plugin: &str, store: &Arc<dyn KeyStore>) {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.insert(plugin.to_owned(), Arc::downgrade(store));
    }

    /// Bytes in the store of each plugin, by the name of the plugin, where the size is known.
    pub(crate) fn stored(&self) -> BTreeMap<String, usize> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.retain(|_, store| store.strong_count() > 0);
        let bytes = |store: &Weak<dyn KeyStore>| store.upgrade()?.held_bytes();
        stores.iter().filter_map(|(plugin, store)| Some((plugin.clone(), bytes(store)?))).collect()
    }

    /// Every binding in service, by name: the version that went into service last.
    pub(crate) fn all(&self) -> Vec<Arc<Loaded>> {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = |alive: &Vec<Weak<Loaded>>| {
            let alive = alive.iter().filter_map(Weak::upgrade);
            alive.max_by_key(|version| version.turn.load(Ordering::Relaxed))
        };
        let mut bindings: Vec<Arc<Loaded>> = versions.values().filter_map(latest).collect();
        drop(versions);
        bindings.sort_by(|one, other| one.name.cmp(&other.name));
        bindings
    }
}

/// Names of headers, which the configuration has checked.
fn header_names(names: &[String]) -> Vec<HeaderName> {
    names.iter().filter_map(|name| HeaderName::from_lowercase(name.as_bytes()).ok()).collect()
}

/// The budget of a component that is only inspected.
const INSPECTION: Budget = Budget {
    cpu: Duration::from_secs(1),
    wall: Duration::from_secs(2),
    memory: 256 << 20,
    table_elements: 100_000,
    host_calls: 10_000,
    log_lines: 10,
    output: 1 << 20,
    body_limit: 0,
    context_limit: 0,
    fetch_limit: 0,
};
