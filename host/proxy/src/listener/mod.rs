//! Doors: sockets, accepting, TLS, draining. The cores that serve what comes in.

use std::sync::Arc;
use std::time::Duration;

use witgate_config::Problems;

use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// The running data plane: one thread and runtime a core.
pub struct DataPlane {}

impl DataPlane {
    /// Binds every listener (or takes inherited descriptors) and starts the cores.
    ///
    /// # Errors
    /// Addresses that cannot be bound, certificates that cannot be read.
    pub fn start(_snapshot: Arc<Snapshot>, _telemetry: Arc<Telemetry>) -> Result<DataPlane, Problems> {
        todo!("listener")
    }

    /// The addresses the listeners really have, by name (for port 0).
    pub fn addresses(&self) -> Vec<(String, std::net::SocketAddr)> {
        todo!("listener")
    }

    /// Puts a new snapshot in service in one step: opens new listeners, drains those that are gone or whose
    /// connection settings changed. A failure leaves everything as it was.
    ///
    /// # Errors
    /// As [`DataPlane::start`].
    pub fn swap(&self, _snapshot: Arc<Snapshot>) -> Result<(), Problems> {
        todo!("listener")
    }

    /// The snapshot in service.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!("listener")
    }

    /// Closes the listeners, lets what is in flight end within `timeout`, then ends it. Blocks until done.
    /// Returns how many requests had to be cut.
    pub fn drain(self, _timeout: Duration) -> usize {
        todo!("listener")
    }
}
