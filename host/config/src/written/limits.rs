//! `[gateway.limits]`, and `limits` of a listener.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::scalar::{Duration, DurationOrOff, Size, Text};

/// Limits on what clients may send. A request that exceeds one is refused with 413, 414, 431 or 408.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Limits {
    /// Open connections, over all cores. 0 means unlimited.
    connections: usize,
    /// Header fields of a request. The crumbs of an HTTP/2 cookie are counted one by one.
    #[schemars(range(min = 1, max = 10_000))]
    headers: usize,
    /// Bytes of a request's header section, with 32 bytes added for each field (RFC 9113 section 6.5.2).
    header_bytes: Text<Size>,
    /// Bytes of the request target.
    url_bytes: Text<Size>,
    /// Bytes of a request body. 0 means unlimited. A route may set its own limit with `body_limit`. Of a gRPC call over HTTP/2
    /// whose route has only upstreams of `protocol = "http2"`, bytes of each message; what is no gRPC message is refused there.
    body_bytes: Text<Size>,
    /// Concurrent HTTP/2 streams of a connection.
    #[schemars(range(min = 1, max = 100_000))]
    streams: u32,
    /// Time in which a request head must be complete.
    header_timeout: Text<Duration>,
    /// Time a connection may be idle between requests.
    keep_alive: Text<Duration>,
    /// Longest wait for the next piece of a request body, or for the client to accept the next piece of a
    /// response.
    body_timeout: Text<Duration>,
    /// Time for a TLS handshake.
    handshake_timeout: Text<Duration>,
    /// Age after which a connection is closed once no request is in flight, so that long-lived clients are spread
    /// over the cores again.
    max_connection_age: Text<DurationOrOff>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            headers: 100,
            header_bytes: Text::of("32KiB"),
            url_bytes: Text::of("8KiB"),
            body_bytes: Text::of("10MiB"),
            streams: 128,
            header_timeout: Text::of("10s"),
            keep_alive: Text::of("75s"),
            body_timeout: Text::of("30s"),
            handshake_timeout: Text::of("10s"),
            max_connection_age: Text::of("1h"),
        }
    }
}

impl Section for Limits {
    type Meant = model::Limits;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Limits> {
        // Below 1 KiB ordinary browsers fail; above 1 MiB a flood of heads would exhaust memory.
        scope.check_size(at, "header_bytes", self.header_bytes.value.0, (1 << 10, 1 << 20));
        scope.check_size(at, "url_bytes", self.url_bytes.value.0, (256, 64 << 10));
        Some(model::Limits {
            connections: self.connections,
            headers: self.headers,
            header_bytes: self.header_bytes.value.in_memory(),
            url_bytes: self.url_bytes.value.in_memory(),
            body_bytes: self.body_bytes.value.0,
            streams: self.streams,
            header_timeout: scope.check_positive(at, "header_timeout", self.header_timeout.value.0),
            keep_alive: scope.check_positive(at, "keep_alive", self.keep_alive.value.0),
            body_timeout: scope.check_positive(at, "body_timeout", self.body_timeout.value.0),
            handshake_timeout: scope.check_positive(at, "handshake_timeout", self.handshake_timeout.value.0),
            max_connection_age: self.max_connection_age.value.0,
        })
    }
}
