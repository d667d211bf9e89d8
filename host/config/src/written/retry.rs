//! `upstreams.NAME.retry` and `routes.retry`: what is sent again, how often, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, DurationOrOff, Size, Text};

/// The most a body may take of memory while it could be sent again.
const MOST_BODY: u64 = 64 << 20;

/// What is sent again, how often, and when. A request that may have been processed is sent again only if its method is
/// idempotent or `non_idempotent` is set; a switch of protocols never is. What an HTTP/2 endpoint did not process, because
/// it refused the stream or was leaving, is sent again whatever its method, as long as its body was kept.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retry {
    /// Times a request is sent at most, the first included. 1 means never again. Not counted is what goes to the same endpoint
    /// once more, up to three times, because a pooled connection was stale or the endpoint said that it did not process the
    /// request.
    #[schemars(range(min = 1, max = 10))]
    attempts: u32,
    /// Failures after which a request is sent again: `connect` (no connection, or the endpoint said that it did not process
    /// the request: at once, to another endpoint, whatever the method), `reset` (the connection ended before the response head),
    /// `timeout` (no response head in time: to another endpoint only), `malformed` (no HTTP).
    on: Vec<Condition>,
    /// Statuses after which a request is sent again, e.g. `[502, 503]`.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// gRPC statuses after which a request is sent again, e.g. `["unavailable"]`, where the answer is nothing else.
    grpc_statuses: Vec<GrpcStatus>,
    /// Whether requests whose method is not idempotent (`POST`, `PATCH`) are sent again too although they may have been
    /// processed. Only for services that recognise a request they have seen.
    non_idempotent: bool,
    /// Time from the end of the request until the response head, for each attempt of a request that may be sent again, or
    /// `"off"`: then `first_byte_timeout` holds.
    per_try_timeout: Text<DurationOrOff>,
    /// The wait before a request that may have reached the upstream is sent again.
    backoff: Backoff,
    /// The longest `Retry-After` of an endpoint that is waited for; an answer that asks for more goes to the client.
    max_retry_after: Text<Duration>,
    /// Bytes of a streaming request body that are kept to be sent again, until the response head has come. Once more have come,
    /// it is not sent again. The default is what common servers let pass before they may refuse an HTTP/2 request.
    body_limit: Text<Size>,
    /// Bytes of all request bodies together that are kept for this upstream, over all cores. While so many are, further
    /// bodies are sent once.
    total_body_limit: Text<Size>,
    /// How many retries and hedges there may be, over all cores. What was never sent costs nothing.
    budget: Budget,
}

/// A failure after which a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Condition {
    Connect,
    Reset,
    Timeout,
    Malformed,
}

/// A status of gRPC, in the order of their numbers from 1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum GrpcStatus {
    Cancelled,
    Unknown,
    InvalidArgument,
    DeadlineExceeded,
    NotFound,
    AlreadyExists,
    PermissionDenied,
    ResourceExhausted,
    FailedPrecondition,
    Aborted,
    OutOfRange,
    Unimplemented,
    Internal,
    Unavailable,
    DataLoss,
    Unauthenticated,
}

/// A random wait from 0 to a bound that doubles with every retry.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Backoff {
    /// The bound of the first wait.
    base: Text<Duration>,
    /// The longest wait.
    max: Text<Duration>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Text::of("25ms"), max: Text::of("250ms") }
    }
}

/// How many retries and hedges there may be, over all cores.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Budget {
    /// Their share of the requests: 0.2 allows one for five requests.
    #[schemars(range(min = 0.0, max = 10.0))]
    ratio: f64,
    /// So many a second there may be however few requests there are.
    #[schemars(range(max = 1_000_000))]
    min_per_second: u32,
    /// How long what was not used is saved up, for the moment when an endpoint dies.
    window: Text<Duration>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { ratio: 0.2, min_per_second: 10, window: Text::of("10s") }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 3,
            on: vec![Condition::Connect, Condition::Reset, Condition::Timeout, Condition::Malformed],
            statuses: Vec::new(),
            grpc_statuses: Vec::new(),
            non_idempotent: false,
            per_try_timeout: Text::of("off"),
            backoff: Backoff::default(),
            max_retry_after: Text::of("5s"),
            body_limit: Text::of("1MiB"),
            total_body_limit: Text::of("64MiB"),
            budget: Budget::default(),
        }
    }
}

impl Retry {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Retry {
        scope.check_size(at, "body_limit", self.body_limit.value.0, (0, MOST_BODY));
        let (body_limit, total) = (self.body_limit.value, self.total_body_limit.value);
        if total.0 < body_limit.0 && scope.is_written(&child(at, "total_body_limit")) {
            let hint = Some("it is for all bodies together; make it larger".to_owned());
            let at = child(at, "total_body_limit");
            scope.report(&at, "`total_body_limit` is smaller than `body_limit`", hint);
        }
        let per_try = self.per_try_timeout.value.0;
        let budget_at = child(at, "budget");
        model::Retry {
            attempts: self.attempts,
            on: conditions(&self.on),
            statuses: self.statuses,
            grpc_statuses: codes(&self.grpc_statuses),
            non_idempotent: self.non_idempotent,
            per_try_timeout: per_try.map(|time| scope.check_positive(at, "per_try_timeout", time)),
            backoff: self.backoff.meant(&child(at, "backoff"), scope),
            max_retry_after: self.max_retry_after.value.0,
            body_bytes: body_limit.in_memory(),
            all_body_bytes: total.in_memory(),
            budget: model::RetryBudget {
                ratio: self.budget.ratio,
                min_per_second: self.budget.min_per_second,
                window: scope.check_positive(&budget_at, "window", self.budget.window.value.0),
            },
        }
    }
}

impl Backoff {
    fn meant(&self, at: &str, scope: &mut Scope) -> model::Backoff {
        let (base, max) = (self.base.value.0, self.max.value.0);
        if base > max {
            scope.report(at, "`base` is longer than `max`", Some("set both".to_owned()));
        }
        model::Backoff { base, max }
    }
}

fn conditions(written: &[Condition]) -> model::RetryOn {
    model::RetryOn {
        connect: written.contains(&Condition::Connect),
        reset: written.contains(&Condition::Reset),
        timeout: written.contains(&Condition::Timeout),
        malformed: written.contains(&Condition::Malformed),
    }
}

fn codes(written: &[GrpcStatus]) -> Vec<u8> {
    written.iter().map(|status| *status as u8 + 1).collect()
}

/// What this route wants otherwise than its upstream's `retry`; what is left out is the upstream's.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteRetry {
    /// Times a request is sent at most, the first included. 1 means never again.
    #[schemars(range(min = 1, max = 10))]
    attempts: Option<u32>,
    /// Failures after which a request is sent again: `connect`, `reset`, `timeout`, `malformed`.
    on: Option<Vec<Condition>>,
    /// Statuses after which a request is sent again, e.g. `[502, 503]`.
    #[schemars(inner(inner(range(min = 400, max = 599))))]
    statuses: Option<Vec<u16>>,
    /// gRPC statuses after which a request is sent again, e.g. `["unavailable"]`, where the answer is nothing else.
    grpc_statuses: Option<Vec<GrpcStatus>>,
    /// Whether requests whose method is not idempotent (`POST`, `PATCH`) are sent again too although they may have been
    /// processed. Only for services that recognise a request they have seen.
    non_idempotent: Option<bool>,
    /// Time from the end of the request until the response head, for each attempt of a request that may be sent again, or
    /// `"off"`.
    per_try_timeout: Option<Text<DurationOrOff>>,
}

impl RouteRetry {
    /// What it means. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::RouteRetry {
        let per_try = self.per_try_timeout.map(|time| time.value.0);
        model::RouteRetry {
            attempts: self.attempts,
            on: self.on.as_deref().map(conditions),
            statuses: self.statuses,
            grpc_statuses: self.grpc_statuses.as_deref().map(codes),
            non_idempotent: self.non_idempotent,
            per_try_timeout: per_try
                .map(|time| time.map(|time| scope.check_positive(at, "per_try_timeout", time))),
        }
    }
}
