//! The interface of sources of endpoints, and of the resolver of host names.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use witgate_config::{Problems, model};

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
    pub fn borrowed_key(&self) -> (&str, u16, Option<&str>) {
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

/// A change of the set that the source reported last.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// New endpoints, and endpoints of which something has changed.
    pub changed: Vec<EndpointSpec>,
    /// Endpoints that are gone. Unknown keys are ignored.
    pub gone: Vec<Key>,
}

/// Why a set was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// The set has more endpoints than are allowed. None of the changed endpoints was accepted, so a source that
    /// reports differences should report a whole set next.
    TooMany {
        /// The number of endpoints.
        endpoints: usize,
        /// The allowed number.
        most: usize,
    },
    /// Too few endpoints of the set are ready or serving. Later differences apply to this set all the same.
    TooFew {
        /// The number of endpoints that are ready or serving, and allowed.
        serving: usize,
        /// The required number.
        least: usize,
    },
}

impl std::fmt::Display for Refused {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refused::TooMany { endpoints, most } => {
                write!(
                    formatter,
                    "a set of {endpoints} endpoints was refused: {most} are allowed (`max_endpoints`)"
                )
            }
            Refused::TooFew { serving, least } => write!(
                formatter,
                "a set was refused in which {serving} endpoints serve: at least {least} must (`min_endpoints`)"
            ),
        }
    }
}

impl std::error::Error for Refused {}

/// Receives the sets of a source. Usable from any thread; no function waits.
pub trait EndpointSink: Send + Sync {
    /// Reports all endpoints. Endpoints that are malformed or not allowed are left out. Of several endpoints with
    /// the same key the one with the best readiness is used; among equals, the last one.
    ///
    /// # Errors
    /// The set is outside the limits. The last good set stays in service.
    fn whole(&self, endpoints: Vec<EndpointSpec>) -> Result<(), Refused>;

    /// Reports a change of the set reported last. Before the first set, that is the empty set.
    ///
    /// # Errors
    /// The resulting set is outside the limits. The last good set stays in service.
    fn difference(&self, difference: Difference) -> Result<(), Refused>;

    /// Reports that the last set is still current.
    fn confirm(&self);

    /// Reports that the source failed, and why. The last good set stays in service.
    fn failed(&self, why: String);
}

/// A running source. It ends with `Ok` if its set can no longer change, and with a reason if it should be run
/// again.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + 'a>>;

/// Supplies the endpoints of one upstream.
pub trait Source: Send {
    /// The set with which the upstream starts, if the source knows one without waiting for anybody. Called on the
    /// control plane, which may read a file. The set is checked as any other.
    fn known(&self) -> Vec<EndpointSpec> {
        Vec::new()
    }

    /// Passes sets to the sink. The future is dropped when the upstream is removed or gets another source. On the
    /// keeper's thread it must not block. After an error it is run again, after a pause that grows from one second
    /// to one minute; until then the last good set stays in service.
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a>;
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
    /// Its name, as in the configuration.
    pub kind: &'static str,
    /// When to choose it, in one sentence.
    pub summary: &'static str,
    /// Where it runs.
    pub thread: SourceThread,
    /// Makes the source of an upstream. It connects to nothing before it runs. The keys of problems are relative to the
    /// settings of the source.
    pub build: fn(&model::DiscoverySource) -> Result<Box<dyn Source>, Problems>,
}

/// Keeps the last good set of each upstream for the next process, which uses it while the source cannot be reached.
pub trait SavedSets: Send + Sync {
    /// The set that was saved for an upstream with this source. `None` if there is none that can be trusted. Called
    /// on the control plane, since it reads a file.
    fn load(&self, upstream: &str, source: &model::DiscoverySource) -> Option<SavedSet>;

    /// Saves a set that its source has just reported or confirmed. Writes a file.
    ///
    /// # Errors
    /// Why it cannot be saved.
    fn save(
        &self,
        upstream: &str,
        source: &model::DiscoverySource,
        endpoints: &[Arc<EndpointSpec>],
    ) -> Result<(), String>;
}

/// A set that an earlier process has saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSet {
    /// The endpoints.
    pub endpoints: Vec<EndpointSpec>,
    /// The time since it was saved.
    pub age: Duration,
}

/// Looks up the addresses of the host names in fixed lists of endpoints. It is never called on a core.
pub trait Resolver: Send + Sync {
    /// The addresses of a host name.
    ///
    /// # Errors
    /// The name has no address, or nobody answered; a sentence without its end.
    fn resolve(&self, host: String) -> Pin<Box<dyn Future<Output = Result<Resolved, String>> + Send>>;
}

/// The addresses of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// At least one.
    pub addresses: Vec<IpAddr>,
    /// How long they may be used without looking the name up again.
    pub valid_for: Duration,
}
