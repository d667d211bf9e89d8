//! Endpoints as they are written in the configuration.
//!
//! Choose it where endpoints have addresses that stay, or names that another part of the platform keeps current. It is the
//! default. Names are resolved when a connection is opened, and an operator is trusted: no limit of [`Limits`] applies.
//!
//! [`Limits`]: super::Limits

use witgate_config::{Problems, model};

use super::{EndpointSpec, Run, Sink, Source, SourceKind, SourceThread};

/// The row of the table.
pub(super) const KIND: SourceKind = SourceKind {
    kind: "fixed",
    summary: "endpoints as they are written; where addresses stay",
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
