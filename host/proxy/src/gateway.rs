//! Everything that is needed to serve requests on one core, whatever brings them.

use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use witgate_telemetry::{CoreTelemetry, Telemetry};

use crate::snapshot::Snapshot;

/// Serves the requests of one core. Clones stay on the core.
#[derive(Clone)]
pub struct Gateway {
    /// Where requests are recorded.
    pub telemetry: CoreTelemetry,
    snapshots: Arc<ArcSwap<Snapshot>>,
}

impl Gateway {
    /// Each request is served with the snapshot that is in service when it arrives.
    pub fn new(telemetry: Arc<Telemetry>, snapshots: Arc<ArcSwap<Snapshot>>) -> Self {
        Gateway { telemetry: Rc::new(telemetry), snapshots }
    }

    /// The snapshot in service. Read once for each request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.load_full()
    }
}
