//! Where the endpoints of an upstream come from.
//!
//! A [`Source`] passes whole sets of endpoints, or differences, to a [`Sink`]. The sink validates them and keeps
//! the last good set. The [keeper](super::keeper) puts that set in service: at once if the last change was more
//! than a second ago, otherwise when that second is over. Sources run on the keeper's thread or on a thread of
//! their own ([`SourceThread`]), never on a core.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | the fixed list | [`fixed`] | endpoints as they are written |
//! | sink | [`sink`] | receives the sets of a source; validation, last good set, age, last error |
//! | allowed addresses | [`allow`] | which addresses a source may give |
//! | running | [`run`] | the thread of a source, and the pauses after failures |
//!
//! A new source is a file with its `KIND`, its settings and its [`Source`], and a row in [`SOURCES`].

pub mod allow;
mod fixed;
pub(crate) mod run;
pub mod sink;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use witgate_config::{Problems, model};

pub use allow::Allow;
pub use sink::{Difference, Limits, Refused, Sink, SinkStatus};

/// What a source reports about one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// An IP address without brackets. Only the fixed list may have host names.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
    /// The name by which the source tells instances apart, e.g. that of a pod. If another instance takes over an
    /// address, it is a new endpoint and inherits no state.
    pub name: Option<String>,
    /// Share of requests relative to the other endpoints, at most 1,000,000. An endpoint of weight 0 takes no new
    /// requests.
    pub weight: u32,
    /// The zone of the endpoint.
    pub zone: Option<String>,
    /// From 0, the first, to 127. Endpoints of the next priority take the requests that those before cannot take.
    pub priority: u32,
    /// Whether it may take requests.
    pub readiness: Readiness,
}

/// Whether an endpoint may take requests according to its source, in ascending order of preference. To take
/// requests an endpoint must also pass its checks, and its circuit breaker must let them through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Readiness {
    /// The endpoint is not ready yet, or no longer serves.
    NotServing,
    /// The endpoint is terminating but still serves. It takes requests only while no endpoint of the set is ready.
    Serving,
    /// The endpoint may take requests.
    #[default]
    Ready,
}

/// Identifies an endpoint within its upstream: host, port, and the name of the instance.
pub type Key = (String, u16, Option<String>);

impl EndpointSpec {
    /// A ready endpoint of weight 1. `host` may have brackets around an IPv6 address.
    pub fn at(host: &str, port: u16) -> EndpointSpec {
        EndpointSpec {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            name: None,
            weight: 1,
            zone: None,
            priority: 0,
            readiness: Readiness::Ready,
        }
    }

    /// The key of the endpoint.
    pub fn key(&self) -> Key {
        (self.host.clone(), self.port, self.name.clone())
    }

    /// The key of the endpoint, borrowed.
    pub(crate) fn borrowed_key(&self) -> (&str, u16, Option<&str>) {
        (&self.host, self.port, self.name.as_deref())
    }
}

impl From<&model::Endpoint> for EndpointSpec {
    fn from(written: &model::Endpoint) -> EndpointSpec {
        EndpointSpec {
            weight: written.weight,
            zone: written.zone.clone(),
            priority: written.priority,
            ..EndpointSpec::at(&written.host, written.port)
        }
    }
}

/// A running source. It ends with `Ok` if its set can no longer change, and with a reason if it should be run
/// again.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Supplies the endpoints of one upstream.
pub trait Source: Send {
    /// The set with which the upstream starts, if the source knows one without any communication.
    fn known(&self) -> Vec<EndpointSpec> {
        Vec::new()
    }

    /// The limits within which its sets are accepted.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Passes sets to the sink. The future is dropped when the upstream is removed or gets another source. On the
    /// keeper's thread it must not block. After an error it is run again, after a pause that grows from one second
    /// to one minute; until then the last good set stays in service.
    fn run<'a>(&'a mut self, sink: &'a Sink) -> Run<'a>;
}

/// Where a source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceThread {
    /// On the keeper's thread, beside all active checks. For sources that do little but wait.
    Keeper,
    /// On a thread of its own. For sources whose client library takes CPU time or may block.
    Own,
}

/// A row of the table: one kind of source.
pub struct SourceKind {
    /// Its name.
    pub kind: &'static str,
    /// When to choose it, in one sentence.
    pub summary: &'static str,
    /// Where it runs.
    pub thread: SourceThread,
    /// Makes the source of an upstream.
    pub build: fn(&model::Upstream) -> Result<Box<dyn Source>, Problems>,
}

/// Every kind of source.
pub const SOURCES: &[SourceKind] = &[fixed::KIND];

/// A source that has been built but not started.
pub(crate) struct BuiltSource {
    pub(crate) source: Box<dyn Source>,
    pub(crate) thread: SourceThread,
}

/// Builds the source of an upstream. The configuration knows only the fixed list so far.
pub(crate) fn build(config: &model::Upstream) -> Result<BuiltSource, Problems> {
    let row = &SOURCES[0];
    Ok(BuiltSource { source: (row.build)(config)?, thread: row.thread })
}

/// A set of endpoints, in the order in which the status lists them.
pub(crate) type EndpointSpecs = Arc<[Arc<EndpointSpec>]>;
