//! `[upstreams.NAME]`: where requests are sent. Each of its tables is a file.

mod balancer;
mod breaker;
mod concurrency;
mod discover;
mod ejection;
mod endpoint;
mod fallback;
mod health;
mod hedge;
mod slow_start;
mod sticky;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proxy_protocol::ProxyVersion;
use super::retry::{GrpcStatus, Retry, codes};
use super::tls::{UpstreamTls, UpstreamTlsTable};
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, DurationOrOff, HeaderName, Text};
use balancer::Balancer;
use breaker::Breaker;
use concurrency::Concurrency;
use discover::Discover;
pub(crate) use discover::SOURCES;
use ejection::Ejection;
use endpoint::Endpoint;
use fallback::Fallback;
pub(super) use fallback::check_rings;
use health::Health;
use hedge::Hedge;
use slow_start::SlowStart;
use sticky::Sticky;

/// Where requests are sent: one or more endpoints that do the same.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Upstream {
    /// The endpoints: `"host:port"`, `"http://host"`, `"https://host"`, or a table with `address`, `weight`,
    /// `priority` and `zone`. Either this or `discover` is required.
    #[schemars(length(min = 1))]
    endpoints: Vec<Endpoint>,
    /// The source that supplies the endpoints, instead of a fixed list, e.g. `{ file = "endpoints.toml" }`,
    /// `{ dns = "users.internal:8080" }` or `{ kubernetes = "users" }`. A source that fails or reports an unusable set
    /// takes no endpoint away: the last good set stays in service.
    discover: Option<Discover>,
    /// The policy that picks among the endpoints: its kind alone, e.g. `round-robin`, or a table with its
    /// settings.
    balancer: Balancer,
    /// Sticky sessions: clients stay with their endpoint as long as it takes requests.
    sticky: Option<Sticky>,
    /// Slow start of endpoints that are new after a reload.
    slow_start: SlowStart,
    /// The gateway's own zone comes before other zones, priority 0 before 1: each takes all requests as long as
    /// this share of its endpoints is usable. Below, it takes proportionally fewer, and the next takes the rest.
    #[schemars(extend("exclusiveMinimum" = 0.0, "maximum" = 1.0))]
    spill_below: f64,
    /// If fewer than this share of all endpoints are usable, health is ignored: endpoints that checks or ejection
    /// have taken out get requests again, so that the remaining ones do not get all of them. Drained endpoints and
    /// open circuit breakers stay as they are. 0 means never.
    #[schemars(range(min = 0.0, max = 1.0))]
    panic_below: f64,
    /// The protocol spoken to the endpoints: `http1`, `http2` (by ALPN over TLS, by prior knowledge in cleartext), or `tcp` for
    /// routes that take connections: see [TCP and TLS passthrough](../tcp.md).
    protocol: Protocol,
    /// The version of the PROXY header, `v1` or `v2`, with which each connection to an endpoint begins, before TLS. It tells
    /// the endpoint the address of the client. With `http1` each request then gets a connection of its own; `http2` cannot
    /// have it.
    proxy_protocol: Option<ProxyVersion>,
    /// TLS towards the endpoints: `true`, or a table. Implied by `https://` endpoints.
    tls: Option<UpstreamTls>,
    /// Time for connecting, including TLS.
    connect_timeout: Text<Duration>,
    /// Time from the end of the request until the response head.
    first_byte_timeout: Text<Duration>,
    /// Time without a byte in either direction while a response is streamed, in tunnels, and in connections of TCP routes. With
    /// `protocol = "tcp"` the default is `"1h"`.
    idle_timeout: Text<DurationOrOff>,
    /// How long an idle connection is kept. Choose less than the endpoints' own timeout, to avoid requests on
    /// stale connections.
    keep_alive: Text<Duration>,
    /// The age at which a connection takes no further requests, less up to a tenth, so that connections which were
    /// opened together are not closed together. Requests in flight are finished. `"off"` means unlimited.
    max_connection_age: Text<DurationOrOff>,
    /// Idle connections kept for each endpoint and core.
    #[schemars(range(max = 100_000))]
    idle_connections: usize,
    /// The most header fields of a response, 1 to 10,000. A response with more is a 502. All of its head may have 128 KiB.
    #[schemars(range(min = 1, max = 10_000))]
    response_headers: usize,
    /// Open connections, over all cores. 0 means unlimited. Without it 1024, or four for each endpoint if that is
    /// more: with fewer than one for each core and endpoint, connections would be closed to make room for others.
    #[schemars(range(max = 10_000_000))]
    max_connections: Option<usize>,
    /// Requests in flight, over all cores. 0 means unlimited.
    #[schemars(range(max = 10_000_000))]
    max_requests: usize,
    /// Requests that may wait, over all cores: this many for a permit (`max_requests`, `concurrency`), and this
    /// many for a connection (`max_connections`). Further ones get 503.
    #[schemars(range(max = 10_000_000))]
    max_pending: usize,
    /// How long a request may wait for a permit, and again for a connection. A request whose route's `timeout`
    /// would end before a response is dropped sooner.
    pending_timeout: Text<Duration>,
    /// The circuit breaker of each endpoint.
    breaker: Breaker,
    /// Which requests are sent again, how often, and when.
    retry: Retry,
    /// Which slow requests are sent to another endpoint too. Without it, none.
    hedge: Option<Hedge>,
    /// A header by which a client states how many milliseconds it will wait, e.g. `x-request-timeout-ms`, and the
    /// endpoint is told how many are left. A client can only shorten the route's `timeout`. `grpc-timeout`, the
    /// header of gRPC, is always read and sent.
    deadline_header: Option<Text<HeaderName>>,
    /// A circuit breaker of the upstream as a whole, which counts the final results that callers get. Without this
    /// table there is none.
    upstream_breaker: Option<Breaker>,
    /// An adaptive limit on requests in flight. Without this table there is none.
    concurrency: Option<Concurrency>,
    /// What is done with requests that the upstream cannot take. Without this table they get 503.
    fallback: Option<Fallback>,
    /// Active checks of the endpoints. Without this table, only requests show the health of endpoints.
    health: Option<Health>,
    /// When endpoints that fail requests are ejected.
    ejection: Ejection,
    /// The gRPC statuses that are failures of the endpoint, for `breaker` and `ejection` and its `success_rate`. The
    /// default is `["unavailable"]`; `unknown`, `deadline-exceeded`, `internal` and `data-loss` may stand for failures too.
    /// A deadline that the caller has set never counts, and no gRPC status takes the last endpoint out of service.
    grpc_failures: Vec<GrpcStatus>,
}

/// The protocol spoken to endpoints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Protocol {
    Http1,
    Http2,
    Tcp,
}

/// The keys of an upstream that are about requests.
const OF_REQUESTS: [&str; 9] = [
    "sticky",
    "first_byte_timeout",
    "keep_alive",
    "max_connection_age",
    "idle_connections",
    "response_headers",
    "hedge",
    "deadline_header",
    "fallback",
];

/// `idle_timeout` of an upstream for connections: many protocols leave a connection idle for long.
const IDLE_CONNECTION: std::time::Duration = std::time::Duration::from_secs(3600);

impl Default for Upstream {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            discover: None,
            balancer: Balancer::default(),
            sticky: None,
            slow_start: SlowStart::default(),
            spill_below: 0.7,
            panic_below: 0.1,
            protocol: Protocol::Http1,
            proxy_protocol: None,
            tls: None,
            connect_timeout: Text::of("2s"),
            first_byte_timeout: Text::of("30s"),
            idle_timeout: Text::of("5m"),
            keep_alive: Text::of("60s"),
            max_connection_age: Text::of("1h"),
            idle_connections: 256,
            response_headers: 100,
            max_connections: None,
            max_requests: 0,
            max_pending: 1024,
            pending_timeout: Text::of("5s"),
            breaker: Breaker::default(),
            retry: Retry::default(),
            hedge: None,
            deadline_header: None,
            upstream_breaker: None,
            concurrency: None,
            fallback: None,
            health: None,
            ejection: Ejection::default(),
            grpc_failures: vec![GrpcStatus::Unavailable],
        }
    }
}

impl Section for Upstream {
    type Meant = model::Upstream;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Upstream> {
        check_protocol(&self.protocol, self.proxy_protocol, at, scope);
        let idle_timeout = match self.protocol {
            Protocol::Tcp if !scope.is_written(&child(at, "idle_timeout")) => Some(IDLE_CONNECTION),
            _ => self.idle_timeout.value.0.map(|idle| scope.check_positive(at, "idle_timeout", idle)),
        };
        let (endpoints, https) = endpoint::meant(self.endpoints, &child(at, "endpoints"), scope);
        let usual_connections = 1024.max(4 * endpoints.len());
        scope.exclude(at, &["endpoints", "discover"]);
        if self.discover.is_none() && !scope.is_written(&child(at, "endpoints")) {
            let hint = "write `endpoints = [\"host:port\"]`, or name a source of endpoints under `discover`";
            scope.report(at, "the upstream has neither `endpoints` nor `discover`", Some(hint.to_owned()));
        }
        let discover = self.discover.and_then(|discover| discover.meant(&child(at, "discover"), scope));
        let mut tls = tls(self.tls, https, &child(at, "tls"), scope);
        if let (Some(discover), Some(tls)) = (&discover, &mut tls) {
            discover::check_name(discover, tls, &child(at, "tls"), scope);
        }
        Some(model::Upstream {
            endpoints,
            discover,
            balancer: self.balancer.meant(&child(at, "balancer"), scope),
            sticky: self.sticky.map(|sticky| sticky.meant(&child(at, "sticky"), scope)),
            slow_start: self.slow_start.meant(&child(at, "slow_start"), scope),
            spill_below: self.spill_below,
            panic_below: self.panic_below,
            protocol: match self.protocol {
                Protocol::Http1 => model::UpstreamProtocol::Http1,
                Protocol::Http2 => model::UpstreamProtocol::Http2,
                Protocol::Tcp => model::UpstreamProtocol::Tcp,
            },
            proxy_protocol: self.proxy_protocol.map(model::ProxyVersion::from),
            tls,
            connect_timeout: scope.check_positive(at, "connect_timeout", self.connect_timeout.value.0),
            first_byte_timeout: scope.check_positive(
                at,
                "first_byte_timeout",
                self.first_byte_timeout.value.0,
            ),
            idle_timeout,
            keep_alive: self.keep_alive.value.0,
            max_connection_age: self
                .max_connection_age
                .value
                .0
                .map(|age| scope.check_positive(at, "max_connection_age", age)),
            idle_connections: self.idle_connections,
            response_headers: self.response_headers,
            max_connections: self.max_connections.unwrap_or(usual_connections),
            max_requests: self.max_requests,
            max_pending: self.max_pending,
            pending_timeout: self.pending_timeout.value.0,
            breaker: self.breaker.meant(&child(at, "breaker"), scope),
            retry: self.retry.meant(&child(at, "retry"), scope),
            hedge: self.hedge.and_then(|hedge| hedge.meant(&child(at, "hedge"), scope)),
            deadline_header: self.deadline_header.map(|name| name.value.0),
            upstream_breaker: self
                .upstream_breaker
                .map(|breaker| breaker.meant(&child(at, "upstream_breaker"), scope)),
            concurrency: self
                .concurrency
                .map(|concurrency| concurrency.meant(&child(at, "concurrency"), scope)),
            fallback: self.fallback.map(|fallback| fallback.meant(&child(at, "fallback"), scope)),
            health: self.health.and_then(|health| health.meant(&child(at, "health"), scope)),
            ejection: self.ejection.meant(&child(at, "ejection"), scope),
            grpc_failures: codes(&self.grpc_failures),
        })
    }
}

/// Checks what depends on the protocol.
fn check_protocol(protocol: &Protocol, proxy: Option<ProxyVersion>, at: &str, scope: &mut Scope) {
    if matches!(protocol, Protocol::Tcp) {
        for key in OF_REQUESTS {
            let at = child(at, key);
            if scope.is_written(&at) {
                let message = format!("`{key}` is about requests, but this upstream takes connections");
                scope.report_key(&at, message, Some("leave it out".to_owned()));
            }
        }
    }
    if matches!(protocol, Protocol::Http2) && proxy.is_some() {
        let hint = "leave it out, or use `protocol = \"http1\"`".to_owned();
        let message =
            "connections of HTTP/2 are shared by clients, so that they cannot begin with the address of one";
        scope.report_key(&child(at, "proxy_protocol"), message, Some(hint));
    }
}

/// `https` is `None` if the endpoints name no scheme.
fn tls(
    written: Option<UpstreamTls>,
    https: Option<bool>,
    at: &str,
    scope: &mut Scope,
) -> Option<model::UpstreamTls> {
    match (written, https) {
        (None, Some(true)) => UpstreamTls::Table(UpstreamTlsTable::default()).meant(at, scope),
        (None, _) => None,
        (Some(written), https) => {
            let tls = written.meant(at, scope);
            if https.is_some_and(|https| https != tls.is_some()) {
                let hint = Some("leave the scheme of the endpoints out, or this key".to_owned());
                scope.report_key(at, "`tls` contradicts the scheme of the endpoints", hint);
            }
            tls
        }
    }
}
