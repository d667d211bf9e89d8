//! The configuration as meant.
//!
//! Cut by section, one type for each table of the file. All names that refer to something have been checked to exist.

mod breaker;
mod concurrency;
mod fallback;
mod health;
mod retry;
mod upstream;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::settings::Settings;
pub use breaker::{Breaker, Statuses};
pub use concurrency::Concurrency;
pub use fallback::{Answer, CachedAnswers, Fallback};
pub use health::{BodyCheck, Check, Ejection, Health, HttpCheck, SuccessRate};
pub use retry::{Backoff, Hedge, HedgeAfter, Mirror, Retry, RetryBudget, RetryOn, RouteRetry};
pub use upstream::{
    Balancer, Endpoint, SameSite, SlowStart, Sticky, Upstream, UpstreamProtocol, UpstreamTls,
};

/// Everything a gateway is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What belongs to the whole gateway.
    pub gateway: Gateway,
    /// The admin listener.
    pub admin: Admin,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
    /// The doors, at least one, by unique name.
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
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Worker threads, one runtime each; default: one a core.
    pub workers: usize,
    /// Where the gateway is; endpoints in the same zone come first.
    pub zone: Option<String>,
    /// Peers whose forwarded headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Time between the failing of `/readyz` and the closing of the listeners.
    pub drain_delay: Duration,
    /// Time that requests in flight have once the listeners are closed.
    pub drain_timeout: Duration,
    /// Time that a connection may be idle once the gateway drains; at most half of `drain_timeout`.
    pub drain_idle: Duration,
    /// The folder watched for plugins; relative plugin files are looked up here.
    pub plugin_folder: PathBuf,
    /// Where compiled plugins are kept; none: no cache on disk.
    pub cache_folder: Option<PathBuf>,
    /// What compiling one plugin may take.
    pub compile: CompileLimits,
    /// Whether a plugin that cannot be loaded keeps the gateway from starting.
    pub start: Start,
    /// Whether a configuration without routes or listeners is meant. Then there is no default listener.
    pub allow_empty: bool,
    /// Headers that carry the identity to upstreams. Stripped from every client request.
    pub identity_headers: BTreeMap<String, IdentitySource>,
    /// Bindings that apply to every request.
    pub plugins: Vec<String>,
    /// Filters that apply to every request.
    pub filters: Vec<Filter>,
    /// The state in which draws are counted; none: the one that is always there.
    pub counter: Option<String>,
    /// Limits on what clients may send, for listeners that do not set their own.
    pub limits: Limits,
    /// What happens to paths with `%2F`, `%5C` or a backslash.
    pub encoded_slashes: EncodedSlashes,
    /// Whether header names with underscores are let in.
    pub underscores_in_headers: bool,
}

/// `[gateway.compile]`: what compiling one plugin may take. The default is that of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompileLimits {
    /// CPU time, in whole seconds.
    pub cpu: Duration,
    /// Time by the clock.
    pub wall: Duration,
    /// Address space in bytes.
    pub memory: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        CompileLimits { cpu: Duration::from_secs(120), wall: Duration::from_secs(300), memory: 4 << 30 }
    }
}

/// What an identity header carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdentitySource {
    /// The subject.
    Subject,
    /// The claim of this name; the header is absent if the identity has no such claim.
    Claim(String),
    /// The name of the binding that recognised the caller.
    Binding,
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

/// What to do with paths in which a slash or backslash hides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlashes {
    /// Answered with 400.
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
    /// Header fields of a request, cookie crumbs of HTTP/2 counted one by one.
    pub headers: usize,
    /// Bytes of a header section, each field counted with 32 bytes more (RFC 9113 section 6.5.2).
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
    /// Time in which the next piece of a request body, or room for the next piece of a response, must come.
    pub body_timeout: Duration,
    /// Time for a TLS handshake.
    pub handshake_timeout: Duration,
    /// Age after which a connection is closed at the next request boundary; none: never.
    pub max_connection_age: Option<Duration>,
}

/// `[admin]`
#[derive(Clone, PartialEq, Eq)]
pub struct Admin {
    /// The address of the admin listener; none: only the socket.
    pub address: Option<SocketAddr>,
    /// Path of the Unix socket (mode 0600) for admin changes; none: no socket.
    pub socket: Option<PathBuf>,
    /// Bearer token that admin changes over TCP need; none: changes only by the socket.
    pub token: Option<String>,
    /// Names under which the admin listener may be addressed, beside IP literals and `localhost`.
    pub hosts: Vec<String>,
}

/// The token stays out of logs.
impl fmt::Debug for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("Admin");
        shown.field("address", &self.address).field("socket", &self.socket).field("hosts", &self.hosts);
        shown.field("token", &self.token.as_ref().map(|_| "...")).finish()
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Where the access log goes; none: it is off.
    pub access_log: Option<LogTarget>,
    /// Lines the access log's queue holds before it drops and counts.
    pub access_log_queue: usize,
    /// The least level of the gateway's own log.
    pub log_level: LogLevel,
    /// OTLP over HTTP; none: spans are not sent, trace context is propagated all the same.
    pub otlp: Option<Otlp>,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to; opened again on reload.
    File(PathBuf),
}

/// Severity of the gateway's own log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
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
    /// Share of new traces that are sampled, 0 to 1. A sampled flag that comes in is honoured.
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
    /// TLS; none: cleartext.
    pub tls: Option<ListenerTls>,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, by prior knowledge in cleartext.
    pub http2: bool,
    /// Whether clients may send their last byte (TCP FIN, TLS `close_notify`) before they have read their answers. Where
    /// they may not, one that does so is taken to have left.
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
    /// When no request and no tunnel is left on the listeners that drain first.
    Last,
}

/// `listeners.tls`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// Certificates; chosen by SNI among the names in them, the first is the default. Watched and reloaded.
    pub certificates: Vec<CertificateFiles>,
    /// CA certificates (PEM) against which client certificates are verified; none: none are asked for.
    pub client_ca: Option<PathBuf>,
    /// Whether a client certificate must be presented.
    pub client_certificate_required: bool,
    /// Whether TLS 1.2 is still spoken.
    pub tls12: bool,
}

/// A certificate chain and its private key, PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// `[[routes]]`
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Unique name; default: derived from host and path.
    pub name: String,
    /// What a request must be like. All parts must hold.
    pub matches: RouteMatch,
    /// What is done with it.
    pub action: Action,
    /// Names of the listeners this route belongs to; empty: all.
    pub listeners: Vec<String>,
    /// Bindings of this route, beside those of listener and gateway.
    pub plugins: Vec<String>,
    /// Filters of this route, beside those of listener and gateway.
    pub filters: Vec<Filter>,
    /// Whether a caller must be known.
    pub auth: Auth,
    /// Time for the whole request until the response head and body are through; none: unlimited (streams).
    pub timeout: Option<Duration>,
    /// Limit of the request body that differs from the listener's.
    pub body_bytes: Option<u64>,
}

/// What a request must be like to match a route.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteMatch {
    /// Hosts, lower-case without port: exact (`a.example`), or with a wildcard that stands for exactly one leading label
    /// (`*.example`). Empty: any.
    pub hosts: Vec<String>,
    /// The path; none: any.
    pub path: Option<PathMatch>,
    /// Methods; empty: any.
    pub methods: Vec<String>,
    /// Header conditions.
    pub headers: Vec<FieldMatch>,
    /// Query parameter conditions.
    pub query: Vec<FieldMatch>,
}

/// A path condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path, e.g. `/users`, or with parameters, `/users/{id}`, or with a wildcard tail, `/files/{*rest}`.
    Pattern(String),
    /// A prefix that ends at a segment boundary; written `/api/*` or as `prefix = "/api"`.
    Prefix(String),
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMatch {
    /// The name; headers in lower case.
    pub name: String,
    /// What its value must be like.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueMatch {
    /// The field is there.
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

/// What a route does.
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
    /// Answers by itself.
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
    /// What the upstream sees as path.
    pub rewrite: Rewrite,
    /// Whether the upstream sees the client's `Host`; otherwise the endpoint's.
    pub preserve_host: bool,
    /// What the route wants otherwise than the `retry` of its upstream.
    pub retry: RouteRetry,
    /// Who gets copies of the requests; none: nobody.
    pub mirror: Option<Mirror>,
}

/// What becomes of the path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Rewrite {
    /// It stays.
    #[default]
    Keep,
    /// The prefix of a prefix match, or this one, is cut off.
    StripPrefix(String),
    /// Replaced by a template with `{name}` for path parameters. The query stays.
    Template(String),
}

/// `routes.auth`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Auth {
    /// One authentication binding must recognise the caller, if any applies. The default.
    #[default]
    Required,
    /// An unknown caller goes through without identity.
    Optional,
    /// Every authentication binding must recognise the caller.
    All,
}

/// One use of a native filter.
#[derive(Debug, Clone, PartialEq)]
pub struct Filter {
    /// The kind, e.g. `cors`. Whether it exists is known to the proxy.
    pub kind: String,
    /// Its settings.
    pub settings: Settings,
}

/// `[plugins.NAME]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plugin {
    /// The component, absolute or relative to the plugin folder.
    pub file: PathBuf,
    /// The SHA-256 the file must have, 32 bytes; none: any.
    pub digest: Option<[u8; 32]>,
    /// Bytes its store may hold, all spaces together.
    pub store_bytes: usize,
    /// The state in which its store is kept; none: the one that is always there.
    pub state: Option<String>,
}

/// `[state.NAME]`: where counters and the stores of plugins are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Which kind it is.
    pub kind: String,
    /// What only the kind understands.
    pub settings: Settings,
}

/// `[bindings.NAME]`: a plugin with settings, rights and budgets.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Name of the declared plugin.
    pub plugin: String,
    /// Settings for `lifecycle.configure`.
    pub settings: Settings,
    /// Objects it may use.
    pub grants: Grants,
    /// What becomes of a request whose call failed.
    pub on_failure: OnFailure,
    /// Whether its answers may be used again without a call, where the plugin says so.
    pub remember: bool,
    /// What one call, or one instance, may use.
    pub budget: Budget,
    /// Instances.
    pub instances: Instances,
    /// When it is taken out of service; none: never.
    pub quarantine: Option<Quarantine>,
    /// When a new version is taken back.
    pub revert: Revert,
}

/// Rights name their objects; all else is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grants {
    /// Upstreams `fetch` may use. None: nobody decided, and a plugin that imports `fetch` is refused. Empty: it may
    /// import it, and every use is denied.
    pub fetch: Option<Vec<String>>,
    /// Spaces of the store. None and empty: as for `fetch`.
    pub store: Option<Vec<String>>,
    /// Upstreams the routing contract may choose.
    pub route_to: Vec<String>,
}

/// The declared outcome of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// 503, code `plugin-failed`.
    #[default]
    Deny,
    /// As if the binding were not there; in authentication, "not mine".
    Skip,
}

/// Budgets of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// CPU time of one call.
    pub cpu: Duration,
    /// Wall time of one call, waits in `fetch` included.
    pub wall: Duration,
    /// Bytes of linear memory of an instance.
    pub memory: usize,
    /// Elements of all tables of an instance.
    pub table_elements: usize,
    /// Host calls in one call.
    pub host_calls: u32,
    /// Log lines a second, over all cores.
    pub log_lines: u32,
    /// Bytes a call may return.
    pub output: usize,
    /// Bytes of a buffered or decoded body.
    pub body_limit: usize,
    /// Bytes of context.
    pub context_limit: usize,
    /// Bytes of a response to `fetch`.
    pub fetch_limit: usize,
}

/// Instances of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instances {
    /// Kept ready on each core.
    pub min_idle: usize,
    /// At most so many on each core.
    pub max: usize,
    /// How long a call may wait for one.
    pub queue_timeout: Duration,
    /// Calls that may wait on each core.
    pub queue: usize,
    /// Whether instances are used again.
    pub reuse: Reuse,
    /// Calls after which an instance is replaced.
    pub max_uses: u64,
}

/// Whether instances are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reuse {
    /// One call after the other.
    #[default]
    Serial,
    /// A new one for every request.
    Fresh,
}

/// A binding whose killed calls burn a core, or whose calls nearly all fail, rests: `on_failure` applies without a call,
/// with one probe at a time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Quarantine {
    /// CPU time that calls that failed may burn within the window, as a share of one core; above 0.
    pub share: f64,
    /// The window in which CPU time and calls are counted.
    pub window: Duration,
    /// Calls within the window of which nine in ten must have failed; at least 1.
    pub min_calls: u32,
    /// How long it rests before a probe.
    pub rest: Duration,
}

/// A new version that fails clearly more often than the one before it is replaced by that one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Revert {
    /// Calls that are watched; 0: never reverts.
    pub calls: u32,
    /// For how long they are watched.
    pub time: Duration,
    /// Share of failed calls that reverts where the version before kept below it, above 0 to 1.
    pub failure_ratio: f64,
}

/// Whether an address belongs to one of the nets.
pub fn contains(nets: &[IpNet], address: IpAddr) -> bool {
    nets.iter().any(|net| net.contains(&address))
}
