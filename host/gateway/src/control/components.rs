//! Components, and the runtime that makes plugins of them.

use std::sync::Arc;

use witgate_config::{Config, Problem, Problems};
use witgate_proxy::pipeline::plugin::{Contracts, Plugin};
use witgate_proxy::telemetry::Telemetry;
use witgate_wasm::{
    Component, INSTANCES, Inspection, OnRevert, Order, Reason, Refusal, Runtime, RuntimeOptions,
};

use super::handle::{Handle, Request};
use super::library::{Asked, Loader, Refused};

/// The runtime in service. One for the life of the process: how many cores it serves and where it keeps compiled code
/// are read from the first configuration and do not change by a reload.
pub(crate) struct Components {
    runtime: Runtime,
}

impl Components {
    /// The runtime for a configuration. Reversions are asked for by `handle`; without one nothing is ever in service.
    ///
    /// # Errors
    /// The machine lacks what the runtime needs.
    pub(crate) fn new(
        config: &Config,
        telemetry: &Arc<Telemetry>,
        handle: Option<Handle>,
    ) -> Result<Components, Problem> {
        let options = RuntimeOptions {
            cores: config.gateway.workers,
            instances: INSTANCES,
            cache: config.gateway.cache_folder.clone(),
            on_revert: on_revert(handle),
        };
        let runtime = Runtime::new(options, telemetry).map_err(|error| Problem::new(error.to_string()))?;
        Ok(Components { runtime })
    }

    /// All there is to know about a component, its settings' schema included.
    ///
    /// # Errors
    /// Why no gateway would take it.
    pub(crate) fn inspect(&self, bytes: &[u8]) -> Result<Inspection, Refusal> {
        self.runtime.inspect(bytes)
    }
}

/// Asks the control plane, from the data path and therefore without waiting. If the control plane has too much to do to
/// take it, the quarantine still holds the plugin back.
fn on_revert(handle: Option<Handle>) -> OnRevert {
    Arc::new(move |binding, version| {
        let Some(handle) = &handle else { return };
        if let Err(reason) = handle.send(Request::Revert { binding: binding.to_string(), version }) {
            handle.warn(format!("{binding} is not reverted: {reason}"));
        }
    })
}

impl Loader for Components {
    type Component = Component;

    fn compile(&self, bytes: &[u8]) -> Result<Component, Problems> {
        self.runtime.compile(bytes).map_err(|refusal| refusal.problems)
    }

    fn contracts(&self, component: &Component) -> Contracts {
        component.contracts()
    }

    fn prepare(&self, component: &Component, asked: &Asked<'_>) -> Result<Arc<dyn Plugin>, Refused> {
        let order = Order { name: asked.name, binding: asked.binding, plugin: asked.plugin };
        match self.runtime.prepare(component, &order) {
            Ok(plugin) => Ok(plugin),
            Err(refusal) if refusal.reason == Reason::Settings => Err(Refused::Settings(refusal.problems)),
            Err(refusal) => Err(Refused::Component(refusal.problems)),
        }
    }
}
