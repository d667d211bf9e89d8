//! Components, and the runtime that makes plugins of them.

use std::sync::{Arc, LazyLock};

use witgate_config::{Config, Problem, Problems};
use witgate_proxy::pipeline::plugin::{Contracts, Plugin};
use witgate_proxy::telemetry::Telemetry;
use witgate_wasm::{
    Component, INSTANCES, Inspection, OnRevert, Order, Reason, Refusal, Runtime, RuntimeOptions,
};

use super::handle::Handle;
use super::library::{Asked, Loader, Refused};

/// The runtime in service. One for the life of the process: how many cores it serves and where it keeps compiled code
/// are read from the first configuration and do not change by a reload.
///
/// It is made with the first component. A gateway without plugins has no use for its threads and the address space of its
/// instances, which take as long to set up as all the rest.
pub(crate) struct Components {
    runtime: LazyLock<Made, Box<dyn FnOnce() -> Made + Send>>,
}

/// A runtime, or what the machine lacks for one.
type Made = Result<Runtime, String>;

impl Components {
    /// The runtime for a configuration. Reversions are asked for by `handle`; without one nothing is ever in service.
    pub(crate) fn new(config: &Config, telemetry: &Arc<Telemetry>, handle: Option<Handle>) -> Components {
        let options = RuntimeOptions {
            cores: config.gateway.workers,
            instances: INSTANCES,
            cache: config.gateway.cache_folder.clone(),
            on_revert: on_revert(handle),
        };
        let telemetry = Arc::clone(telemetry);
        let make = move || Runtime::new(options, &telemetry).map_err(|error| error.to_string());
        Components { runtime: LazyLock::new(Box::new(make)) }
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
        self.runtime()?.inspect(bytes)
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

    fn compile(&self, bytes: &[u8]) -> Result<Component, Problems> {
        self.runtime().and_then(|runtime| runtime.compile(bytes)).map_err(|refusal| refusal.problems)
    }

    fn contracts(&self, component: &Component) -> Contracts {
        component.contracts()
    }

    fn prepare(&self, component: &Component, asked: &Asked<'_>) -> Result<Arc<dyn Plugin>, Refused> {
        let order = Order { name: asked.name, binding: asked.binding, plugin: asked.plugin };
        match self.runtime().and_then(|runtime| runtime.prepare(component, &order)) {
            Ok(plugin) => Ok(plugin),
            Err(refusal) if refusal.reason == Reason::Settings => Err(Refused::Settings(refusal.problems)),
            Err(refusal) => Err(Refused::Component(refusal.problems)),
        }
    }
}
