//! A snapshot as it is used by telemetry, plugins and the keeper of upstreams.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use prometheus_client::encoding::DescriptorEncoder;
use witgate_config::model;
use witgate_exchange::contracts::Fetch;
use witgate_exchange::fault::Fault;
use witgate_exchange::replay;
use witgate_exchange::trace::TraceContext;
use witgate_telemetry::InService;
use witgate_upstream::{CurrentUpstreams, Upstreams};

use super::Snapshot;
use crate::consume;

impl InService for Snapshot {
    fn version(&self) -> u64 {
        self.version
    }

    fn settings(&self) -> &model::Telemetry {
        &self.config.telemetry
    }

    fn warnings(&self) -> Vec<String> {
        Snapshot::warnings(self)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        replay::expose::encode(self.upstreams.body_memory(), encoder)?;
        consume::expose::encode(&self.brokers, &self.consumers, encoder)?;
        witgate_upstream::encode(&self.upstreams, encoder)
    }
}

impl Fetch for Snapshot {
    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        trace: Option<&'a TraceContext>,
        timeout: Option<Duration>,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        self.upstreams.fetch(upstream, request, trace, timeout, limit)
    }
}

/// The upstreams of whichever snapshot is in service.
pub(crate) struct UpstreamsInService(pub(crate) Arc<ArcSwap<Snapshot>>);

impl CurrentUpstreams for UpstreamsInService {
    fn current(&self) -> Arc<Upstreams> {
        self.0.load().upstreams.clone()
    }
}
