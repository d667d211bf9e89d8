//! Components, and the runtime that makes plugins of them.

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use witgate_config::{Config, Problem, Problems, model};
use witgate_proxy::contracts::Contracts;
use witgate_proxy::telemetry::Telemetry;
use witgate_wasm::{
    BindingRequest, Calls, Compiling, Component, INSTANCES, Inspection, Loaded, OnRevert, Reason, Refusal,
    Runtime, RuntimeOptions,
};

use super::handle::Handle;
use super::library::{Conduct, Loader, Prepared, Refused, WantedBinding};
use super::status::{self, Compilation};

/// The runtime in service. One for the life of the process: how many cores it serves and where it keeps compiled code
/// are read from the first configuration and do not change by a reload.
///
/// It is made with the first component. A gateway without plugins has no use for its threads and the address space of its
/// instances, which take as long to set up as all the rest.
pub(crate) struct Components {
    runtime: LazyLock<Made, Box<dyn FnOnce() -> Made + Send>>,
    limits: Mutex<model::CompileLimits>,
    unfit: Mutex<VecDeque<Component>>,
    handle: Option<Handle>,
}

/// Components that are kept although no binding could be made of them, so that they need not be compiled again when
/// only settings or grants have changed.
const UNFIT: usize = 4;

/// A runtime, or what the machine lacks for one.
type Made = Result<Runtime, String>;

impl Components {
    /// The runtime for a configuration. Reversions are asked for by `handle`; without one nothing is ever in service.
    pub(crate) fn new(config: &Config, telemetry: &Arc<Telemetry>, handle: Option<Handle>) -> Components {
        let options = RuntimeOptions {
            cores: config.gateway.workers,
            instances: INSTANCES,
            cache: config.gateway.cache_folder.clone(),
            compiling: Compiling::in_own_binary(),
            on_revert: on_revert(handle.clone()),
        };
        let telemetry = Arc::clone(telemetry);
        let make = move || Runtime::new(options, &telemetry).map_err(|error| error.to_string());
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
    /// The machine lacks what it needs.
    fn runtime(&self) -> Result<&Runtime, Refusal> {
        self.runtime.as_ref().map_err(|error| Refusal {
            reason: Reason::Compile,
            problems: vec![Problem::new(error.as_str())],
        })
    }

    /// All there is to know about a component, its settings' schema included.
    ///
    /// # Errors
    /// Why no gateway would take it.
    pub(crate) fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        let runtime = self.runtime()?;
        runtime.set_limits(*locked(&self.limits));
        runtime.inspect(bytes)
    }

    /// Keeps the code of a component of which no binding could be made; one that serves is kept by what serves.
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

/// Asks the control plane, from the data path and therefore without waiting.
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
        // Where nothing was compiled yet, nothing was refused either.
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

    fn contracts(&self, component: &Component) -> Contracts {
        component.contracts()
    }

    fn prepare(&self, component: &Component, asked: &WantedBinding<'_>) -> Result<Prepared, Refused> {
        let store = asked.state.store(&asked.binding.plugin, asked.plugin.store_bytes);
        let request =
            BindingRequest { name: asked.name, binding: asked.binding, plugin: asked.plugin, store };
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
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
