//! What the listeners contribute to `/metrics`: the load of each core, and accepts that failed.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::family::Family;

use super::data_plane::CoreShared;

/// The collector. The reference is weak, because the data plane owns the telemetry, which owns its collectors.
struct Cores(Weak<CoreShared>);

impl fmt::Debug for Cores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Cores")
    }
}

/// Registers the metrics of a data plane.
pub(crate) fn register(plane: &Arc<CoreShared>) {
    plane.telemetry.metrics().register(Box::new(Cores(Arc::downgrade(plane))));
}

impl Collector for Cores {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(plane) = self.0.upgrade() else { return Ok(()) };
        let help = "Connections open on each core";
        let mut family = Family::gauges(&mut encoder, "witgate_core_connections", help)?;
        for (index, core) in plane.cores.iter().enumerate() {
            let open = i64::try_from(core.load.connections()).unwrap_or(i64::MAX);
            family.gauge(&[("core", index.to_string().as_str())], open)?;
        }
        let help = "Accepts that failed because descriptors or memory had run out";
        let mut family = Family::counters(&mut encoder, "witgate_accepts_exhausted", help)?;
        let exhausted = plane.accept_exhausted.load(Ordering::Relaxed);
        let none: [(&str, &str); 0] = [];
        family.counter(&none, exhausted as u64)?;
        let help = "Snapshots that are out of service, but still held by requests that began with them";
        let mut family = Family::gauges(&mut encoder, "witgate_snapshots_retired", help)?;
        let retired = plane.retired.load(Ordering::Relaxed);
        family.gauge(&none, i64::try_from(retired).unwrap_or(i64::MAX))
    }
}
