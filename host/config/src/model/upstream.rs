//! What is meant by an upstream.

use std::path::PathBuf;
use std::time::Duration;

use super::CertificateFiles;

/// `[upstreams.NAME]`
#[derive(Debug, Clone, PartialEq)]
pub struct Upstream {
    /// Its endpoints, at least one.
    pub endpoints: Vec<Endpoint>,
    /// The policy that picks among them, e.g. `round-robin`. Whether it exists is known to the proxy.
    pub balancer: String,
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
    /// Requests that may wait for a connection over all cores.
    pub max_pending: usize,
    /// How long a request may wait for a connection.
    pub pending_timeout: Duration,
    /// The circuit breaker of each endpoint.
    pub breaker: Breaker,
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

/// A first circuit breaker: consecutive failures open it, one probe at a time closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// Failures in a row that open it; 0: never.
    pub consecutive_failures: u32,
    /// How long it stays open before a probe is let through.
    pub open_for: Duration,
}
