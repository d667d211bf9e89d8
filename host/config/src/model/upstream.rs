//! What is meant by an upstream.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::health::{Ejection, Health};
use super::{Breaker, CertificateFiles, Concurrency, Fallback, Hedge, Retry};

use crate::settings::Settings;

/// `[upstreams.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// The policy that picks among them.
    pub balancer: Balancer,
    /// Whether clients stay with their endpoint, and how.
    pub sticky: Option<Sticky>,
    /// How new endpoints come in; none: with all their weight at once.
    pub slow_start: Option<SlowStart>,
    /// The share of usable endpoints, above 0 and up to 1, below which the next zone or priority takes over gradually.
    pub spill_below: f64,
    /// The share of usable endpoints, 0 to 1, below which health is not believed any more.
    pub panic_below: f64,
    /// The protocol spoken to the endpoints.
    pub protocol: UpstreamProtocol,
    /// TLS towards the endpoints; none: cleartext.
    pub tls: Option<UpstreamTls>,
    /// Time for connecting, TLS included.
    pub connect_timeout: Duration,
    /// Time from the end of the request head until the response head.
    pub first_byte_timeout: Duration,
    /// Time without a byte in either direction while a response is streamed; also for tunnels. None: unlimited.
    pub idle_timeout: Option<Duration>,
    /// How long an unused connection is kept.
    pub keep_alive: Duration,
    /// Unused connections kept for each endpoint and core.
    pub idle_connections: usize,
    /// Connections at once over all cores; 0: unlimited.
    pub max_connections: usize,
    /// Requests in flight at once over all cores; 0: unlimited.
    pub max_requests: usize,
    /// Requests that may wait over all cores, for their turn and for a connection each.
    pub max_pending: usize,
    /// How long a request may wait for its turn, and again for a connection.
    pub pending_timeout: Duration,
    /// The circuit breaker of each endpoint.
    pub breaker: Breaker,
    /// What is sent again.
    pub retry: Retry,
    /// What is sent to another endpoint too when it takes long; none: nothing.
    pub hedge: Option<Hedge>,
    /// The header, in lower case, by which a client says and the endpoint is told how many milliseconds are left; none:
    /// there is no such header.
    pub deadline_header: Option<String>,
    /// The circuit breaker of the upstream as a whole.
    pub upstream_breaker: Option<Breaker>,
    /// The limit on requests in flight that finds itself.
    pub concurrency: Option<Concurrency>,
    /// What is done with requests it cannot take.
    pub fallback: Option<Fallback>,
    /// Active checks of the endpoints; none: only requests show how they are.
    pub health: Option<Health>,
    /// When endpoints that fail requests are left out for a while.
    pub ejection: Ejection,
}

/// One endpoint of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Share relative to its siblings; 0 takes no new requests.
    pub weight: u32,
    /// 0 comes first; the next takes what those before it cannot.
    pub priority: u32,
    /// Where it is.
    pub zone: Option<String>,
}

/// A balancing policy with its settings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Balancer {
    /// Its kind, e.g. `round-robin`. Whether it exists is known to the proxy.
    pub kind: String,
    /// Its settings, which its owner parses.
    pub settings: Settings,
}

/// Sticky sessions: a signed cookie leads a client back to its endpoint.
#[derive(Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The name of the cookie.
    pub cookie: String,
    /// Its `Path`.
    pub path: String,
    /// How long it leads back; none: as long as the browser keeps it.
    pub ttl: Option<Duration>,
    /// Its `SameSite`.
    pub same_site: SameSite,
    /// What it is signed with; none: a random key of the process.
    pub key: Option<String>,
}

/// The key stays out of logs.
impl fmt::Debug for Sticky {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Sticky");
        shown.field("cookie", &self.cookie).field("path", &self.path).field("ttl", &self.ttl);
        shown.field("same_site", &self.same_site).field("key", &self.key.as_ref().map(|_| "...")).finish()
    }
}

/// To which requests of other sites a browser adds a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// To none.
    Strict,
    /// To those that lead the user here.
    Lax,
    /// To all. Browsers want `Secure` with it.
    None,
}

/// How the weight of an endpoint grows while it is new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// The time until it has all of its weight.
    pub window: Duration,
    /// The share of its weight that it begins with, above 0 and up to 1.
    pub least: f64,
    /// Whether an endpoint that has recovered is new again.
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
}

/// TLS towards endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The name sent as SNI and checked in the certificate; default: the endpoint's host.
    pub server_name: Option<String>,
    /// CA certificates, PEM; none: those of the system.
    pub ca: Option<PathBuf>,
    /// The gateway's own certificate.
    pub client_certificate: Option<CertificateFiles>,
    /// Whether certificates are taken unverified. For tests of the operator's only; logged as a warning.
    pub insecure_skip_verify: bool,
}
