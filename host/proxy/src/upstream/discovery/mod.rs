//! Where the endpoints of an upstream come from.
//!
//! A [`Source`] tells a [`Sink`] of endpoints: whole sets, or differences. The sink checks them, keeps the last good set, and
//! the [keeper](super::keeper) puts it in service, at once where the last change is long ago, and once a second where many
//! come. Sources run on the keeper's thread or on a thread of their own ([`SourceThread`]), never on a core.
//!
//! | part | module | what it is |
//! |---|---|---|
//! | the fixed list | [`fixed`] | endpoints as they are written |
//! | sink | [`sink`] | what a source gives its sets to; checks, last good set, age, last error |
//! | allowed addresses | [`allow`] | which addresses a source may give |
//! | running | [`run`] | the thread of a source, and when it is run again after it has failed |
//!
//! To add a source: a file with its settings, its `KIND`, the type and its [`Source`]; a row in [`SOURCES`].

pub mod allow;
mod fixed;
pub(super) mod run;
pub mod sink;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use witgate_config::{Problems, model};

pub use allow::Allow;
pub use sink::{Difference, Limits, Refused, Sink, SinkStatus};

/// What a source says of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSpec {
    /// An address; a host name where the fixed list has one. Without brackets.
    pub host: String,
    /// Port, not 0.
    pub port: u16,
    /// What the source calls the instance, e.g. the name of a pod. Another instance at the same address is another
    /// endpoint, of which nothing is known yet.
    pub name: Option<String>,
    /// Share relative to the others, up to a million; 0 takes no new requests.
    pub weight: u32,
    /// Where it is.
    pub zone: Option<String>,
    /// 0 comes first, 127 last; the next takes what those before it cannot.
    pub priority: u32,
    /// Whether it may take requests.
    pub readiness: Readiness,
}

/// Whether an endpoint may take requests, as its source sees it; the order is that of preference. It takes requests if it
/// may *and* neither fails its checks nor is shut by its breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Readiness {
    /// It is not ready yet, or has ended.
    NotServing,
    /// It is terminating, but still serves: it takes requests as long as none of the set is ready.
    Serving,
    /// It takes requests.
    #[default]
    Ready,
}

/// What tells the endpoints of an upstream apart: host, port, and what the source calls the instance.
pub type Key = (String, u16, Option<String>);

impl EndpointSpec {
    /// An endpoint that is ready, of weight 1.
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

    /// What tells it apart.
    pub fn key(&self) -> Key {
        (self.host.clone(), self.port, self.name.clone())
    }

    /// The same, borrowed.
    pub(super) fn borrowed_key(&self) -> (&str, u16, Option<&str>) {
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

/// What a run of a source comes to: `Ok` where the set changes no more, an error in a sentence where it should run again.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Tells of endpoints. Written for one upstream, with settings of its own.
pub trait Source: Send {
    /// The set as far as it is known without asking anybody: what an upstream starts with.
    fn known(&self) -> Vec<EndpointSpec> {
        Vec::new()
    }

    /// What its sets are held to.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Tells the sink of endpoints, for as long as it is polled. Dropped when the upstream has gone or has another source.
    /// It must not block where it runs on the keeper's thread. After an error it is run again, after a pause that grows from
    /// one second to one minute; meanwhile the last good set stays.
    fn run<'a>(&'a mut self, sink: &'a Sink) -> Run<'a>;
}

/// Where a source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceThread {
    /// On the keeper's thread, beside the checks of all endpoints: for sources that only wait.
    Keeper,
    /// On a thread of its own: for client libraries that bring work, or may block.
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

/// A source that was made, and has not been run yet.
pub(super) struct BuiltSource {
    pub(super) source: Box<dyn Source>,
    pub(super) thread: SourceThread,
}

/// The source of an upstream. Until the configuration can name another, that is the fixed list.
pub(super) fn build(config: &model::Upstream) -> Result<BuiltSource, Problems> {
    let row = &SOURCES[0];
    Ok(BuiltSource { source: (row.build)(config)?, thread: row.thread })
}

/// A set, in the order in which the status shows it.
pub(super) type EndpointSpecs = Arc<[Arc<EndpointSpec>]>;
