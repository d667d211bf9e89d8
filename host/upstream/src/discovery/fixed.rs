//! Endpoints as they are written in the configuration.
//!
//! Choose it if addresses of endpoints rarely change, or if endpoints have host names that the platform keeps up
//! to date. It is the default. Host names are resolved when a connection is opened. The list comes from the
//! operator, so [`Limits`] do not apply to it.
//!
//! [`Limits`]: super::Limits

use witgate_config::{Problems, model};

use super::{EndpointSpec, Run, Sink, Source, SourceKind, SourceThread};

/// The row of the table.
pub(crate) const KIND: SourceKind = SourceKind {
    kind: "fixed",
    summary: "the endpoints in the configuration; for addresses that rarely change",
    thread: SourceThread::Keeper,
    build,
};

fn build(config: &model::Upstream) -> Result<Box<dyn Source>, Problems> {
    Ok(Box::new(Fixed { endpoints: config.endpoints.iter().map(EndpointSpec::from).collect() }))
}

/// The list.
struct Fixed {
    endpoints: Vec<EndpointSpec>,
}

impl Source for Fixed {
    fn known(&self) -> Vec<EndpointSpec> {
        self.endpoints.clone()
    }

    fn run<'a>(&'a mut self, _sink: &'a Sink) -> Run<'a> {
        Box::pin(std::future::ready(Ok(())))
    }
}
