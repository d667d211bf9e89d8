//! The settings of retries, hedging and mirroring.

use std::time::Duration;

use super::GrpcMethod;

/// `[upstreams.NAME.retry]`: which requests are sent again, how often, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// How often a request is sent at most, including the first attempt; 1: never again. Not counted: a repetition
    /// at the same endpoint because a pooled connection was stale, or because the endpoint said that it did not
    /// process the request.
    pub attempts: u32,
    /// The failures after which it is sent again.
    pub on: RetryOn,
    /// Statuses after which it is sent again.
    pub statuses: Vec<u16>,
    /// gRPC status codes, of responses that have trailers only, after which it is sent again.
    pub grpc_statuses: Vec<u8>,
    /// Whether requests with a method that is not idempotent are sent again even if they may have been processed.
    pub non_idempotent: bool,
    /// The methods of gRPC whose calls are sent again even if they may have been processed.
    pub safe_methods: Vec<GrpcMethod>,
    /// From the end of the request until the response head, for each attempt of a request that may be sent again;
    /// `None`: `first_byte_timeout` applies.
    pub per_try_timeout: Option<Duration>,
    /// The wait before a request that may have reached the upstream is sent again.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is respected.
    pub max_retry_after: Duration,
    /// Bytes of a streaming request body that are kept as its replay body.
    pub body_bytes: usize,
    /// Bytes of all replay bodies together, over all cores.
    pub all_body_bytes: usize,
    /// The retry budget.
    pub budget: RetryBudget,
}

/// Failures after which a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// The request cannot have been processed: no connection, or the endpoint refused the stream.
    pub connect: bool,
    /// The connection or the stream ended before the response head.
    pub reset: bool,
    /// The response head did not arrive in time.
    pub timeout: bool,
    /// The response was malformed.
    pub malformed: bool,
}

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The bound of the first wait; it doubles with every retry.
    pub base: Duration,
    /// The largest bound of a wait.
    pub max: Duration,
}

/// A retry budget, over all cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Retries for each request.
    pub ratio: f64,
    /// Retries per second that are allowed however few requests there are.
    pub min_per_second: u32,
    /// How long unused budget is kept.
    pub window: Duration,
}

/// `[routes.retry]`: settings of a route in place of the upstream's; `None`: as the upstream's.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteRetry {
    /// See [`Retry::attempts`].
    pub attempts: Option<u32>,
    /// See [`Retry::on`].
    pub on: Option<RetryOn>,
    /// See [`Retry::statuses`].
    pub statuses: Option<Vec<u16>>,
    /// See [`Retry::grpc_statuses`].
    pub grpc_statuses: Option<Vec<u8>>,
    /// See [`Retry::non_idempotent`].
    pub non_idempotent: Option<bool>,
    /// See [`Retry::safe_methods`].
    pub safe_methods: Option<Vec<GrpcMethod>>,
    /// See [`Retry::per_try_timeout`]; `Some(None)`: off.
    pub per_try_timeout: Option<Option<Duration>>,
}

/// `[upstreams.NAME.hedge]`: a slow idempotent request is sent to another endpoint too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// When a request counts as slow.
    pub after: HedgeAfter,
    /// The most additional attempts.
    pub max_extra: u32,
}

/// How long a response is awaited before the request is hedged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HedgeAfter {
    /// A fixed time.
    Delay(Duration),
    /// The time within which this share of the latest requests got a response.
    Percentile {
        /// Above 0 and below 1.
        share: f64,
        /// The fewest requests that must have been observed.
        min_samples: u32,
    },
}

/// `[routes.mirror]`: copies of requests for another upstream, whose responses are dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Name of the upstream that gets the copies.
    pub upstream: String,
    /// The share of requests that are copied, 0 to 1.
    pub share: f64,
    /// Time for a copy, including its response.
    pub timeout: Duration,
    /// Copies in flight at once, over all cores.
    pub max_concurrent: usize,
    /// Bytes of a request body that are copied; requests with longer bodies are not mirrored.
    pub body_bytes: usize,
}
