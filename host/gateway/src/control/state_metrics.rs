//! The metrics of states that can be out of reach.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_exchange::family::Family;

use super::states::States;

/// Collects the metrics of the states in service.
pub(super) struct StateMetrics(pub(super) Arc<ArcSwapOption<States>>);

impl fmt::Debug for StateMetrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StateMetrics")
    }
}

impl Collector for StateMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(states) = self.0.load_full() else { return Ok(()) };
        let rows: Vec<_> = states.health().collect();
        let help = "Whether a state can be used (1) or is out of reach (0)";
        let mut family = Family::gauges(&mut encoder, "witgate_state_available", help)?;
        for (state, kind, health) in &rows {
            let available = i64::from(health.problem.is_none());
            family.gauge(&[("state", *state), ("kind", *kind)], available)?;
        }
        let help = "Operations of a state, by how they ended";
        let mut family = Family::counters(&mut encoder, "witgate_state_operations", help)?;
        for (state, _, health) in &rows {
            for (end, count) in &health.operations {
                family.counter(&[("state", *state), ("end", *end)], *count)?;
            }
        }
        Ok(())
    }
}
