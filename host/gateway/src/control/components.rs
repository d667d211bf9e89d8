//! Compiled components, and the runtime that makes plugins from them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use witgate_config::model::LogLevel;
use witgate_config::{Config, Problem, Problems, model};
use witgate_exchange::contracts::{Contracts, Fetch};
use witgate_telemetry::Telemetry;
use witgate_wasm::{
    BindingRequest, Calls, Compiling, Component, CurrentUpstreams, INSTANCES, Inspection, Journal, Loaded,
    OnRevert, Reason, Refusal, Runtime, RuntimeOptions,
};

use super::handle::Handle;
use super::library::{Conduct, Loader, Prepared, Refused, WantedBinding};
use super::status::{self, Compilation};

/// The plugin runtime. There is one for the life of the process: its number of cores and its cache folder are read
/// from the first configuration and do not change by a reload.
///
/// It is created with the first component, because its threads and address space take as long to set up as
/// everything else, and a gateway without plugins does not need them.
pub(crate) struct Components {
    runtime: LazyLock<Made, Box<dyn FnOnce() -> Made + Send>>,
    limits: Mutex<model::CompileLimits>,
    unfit: Mutex<VecDeque<Component>>,
    handle: Option<Handle>,
}

/// The most components that are kept although no binding could be made from them, so that they need not be
/// compiled again when only settings or grants have changed.
const UNFIT: usize = 4;

/// Log lines of plugins, and of the runtime about plugins, go to the gateway's own log.
struct PluginLines(Arc<Telemetry>);

impl Journal for PluginLines {
    fn enabled(&self, level: LogLevel) -> bool {
        self.0.logs(level)
    }

    fn write(&self, level: LogLevel, binding: &str, message: &str) {
        self.0.log(level, message.to_owned(), &[("binding", &binding)]);
    }
}

/// The runtime, or why the machine cannot run one.
type Made = Result<Runtime, String>;

impl Components {
    /// The runtime for a configuration. Reverts are requested through `handle`; without one, nothing is ever in
    /// service.
    pub(crate) fn new(config: &Config, telemetry: &Arc<Telemetry>, handle: Option<Handle>) -> Components {
        let upstreams = upstreams(handle.clone());
        Components::with(config, telemetry, handle, upstreams, Compiling::in_own_binary())
    }

    /// As [`Components::new`], for a command that says otherwise where the upstreams in service are known, or where
    /// components are compiled.
    pub(crate) fn with(
        config: &Config,
        telemetry: &Arc<Telemetry>,
        handle: Option<Handle>,
        upstreams: CurrentUpstreams,
        compiling: Compiling,
    ) -> Components {
        let options = RuntimeOptions {
            cores: config.gateway.workers,
            instances: INSTANCES,
            cache: config.gateway.cache_folder.clone(),
            compiling,
            on_revert: on_revert(handle.clone()),
            upstreams,
        };
        let telemetry = Arc::clone(telemetry);
        let make = move || {
            let journal = Arc::new(PluginLines(Arc::clone(&telemetry)));
            let runtime = Runtime::new(options, journal).map_err(|error| error.to_string())?;
            telemetry.metrics().register(runtime.collector());
            Ok(runtime)
        };
        Components {
            runtime: LazyLock::new(Box::new(make)),
            limits: Mutex::new(config.gateway.compile),
            unfit: Mutex::default(),
            handle,
        }
    }

    /// The runtime.
    ///
    /// # Errors
    /// The machine lacks something that it needs.
    fn runtime(&self) -> Result<&Runtime, Refusal> {
        self.runtime.as_ref().map_err(|error| Refusal {
            reason: Reason::Compile,
            problems: vec![Problem::new(error.as_str())],
        })
    }

    /// Inspects a component, including the schema of its settings.
    ///
    /// # Errors
    /// Why every gateway would refuse it.
    pub(crate) fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        let runtime = self.runtime()?;
        runtime.set_limits(*locked(&self.limits));
        runtime.inspect(bytes)
    }

    /// Blocks until bindings that observe were told of every exchange that has ended; only for the end of the process. False:
    /// the time ran out.
    pub(crate) fn flush(&self, time: Duration) -> bool {
        // If no runtime was made, nothing observes.
        let made = LazyLock::get(&self.runtime).and_then(|made| made.as_ref().ok());
        made.is_none_or(|runtime| runtime.flush(time))
    }

    /// Keeps a component from which no binding could be made. Others are kept by the versions in service.
    fn keep_if_unfit(&self, component: &Component, fits: bool) {
        let digest = component.inspection().digest;
        let mut unfit = locked(&self.unfit);
        unfit.retain(|kept| kept.inspection().digest != digest);
        if !fits {
            unfit.push_back(component.clone());
            if unfit.len() > UNFIT {
                unfit.pop_front();
            }
        }
    }
}

/// The upstreams in service.
fn upstreams(handle: Option<Handle>) -> CurrentUpstreams {
    Arc::new(move || Some(handle.as_ref()?.snapshot()? as Arc<dyn Fetch>))
}

/// Requests a revert. Called on the data path, so it does not wait.
fn on_revert(handle: Option<Handle>) -> OnRevert {
    Arc::new(move |binding, version| {
        if let Some(handle) = &handle {
            handle.revert(binding.to_string(), version);
        }
    })
}

impl Loader for Components {
    type Component = Component;

    fn begin(&self, config: &model::Gateway, force: bool) {
        *locked(&self.limits) = config.compile;
        // If nothing was compiled yet, nothing was refused either.
        let made = LazyLock::get(&self.runtime).and_then(|made| made.as_ref().ok());
        if let Some(runtime) = made.filter(|_| force) {
            runtime.forget_refused();
        }
    }

    fn compile(&self, asked: &WantedBinding<'_>, bytes: &[u8]) -> Result<Component, Problems> {
        let tell = |compilation: Option<Compilation>| {
            if let Some(handle) = &self.handle {
                handle.compiles(compilation);
            }
        };
        tell(Some(Compilation {
            plugin: asked.binding.plugin.clone(),
            file: asked.source.name(),
            since: status::now(),
        }));
        let compiled = self.runtime().and_then(|runtime| {
            runtime.set_limits(*locked(&self.limits));
            runtime.compile(bytes)
        });
        tell(None);
        compiled.map_err(|refusal| refusal.problems)
    }

    fn asks(&self, component: &Component) -> BTreeSet<String> {
        let inspection = component.inspection();
        let contracts = inspection.contracts.names().into_iter().map(|name| format!("the contract `{name}`"));
        contracts.chain(inspection.imports.iter().map(|name| format!("the import `{name}`"))).collect()
    }

    fn contracts(&self, component: &Component) -> Contracts {
        component.contracts()
    }

    fn prepare(&self, component: &Component, asked: &WantedBinding<'_>) -> Result<Prepared, Refused> {
        let store = asked.state.store(&asked.binding.plugin, asked.plugin.store_bytes);
        let (name, binding, plugin) = (asked.name, asked.binding, asked.plugin);
        let (data, secrets) = (&asked.data, asked.secrets);
        let request = BindingRequest { name, binding, plugin, store, data, secrets };
        let prepared = self.runtime().and_then(|runtime| runtime.prepare(component, &request));
        self.keep_if_unfit(component, prepared.is_ok());
        match prepared {
            Ok(loaded) => Ok(Prepared { plugin: loaded.clone(), conduct: loaded }),
            Err(refusal) if refusal.reason == Reason::Settings => Err(Refused::Settings(refusal.problems)),
            Err(refusal) => Err(Refused::Component(refusal.problems)),
        }
    }
}

impl Conduct for Loaded {
    fn latest_calls(&self) -> Calls {
        Loaded::latest_calls(self)
    }

    fn begin_trial(&self, before: Calls) {
        Loaded::begin_trial(self, before);
    }

    fn is_on_trial(&self) -> bool {
        Loaded::is_on_trial(self)
    }

    fn put_back(&self) {
        Loaded::put_back(self);
    }

    fn is_good(&self) -> bool {
        Loaded::is_good(self)
    }

    fn in_service(self: Arc<Self>, is_in_service: bool) {
        Loaded::in_service(&self, is_in_service);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
