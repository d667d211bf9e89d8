//! What telemetry needs of the snapshot in service, without knowing what a snapshot is.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use prometheus_client::encoding::DescriptorEncoder;
use witgate_config::model;

use witgate_exchange::contracts::Fetch;

/// One version of everything that is in service. Spans are sent through one of its upstreams.
pub trait InService: Fetch + Send + Sync + 'static {
    /// The version of the snapshot, counted from 1.
    fn version(&self) -> u64;

    /// The settings of logs and spans.
    fn settings(&self) -> &model::Telemetry;

    /// What an operator should know about a configuration that is in order, one sentence each.
    fn warnings(&self) -> Vec<String>;

    /// Writes the metrics that are read off its state when they are asked for.
    ///
    /// # Errors
    /// The writer's.
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result;
}

/// What is in service at the moment, shared with the thread that exports spans.
#[derive(Default)]
pub(super) struct Current(ArcSwapOption<Arc<dyn InService>>);

impl Current {
    pub(super) fn get(&self) -> Option<Arc<dyn InService>> {
        self.0.load().as_deref().cloned()
    }

    pub(super) fn set(&self, in_service: Arc<dyn InService>) {
        self.0.store(Some(Arc::new(in_service)));
    }
}
