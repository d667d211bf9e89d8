//! Components, and the runtime that makes plugins of them.

use std::sync::Arc;

use witgate_config::{Config, Problem};
use witgate_proxy::pipeline::plugin::{Contracts, Plugin};
use witgate_proxy::telemetry::Telemetry;

use super::handle::Handle;
use super::library::{Loader, Refused};

/// The runtime in service.
pub(crate) struct Components {}

impl Components {
    /// The runtime for a configuration. Reversions are asked for by `handle`; without one nothing is ever in service.
    ///
    /// # Errors
    /// The machine lacks what the runtime needs.
    pub(crate) fn new(
        _config: &Config,
        _telemetry: &Arc<Telemetry>,
        _handle: Option<Handle>,
    ) -> Result<Components, Problem> {
        Ok(Components {})
    }
}

impl Loader for Components {
    type Component = ();

    fn compile(&self, _bytes: &[u8]) -> Result<(), String> {
        Err("this build has no runtime for plugins yet".to_owned())
    }

    fn contracts(&self, (): &()) -> Contracts {
        Contracts::default()
    }

    fn prepare(&self, (): &(), _binding: &str, _config: &Config) -> Result<Arc<dyn Plugin>, Refused> {
        Err(Refused::Component("this build has no runtime for plugins yet".to_owned()))
    }
}
