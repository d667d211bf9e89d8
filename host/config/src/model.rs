//! The configuration as meant: one type for each table of the file. Every name that refers to something was
//! checked to exist.

mod breaker;
mod broker;
mod cache;
mod concurrency;
mod data;
mod discover;
mod fallback;
mod grpc;
mod health;
mod plugin;
mod retry;
mod state;
mod tcp;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::scalar::CallerPattern;
use crate::settings::Settings;
pub use breaker::{Breaker, Statuses};
pub use broker::{Broker, Composed, Consumer, DeadLetter, Ordering, Piece, Publish};
pub use cache::{Cache, RouteCache, SetCookie, Share};
pub use concurrency::Concurrency;
pub use data::Data;
pub use discover::{
    ConsulSource, Discover, DiscoverySource, DnsLookup, DnsSource, EtcdSource, KubernetesSource,
    RegistryServers, SrvSource,
};
pub use fallback::{Answer, Fallback};
pub use grpc::{GrpcBridge, GrpcMethod, JsonForm, NamePattern, StreamForm, Transcode};
pub use health::{BodyCheck, Check, Ejection, Health, HttpCheck, OnUnhealthy, SuccessRate};
pub use plugin::{
    Binding, Budget, Conditions, Credentials, Grants, Instances, NoteGrants, OnFailure, Plugin, Quarantine,
    Reuse, Revert,
};
pub use retry::{Backoff, Hedge, HedgeAfter, Mirror, Retry, RetryBudget, RetryOn, RouteRetry};
pub use state::{Secret, State};
pub use tcp::{ListenerProtocol, OtherSources, ProxyProtocol, ProxyVersion, TcpForward};
pub use upstream::{
    Balancer, Endpoint, SameSite, SlowStart, Sticky, Upstream, UpstreamProtocol, UpstreamTls,
};

/// A complete configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Settings of the gateway as a whole.
    pub gateway: Gateway,
    /// The admin listener.
    pub admin: Admin,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
    /// The shared cache.
    pub cache: Cache,
    /// The listeners, by unique name; at least one unless [`Gateway::allow_empty`].
    pub listeners: Vec<Listener>,
    /// The routes, in the order written; the router orders them by specificity.
    pub routes: Vec<Route>,
    /// The named upstreams.
    pub upstreams: BTreeMap<String, Upstream>,
    /// The declared plugins.
    pub plugins: BTreeMap<String, Plugin>,
    /// The bindings: what routes, listeners and the gateway refer to.
    pub bindings: BTreeMap<String, Binding>,
    /// Where counters and the stores of plugins are kept.
    pub state: BTreeMap<String, State>,
    /// Read-only files for plugins.
    pub data: BTreeMap<String, Data>,
    /// Where messages are published to and consumed from.
    pub brokers: BTreeMap<String, Broker>,
    /// The consumers.
    pub consumers: BTreeMap<String, Consumer>,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Worker threads, with one runtime each; default: one for each core.
    pub workers: usize,
    /// The zone of the gateway; endpoints in the same zone are preferred.
    pub zone: Option<String>,
    /// Peers whose forwarding headers are accepted.
    pub trusted_proxies: Vec<IpNet>,
    /// Time between the failing of `/readyz` and the closing of the listeners.
    pub drain_delay: Duration,
    /// Time for requests in flight after the listeners are closed.
    pub drain_timeout: Duration,
    /// Time that a connection may be idle while the gateway drains; at most half of `drain_timeout`.
    pub drain_idle: Duration,
    /// The folder watched for plugins; relative plugin files are looked up here.
    pub plugin_folder: PathBuf,
    /// The folder for compiled plugins; `None`: no cache on disk.
    pub cache_folder: Option<PathBuf>,
    /// Limits on compiling one plugin.
    pub compile: CompileLimits,
    /// Whether a plugin that cannot be loaded keeps the gateway from starting.
    pub start: Start,
    /// Whether a configuration without routes or listeners is intended. Then there is no default listener.
    pub allow_empty: bool,
    /// Headers that carry the identity to upstreams. Removed from every client request.
    pub identity_headers: BTreeMap<String, IdentitySource>,
    /// Bindings that apply to every request.
    pub plugins: Vec<String>,
    /// Filters that apply to every request.
    pub filters: Vec<Filter>,
    /// The state in which draws are counted; `None`: the built-in one.
    pub counter: Option<String>,
    /// The secrets of the fleet: names are written with the first and read with all. Empty: there is none.
    pub secrets: Vec<Secret>,
    /// Limits on what clients may send, for listeners that do not set their own.
    pub limits: Limits,
    /// What is done with paths that contain `%2F`, `%5C` or a backslash.
    pub encoded_slashes: EncodedSlashes,
    /// Whether header names with underscores are accepted.
    pub underscores_in_headers: bool,
    /// Bytes of request bodies that are kept in memory at one time, over all cores.
    pub body_memory: usize,
}

/// `[gateway.compile]`: limits on compiling one plugin. The default is that of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, in whole seconds.
    pub cpu: Duration,
    /// Wall time.
    pub wall: Duration,
    /// Address space in bytes.
    pub memory: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { cpu: Duration::from_secs(120), wall: Duration::from_secs(300), memory: 4 << 30 }
    }
}

/// What an identity header contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The subject.
    Subject,
    /// The claim of this name; the header is absent if the identity has no such claim.
    Claim(String),
    /// The name of the binding that recognised the caller.
    Binding,
    /// The verified certificate of the client, in the form of the header `X-Forwarded-Client-Cert`.
    ClientCertificate,
}

/// `gateway.start`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// A plugin that cannot be loaded is an error (exit code 4).
    #[default]
    Strict,
    /// The gateway starts and the binding's `on_failure` applies until the plugin loads.
    Degraded,
}

/// What is done with paths that contain an encoded slash or backslash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlashes {
    /// Refused with 400.
    #[default]
    Refuse,
    /// Kept encoded, as an ordinary character of a segment.
    Opaque,
}

/// Limits on what clients may send. `[gateway.limits]`, and `limits` of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once over all cores; 0: unlimited.
    pub connections: usize,
    /// Header fields of a request; the crumbs of an HTTP/2 cookie are counted one by one.
    pub headers: usize,
    /// Bytes of a header section, with 32 bytes added for each field (RFC 9113 section 6.5.2).
    pub header_bytes: usize,
    /// Bytes of the request target.
    pub url_bytes: usize,
    /// Bytes of a request body; 0: unlimited.
    pub body_bytes: u64,
    /// Concurrent HTTP/2 streams of a connection.
    pub streams: u32,
    /// Time in which a request head must be complete.
    pub header_timeout: Duration,
    /// Time a connection may be idle between requests.
    pub keep_alive: Duration,
    /// Longest wait for the next piece of a request body, or for the client to accept the next piece of a
    /// response.
    pub body_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Age after which a connection is closed once no request is in flight; `None`: unlimited.
    pub max_connection_age: Option<Duration>,
}

/// `[admin]`
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address of the admin listener; `None`: only the socket.
    pub address: Option<SocketAddr>,
    /// Path of the Unix socket (mode 0600) for admin changes; `None`: no socket.
    pub socket: Option<PathBuf>,
    /// Bearer token that admin changes over TCP need; `None`: changes only by the socket.
    pub token: Option<String>,
    /// Bearer token that reading over TCP needs; `None`: everybody may read.
    pub read_token: Option<String>,
    /// Host names under which the admin listener may be addressed, besides IP addresses and `localhost`.
    pub hosts: Vec<String>,
}

/// Leaves out the tokens, so that they do not appear in logs.
impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Admin");
        shown.field("address", &self.address).field("socket", &self.socket).field("hosts", &self.hosts);
        shown.field("token", &self.token.as_ref().map(|_| "..."));
        shown.field("read_token", &self.read_token.as_ref().map(|_| "...")).finish()
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where the access log goes; `None`: it is off.
    pub access_log: Option<LogTarget>,
    /// Lines that the access log's queue holds; further lines are dropped and counted.
    pub access_log_queue: usize,
    /// The lowest level that the gateway's own log contains.
    pub log_level: LogLevel,
    /// OTLP over HTTP; `None`: no spans are exported, and trace headers are forwarded as received.
    pub otlp: Option<Otlp>,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to; reopened on reload.
    File(PathBuf),
}

/// Severity of the gateway's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are self-explanatory")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// `[telemetry.otlp]`
#[derive(Debug, Clone, PartialEq)]
pub struct Otlp {
    /// Name of the upstream that is the collector.
    pub upstream: String,
    /// Path of the trace endpoint; default `/v1/traces`.
    pub path: String,
    /// Share of new traces that are sampled, 0 to 1. The sampled flag of a received `traceparent` is honoured.
    pub sample: f64,
    /// `service.name`.
    pub service_name: String,
}

/// `[[listeners]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique name.
    pub name: String,
    /// Address to listen on.
    pub address: SocketAddr,
    /// The protocol that clients speak.
    pub protocol: ListenerProtocol,
    /// The PROXY header with which connections begin; `None`: they have none.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// TLS; `None`: cleartext.
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 is offered: by ALPN over TLS, by prior knowledge in cleartext.
    pub http2: bool,
    /// Whether clients may half-close the connection (TCP FIN, TLS `close_notify`) before they have read their
    /// responses. If not, a client that does so counts as gone.
    pub half_close: bool,
    /// When it stops accepting in a drain.
    pub drain: DrainOrder,
    /// Limits of this listener.
    pub limits: Limits,
    /// Bindings that apply to every request of this listener.
    pub plugins: Vec<String>,
    /// Filters that apply to every request of this listener.
    pub filters: Vec<Filter>,
}

/// `listeners.drain`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DrainOrder {
    /// At once.
    #[default]
    First,
    /// When no request and no tunnel is in flight on the listeners that drain first.
    Last,
}

/// `listeners.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificates, chosen by SNI among their names; the first is the default. Watched and reloaded.
    pub certificates: Vec<CertificateFiles>,
    /// CA certificates (PEM) against which client certificates are verified; `None`: none are requested.
    pub client_ca: Option<PathBuf>,
    /// Whether a client certificate must be presented.
    pub client_certificate_required: bool,
    /// What of a client certificate identifies the caller; `None`: it does not.
    pub client_identity: Option<ClientIdentity>,
    /// Whether TLS 1.2 is accepted.
    pub tls12: bool,
    /// The application protocols of a listener for TCP, which are those of its routes. HTTP listeners have their own.
    pub alpn: Vec<String>,
}

/// A certificate chain and its private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What of a verified client certificate identifies the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientIdentity {
    /// The distinguished name of its subject.
    Subject,
    /// Its only DNS name.
    Dns,
    /// Its only SPIFFE id, which is of this trust domain.
    Spiffe(String),
}

/// Which known callers may use a route. `deny` decides before `allow`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Callers {
    /// Those that may; empty: all that `deny` does not name.
    pub allow: Vec<CallerPattern>,
    /// Those that may not.
    pub deny: Vec<CallerPattern>,
    /// Whether a refusal is only logged.
    pub dry_run: bool,
}

/// `[[routes]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique name; default: derived from host and path.
    pub name: String,
    /// The conditions on a request. All of them must hold.
    pub matches: RouteMatch,
    /// What is done with the request.
    pub action: Action,
    /// Names of the listeners this route belongs to; empty: all.
    pub listeners: Vec<String>,
    /// Bindings of this route, in addition to those of listener and gateway.
    pub plugins: Vec<String>,
    /// Filters of this route, in addition to those of listener and gateway.
    pub filters: Vec<Filter>,
    /// Whether the caller must be authenticated.
    pub auth: Auth,
    /// Which callers may use it.
    pub callers: Callers,
    /// Time for the whole request until the end of the response; `None`: unlimited (streams).
    pub timeout: Option<Duration>,
    /// Limit of the request body in place of the listener's.
    pub body_bytes: Option<u64>,
    /// Whether runs of slashes in the path become one.
    pub merge_slashes: bool,
    /// The cache of its responses; `None`: nothing is stored.
    pub cache: Option<RouteCache>,
}

/// The conditions on a request that a route matches.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteMatch {
    /// Hosts, in lower case and without port: exact (`a.example`), or with a wildcard that stands for exactly one
    /// leading label (`*.example`). Empty: any.
    pub hosts: Vec<String>,
    /// The path; `None`: any.
    pub path: Option<PathMatch>,
    /// Methods; empty: any.
    pub methods: Vec<String>,
    /// Header conditions.
    pub headers: Vec<FieldMatch>,
    /// Query parameter conditions.
    pub query: Vec<FieldMatch>,
    /// The methods of gRPC, of which the path is the name; `None`: any path.
    pub grpc: Option<GrpcMethod>,
}

/// A path condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path, e.g. `/users`, or with parameters, `/users/{id}`, or with a wildcard tail, `/files/{*rest}`.
    Pattern(String),
    /// A prefix that ends at a segment boundary; written `/api/*` or as `prefix = "/api"`.
    Prefix(String),
}

impl PathMatch {
    /// The path as text, in normal form; of a prefix without the `/*`.
    pub fn text(&self) -> &str {
        match self {
            Self::Pattern(text) | Self::Prefix(text) => text,
        }
    }
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// The name; headers in lower case.
    pub name: String,
    /// The condition on its value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// The field is present.
    Present,
    /// The field is absent.
    Absent,
    /// Equal.
    Exact(String),
    /// Begins with.
    Prefix(String),
    /// Matches a regular expression (linear time) as a whole.
    Regex(String),
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Forwards to an upstream.
    Forward(Forward),
    /// Redirects.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// The target; `{name}` stands for path parameters, `{path}` for the request's path, `{query}` for `?` and its
        /// query (nothing if there is none), `{host}` for its host without port.
        location: String,
    },
    /// Forwards connections. Such a route has no other conditions than this has, and no filters; `timeout` is the longest
    /// time of a session, and `listeners` are all its listeners.
    Tcp(TcpForward),
    /// Publishes a message.
    Publish(Publish),
    /// Responds by itself.
    Respond {
        /// 200 to 599.
        status: u16,
        /// Header names and values.
        headers: Vec<(String, String)>,
        /// The body.
        body: String,
    },
}

/// Forwarding to one of several upstreams.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// Upstream names with weights; at least one of weight above 0.
    pub upstreams: Vec<(String, u32)>,
    /// The path for the upstream.
    pub rewrite: Rewrite,
    /// Whether the upstream gets the client's `Host`, instead of the endpoint's.
    pub preserve_host: bool,
    /// Settings in place of the `retry` of the upstream.
    pub retry: RouteRetry,
    /// Where copies of the requests go; `None`: no copies are made.
    pub mirror: Option<Mirror>,
    /// The protocols that are translated to gRPC.
    pub bridge: GrpcBridge,
    /// How JSON is translated to gRPC; `None`: it is not.
    pub transcode: Option<Box<Transcode>>,
}

/// How the path is changed for the upstream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rewrite {
    /// It is not changed.
    #[default]
    Keep,
    /// This prefix is removed.
    StripPrefix(String),
    /// It is replaced by a template with `{name}` for path parameters. The query is kept.
    Template(String),
}

/// `routes.auth`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// One authentication binding must recognise the caller, if any applies. The default.
    #[default]
    Required,
    /// A caller without identity is accepted.
    Optional,
    /// Every authentication binding must recognise the caller.
    All,
}

/// One use of a native filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The kind, e.g. `cors`. The proxy checks that it exists.
    pub kind: String,
    /// Its settings.
    pub settings: Settings,
}

/// Whether an address belongs to one of the networks.
pub fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}
