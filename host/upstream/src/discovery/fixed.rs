//! Endpoints as they are written in the configuration.
//!
//! Choose it if addresses of endpoints rarely change, or if endpoints have host names that the platform keeps up
//! to date. It is the default. The keeper looks up the host names ([`resolve`](crate::connection::resolve)). The list
//! comes from the operator, so [`Limits`] do not apply to it.

use witgate_config::model;

use super::{BuiltSource, EndpointSink, EndpointSpec, Limits, Run, Source, SourceThread};

/// The source of an upstream with a fixed list.
pub(crate) fn build(config: &model::Upstream) -> BuiltSource {
    let endpoints = config.endpoints.iter().map(EndpointSpec::from).collect();
    BuiltSource {
        source: Box::new(Fixed { endpoints }),
        thread: SourceThread::Keeper,
        kind: None,
        limits: Limits::default(),
        restored: None,
    }
}

/// The list.
struct Fixed {
    endpoints: Vec<EndpointSpec>,
}

impl Source for Fixed {
    fn known(&self) -> Vec<EndpointSpec> {
        self.endpoints.clone()
    }

    fn run<'a>(&'a mut self, _sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}
