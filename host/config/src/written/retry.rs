//! `upstreams.NAME.retry` and `routes.retry`: which requests are sent again, how often, and when.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, DurationOrOff, GrpcMethod, Size, Text};

/// The largest `body_limit`, since replay bodies are in memory.
const MOST_BODY: u64 = 64 << 20;

/// Which requests are sent again, how often, and when. A request that may have been processed is sent again only
/// if its method is idempotent or `non_idempotent` is set; a request that asks to switch protocols never is. A
/// request that an HTTP/2 endpoint did not process, because it refused the stream or was closing the connection,
/// is sent again whatever its method, as long as its replay body is complete.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retry {
    /// How often a request is sent at most, including the first attempt. 1 means never again. Not counted are up
    /// to three repetitions at the same endpoint because a pooled connection was stale or the endpoint said that
    /// it did not process the request.
    #[schemars(range(min = 1, max = 10))]
    attempts: u32,
    /// Failures after which a request is sent again: `connect` (no connection, or the endpoint said that it did
    /// not process the request: at once, to another endpoint, whatever the method), `reset` (the connection ended
    /// before the response head), `timeout` (no response head in time: to another endpoint only), `malformed` (the
    /// response was malformed).
    on: Vec<Condition>,
    /// Statuses after which a request is sent again, e.g. `[502, 503]`.
    #[schemars(inner(range(min = 400, max = 599)))]
    statuses: Vec<u16>,
    /// gRPC statuses after which a request is sent again, e.g. `["unavailable"]`, if the response has trailers
    /// only. An endpoint that sends `grpc-retry-pushback-ms` says when, or by a negative number that it is not.
    grpc_statuses: Vec<GrpcStatus>,
    /// Whether requests with a method that is not idempotent (`POST`, `PATCH`) are sent again even if they may
    /// have been processed. Only for services that recognise a repeated request.
    non_idempotent: bool,
    /// The methods of gRPC that are safe to repeat, e.g. `["Get*"]`: a name, or its beginning with `*`; with a service
    /// before a slash (`"example.Orders/Get*"`) only of that service. Their calls are sent again like requests with GET.
    safe_methods: Vec<Text<GrpcMethod>>,
    /// Time from the end of the request until the response head, for each attempt of a request that may be sent
    /// again, or `"off"`: then `first_byte_timeout` applies.
    per_try_timeout: Text<DurationOrOff>,
    /// The wait before a request that may have reached the upstream is sent again.
    backoff: Backoff,
    /// The longest `Retry-After` of an endpoint that is respected; a response that asks for more goes to the
    /// client.
    max_retry_after: Text<Duration>,
    /// Bytes of a streaming request body that are kept as its replay body until the response head arrives. A
    /// request with a longer body is not sent again. The default is what common servers accept before they may
    /// refuse an HTTP/2 request.
    body_limit: Text<Size>,
    /// Bytes of all replay bodies together for this upstream, over all cores. While they are used up, further
    /// requests are sent once.
    total_body_limit: Text<Size>,
    /// The retry budget: how many retries and hedges there may be, over all cores. Requests of which nothing was
    /// sent cost nothing.
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

/// A gRPC status; the variants are in the order of their numbers from 1.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(super) enum GrpcStatus {
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

/// The retry budget: how many retries and hedges there may be, over all cores.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Budget {
    /// Their share of the requests: 0.2 allows one for every five requests.
    #[schemars(range(min = 0.0, max = 10.0))]
    ratio: f64,
    /// Retries and hedges per second that are allowed however few requests there are.
    #[schemars(range(max = 1_000_000))]
    min_per_second: u32,
    /// How long unused budget is kept, for the moment when an endpoint fails.
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
            safe_methods: Vec::new(),
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
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::Retry {
        scope.check_size(at, "body_limit", self.body_limit.value.0, (0, MOST_BODY));
        let (body_limit, total) = (self.body_limit.value, self.total_body_limit.value);
        if total.0 < body_limit.0 && scope.is_written(&child(at, "total_body_limit")) {
            let hint = Some("it bounds all replay bodies together; make it larger".to_owned());
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
            safe_methods: self.safe_methods.into_iter().map(|method| method.value.0).collect(),
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

/// The numbers of these statuses.
pub(super) fn codes(written: &[GrpcStatus]) -> Vec<u8> {
    written.iter().map(|status| *status as u8 + 1).collect()
}

/// Settings of this route in place of its upstream's `retry`; keys that are left out are the upstream's.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RouteRetry {
    /// How often a request is sent at most, including the first attempt. 1 means never again.
    #[schemars(range(min = 1, max = 10))]
    attempts: Option<u32>,
    /// Failures after which a request is sent again: `connect`, `reset`, `timeout`, `malformed`.
    on: Option<Vec<Condition>>,
    /// Statuses after which a request is sent again, e.g. `[502, 503]`.
    #[schemars(inner(inner(range(min = 400, max = 599))))]
    statuses: Option<Vec<u16>>,
    /// gRPC statuses after which a request is sent again, e.g. `["unavailable"]`, if the response has trailers
    /// only.
    grpc_statuses: Option<Vec<GrpcStatus>>,
    /// Whether requests with a method that is not idempotent (`POST`, `PATCH`) are sent again even if they may
    /// have been processed. Only for services that recognise a repeated request.
    non_idempotent: Option<bool>,
    /// The methods of gRPC that are safe to repeat, e.g. `["Get*"]`.
    safe_methods: Option<Vec<Text<GrpcMethod>>>,
    /// Time from the end of the request until the response head, for each attempt of a request that may be sent again, or
    /// `"off"`.
    per_try_timeout: Option<Text<DurationOrOff>>,
}

impl RouteRetry {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::RouteRetry {
        let per_try = self.per_try_timeout.map(|time| time.value.0);
        model::RouteRetry {
            attempts: self.attempts,
            on: self.on.as_deref().map(conditions),
            statuses: self.statuses,
            grpc_statuses: self.grpc_statuses.as_deref().map(codes),
            non_idempotent: self.non_idempotent,
            safe_methods: self
                .safe_methods
                .map(|methods| methods.into_iter().map(|method| method.value.0).collect()),
            per_try_timeout: per_try
                .map(|time| time.map(|time| scope.check_positive(at, "per_try_timeout", time))),
        }
    }
}
