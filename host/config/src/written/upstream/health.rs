//! `upstreams.NAME.health`: active health checks.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, HeaderName, Method, Scalar, Size, StatusRange, Text};
use crate::written::Scope;
use crate::written::one_or_many::OneOrMany;

/// Active checks of each endpoint, on connections of their own, with the TLS of the upstream. An unhealthy
/// endpoint gets no requests. Until its first check is over, an endpoint counts as healthy; the first check
/// decides alone, the thresholds apply from then on. One of `http`, `grpc` and `tcp` says what is checked.
/// Requests of checks carry a `traceparent` that is not sampled, so that services do not trace them.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Health {
    /// Time from the beginning of one check to the beginning of the next.
    interval: Text<Duration>,
    /// The interval while an endpoint is unhealthy, or its last check contradicts its state. Default: 250ms, or
    /// `interval` if that is shorter.
    recheck_interval: Option<Text<Duration>>,
    /// The share of an interval by which it may be shortened at random, so that gateways do not check in step.
    #[schemars(range(min = 0.0, max = 1.0))]
    jitter: f64,
    /// Time for one check, including the connection.
    timeout: Text<Duration>,
    /// Consecutive checks that must succeed before an unhealthy endpoint is healthy.
    #[schemars(range(min = 1))]
    healthy_threshold: u32,
    /// Consecutive checks that must fail before a healthy endpoint is unhealthy.
    #[schemars(range(min = 1))]
    unhealthy_threshold: u32,
    /// What becomes of the requests that wait at an endpoint when its checks have failed; endpoints that are drained or that
    /// leave finish theirs. `"retry"`: those that wait for a connection or for the head of a response, and that are safe to
    /// send again, go to another endpoint at once, outside of the retry budget; the others wait on until their own timeouts.
    /// `"reset"`: every request and response that waits there ends as `upstream-reset`, and `retry` decides what follows.
    on_unhealthy: OnUnhealthy,
    /// The port that is checked. Default: the endpoint's own.
    #[schemars(range(min = 1))]
    port: Option<u16>,
    /// A request, in the upstream's protocol.
    http: Option<Http>,
    /// The gRPC health protocol: `grpc.health.v1.Health/Check` must return `SERVING`. Always over HTTP/2.
    grpc: Option<Grpc>,
    /// A connection.
    tcp: Option<Tcp>,
}

/// What becomes of the requests that wait at an endpoint when its checks have failed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum OnUnhealthy {
    Retry,
    Reset,
}

/// A request with the response that a healthy endpoint gives.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Http {
    /// The method.
    method: Text<Method>,
    /// Path and query.
    path: String,
    /// The value of `Host`. Default: the endpoint itself.
    host: Option<String>,
    /// Further headers.
    headers: BTreeMap<String, String>,
    /// Statuses of a healthy endpoint: one, a range, or a list of these.
    statuses: OneOrMany<Text<StatusRange>>,
    /// A text that the body must contain.
    body: Option<String>,
    /// A regular expression that must match somewhere in the body.
    body_regex: Option<String>,
    /// Bytes of the body that are checked. The rest is not read.
    body_limit: Text<Size>,
}

/// The request of the gRPC health protocol.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Grpc {
    /// The service asked about. Empty means the server as a whole.
    service: String,
}

/// What is sent over a connection, and what must come back.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Tcp {
    /// The bytes sent after connecting.
    send: String,
    /// Bytes that the received ones must contain. Empty means that connecting is enough.
    expect: String,
}

/// The default of `recheck_interval`.
const RECHECK: std::time::Duration = std::time::Duration::from_millis(250);

/// The range of `body_limit`, in bytes; a body is in memory while it is checked.
const BODY_BYTES: (u64, u64) = (1, 16 << 20);

impl Default for Health {
    fn default() -> Self {
        Self {
            interval: Text::of("1s"),
            recheck_interval: None,
            jitter: 0.1,
            timeout: Text::of("500ms"),
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            on_unhealthy: OnUnhealthy::Retry,
            port: None,
            http: None,
            grpc: None,
            tcp: None,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            method: Text::of("GET"),
            path: "/".to_owned(),
            host: None,
            headers: BTreeMap::new(),
            statuses: OneOrMany::Many(vec![Text::of("200-299")]),
            body: None,
            body_regex: None,
            body_limit: Text::of("64KiB"),
        }
    }
}

impl Health {
    /// Converts it to the model; `None` if it does not say what is checked. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Health> {
        scope.exclude(at, &["http", "grpc", "tcp"]);
        let interval = scope.check_positive(at, "interval", self.interval.value.0);
        let recheck = self.recheck_interval.map_or(RECHECK.min(interval), |recheck| recheck.value.0);
        let check = match (self.http, self.grpc, self.tcp) {
            (Some(http), ..) => model::Check::Http(http.meant(&child(at, "http"), scope)),
            (_, Some(grpc), _) => model::Check::Grpc { service: grpc.service },
            (_, _, Some(tcp)) => {
                model::Check::Tcp { send: tcp.send.into_bytes(), expect: tcp.expect.into_bytes() }
            }
            (None, None, None) => {
                let hint = "add one of `http`, `grpc` and `tcp`, e.g. `http = { path = \"/healthz\" }`";
                scope.report(at, "this does not say what is checked", Some(hint.to_owned()));
                return None;
            }
        };
        Some(model::Health {
            check,
            interval,
            recheck_interval: scope.check_positive(at, "recheck_interval", recheck),
            jitter: self.jitter,
            timeout: scope.check_positive(at, "timeout", self.timeout.value.0),
            healthy_threshold: self.healthy_threshold,
            unhealthy_threshold: self.unhealthy_threshold,
            on_unhealthy: match self.on_unhealthy {
                OnUnhealthy::Retry => model::OnUnhealthy::Retry,
                OnUnhealthy::Reset => model::OnUnhealthy::Reset,
            },
            port: self.port,
        })
    }
}

impl Http {
    fn meant(self, at: &str, scope: &mut Scope) -> model::HttpCheck {
        scope.exclude(at, &["body", "body_regex"]);
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            let hint = "write it as it is sent, e.g. \"/healthz?full=1\"";
            let message = "expected a path that begins with `/` and has only visible ASCII characters";
            scope.report(&child(at, "path"), message, Some(hint.to_owned()));
        }
        if let Some(host) = &self.host
            && (host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()))
        {
            scope.report(&child(at, "host"), "expected a host such as \"users.internal\"", None);
        }
        let statuses = self.statuses.into_vec();
        if statuses.is_empty() {
            scope.report(&child(at, "statuses"), "no status is accepted, so every check fails", None);
        }
        let body_limit = self.body_limit.value;
        scope.check_size(at, "body_limit", body_limit.0, BODY_BYTES);
        let body = self.body.map(model::BodyCheck::Contains);
        model::HttpCheck {
            method: self.method.value.0,
            path: self.path,
            host: self.host,
            headers: headers(self.headers, &child(at, "headers"), scope),
            statuses: statuses.iter().map(|range| (range.value.0, range.value.1)).collect(),
            body: body.or(self.body_regex.map(model::BodyCheck::Matches)),
            body_limit: body_limit.in_memory(),
        }
    }
}

fn headers(written: BTreeMap<String, String>, at: &str, scope: &mut Scope) -> Vec<(String, String)> {
    let mut headers = Vec::new();
    for (name, value) in written {
        let at = child(at, &name);
        if value.chars().any(|letter| letter.is_control() && letter != '\t') {
            scope.report(&at, "this value has a control character in it", None);
        }
        match HeaderName::read(&name) {
            Ok(HeaderName(name)) if name == "host" => {
                scope.report_key(&at, "`Host` has a key of its own", Some("use `host`".to_owned()));
            }
            Ok(HeaderName(name)) => headers.push((name, value)),
            Err(why) => scope.report_key(&at, format!("expected {}: {why}", HeaderName::WHAT), None),
        }
    }
    headers
}
