//! A snapshot as telemetry sees it.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use prometheus_client::encoding::DescriptorEncoder;
use witgate_config::model;

use super::Snapshot;
use crate::contracts::Fetch;
use crate::fault::Fault;
use crate::telemetry::InService;
use crate::{replay, upstream};

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
        upstream::expose::encode(self, encoder)
    }

    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        timeout: Duration,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        Fetch::fetch(self, upstream, request, None, Some(timeout), limit)
    }
}
