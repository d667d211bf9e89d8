//! The settings of an upstream.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::health::{Ejection, Health};
use super::{Breaker, CertificateFiles, Concurrency, Discover, Fallback, Hedge, ProxyVersion, Retry};

use crate::scalar::SpiffePattern;
use crate::settings::Settings;

/// `[upstreams.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// The fixed list of its endpoints; empty only if they come from a source.
    pub endpoints: Vec<Endpoint>,
    /// The source of its endpoints; `None`: the fixed list.
    pub discover: Option<Discover>,
    /// The policy that picks among them.
    pub balancer: Balancer,
    /// Sticky sessions, if clients are to stay with their endpoint.
    pub sticky: Option<Sticky>,
    /// Slow start of new endpoints; `None`: they get their full weight at once.
    pub slow_start: Option<SlowStart>,
    /// The share of usable endpoints, above 0 and up to 1, below which the next zone or priority takes over gradually.
    pub spill_below: f64,
    /// The share of usable endpoints, 0 to 1, below which health is ignored.
    pub panic_below: f64,
    /// The protocol spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// The version of the PROXY header with which connections begin; `None`: they have none.
    pub proxy_protocol: Option<ProxyVersion>,
    /// TLS towards the endpoints; `None`: cleartext.
    pub tls: Option<UpstreamTls>,
    /// Time for connecting, including TLS.
    pub connect_timeout: Duration,
    /// Time from the end of the request until the response head.
    pub first_byte_timeout: Duration,
    /// Time without a byte in either direction while a response is streamed, and in tunnels. `None`: unlimited.
    pub idle_timeout: Option<Duration>,
    /// How long an idle connection is kept.
    pub keep_alive: Duration,
    /// The age at which a connection takes no further requests; `None`: unlimited.
    pub max_connection_age: Option<Duration>,
    /// Idle connections kept for each endpoint and core.
    pub idle_connections: usize,
    /// The most fields of a response head; at least 1.
    pub response_headers: usize,
    /// Connections at once over all cores; 0: unlimited.
    pub max_connections: usize,
    /// Requests in flight at once over all cores; 0: unlimited.
    pub max_requests: usize,
    /// Requests that may wait, over all cores, for a permit, and the same number for a connection.
    pub max_pending: usize,
    /// How long a request may wait for a permit, and again for a connection.
    pub pending_timeout: Duration,
    /// The circuit breaker of each endpoint.
    pub breaker: Breaker,
    /// Which requests are sent again.
    pub retry: Retry,
    /// Which slow requests are sent to another endpoint too; `None`: none.
    pub hedge: Option<Hedge>,
    /// The header, in lower case, by which a client states and the endpoint is told how many milliseconds are
    /// left; `None`: there is no such header.
    pub deadline_header: Option<String>,
    /// The circuit breaker of the upstream as a whole.
    pub upstream_breaker: Option<Breaker>,
    /// The adaptive limit on requests in flight.
    pub concurrency: Option<Concurrency>,
    /// What is done with requests that the upstream cannot take.
    pub fallback: Option<Fallback>,
    /// Active checks of the endpoints; `None`: only requests show their health.
    pub health: Option<Health>,
    /// When endpoints that fail requests are ejected.
    pub ejection: Ejection,
    /// The gRPC status codes that are failures of the endpoint.
    pub grpc_failures: Vec<u8>,
}

/// One endpoint of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Weight relative to the other endpoints; 0 takes no new requests.
    pub weight: u32,
    /// 0 is preferred; the next priority takes what the endpoints before it cannot.
    pub priority: u32,
    /// Its zone.
    pub zone: Option<String>,
}

/// A balancing policy with its settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Balancer {
    /// Its kind, e.g. `round-robin`. The proxy checks that it exists.
    pub kind: String,
    /// Its settings, which its owner parses.
    pub settings: Settings,
}

/// Sticky sessions: a signed cookie binds a client to its endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: String,
    /// Its `Path`.
    pub path: String,
    /// How long it is valid; `None`: until the browser ends.
    pub ttl: Option<Duration>,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// The key it is signed with; `None`: a random key of the process.
    pub key: Option<String>,
}

/// Leaves out the key, so that it does not appear in logs.
impl fmt::Debug for Sticky {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Sticky");
        shown.field("cookie", &self.cookie).field("path", &self.path).field("ttl", &self.ttl);
        shown.field("same_site", &self.same_site).field("key", &self.key.as_ref().map(|_| "...")).finish()
    }
}

/// With which requests of other sites a browser sends a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// With none.
    Strict,
    /// With those that navigate to this site.
    Lax,
    /// With all. Browsers require `Secure` for it.
    None,
}

/// How the weight of an endpoint grows while it is new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// The time until it has its full weight.
    pub window: Duration,
    /// The share of its weight that it starts with, above 0 and up to 1.
    pub least: f64,
    /// Whether an endpoint that has recovered starts slowly again.
    pub after_recovery: bool,
}

/// The protocol spoken to endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2: by ALPN over TLS, by prior knowledge in cleartext.
    Http2,
    /// Any: the connections of clients are forwarded, one for one.
    Tcp,
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name sent as SNI and checked in the certificate; default: the endpoint's host.
    pub server_name: Option<String>,
    /// CA certificates, PEM; `None`: those of the system.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate.
    pub client_certificate: Option<CertificateFiles>,
    /// The SPIFFE ids that endpoints may have; empty: the name of the endpoint is checked instead.
    pub spiffe_ids: Vec<SpiffePattern>,
    /// Whether certificates are accepted without verification. For tests only; logged as a warning.
    pub insecure_skip_verify: bool,
}
