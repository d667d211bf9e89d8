//! What is meant by the second tries of an upstream: retries, hedging, and the copies of a mirror.

use std::time::Duration;

/// `[upstreams.NAME.retry]`: what is sent again, how often, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct Retry {
    /// Times a request is sent at most, the first included; 1: never again. Not counted: to the same endpoint once more because
    /// a pooled connection was stale, or because the endpoint said that it did not process the request.
    pub attempts: u32,
    /// The failures after which it is sent again.
    pub on: RetryOn,
    /// Statuses after which it is sent again.
    pub statuses: Vec<u16>,
    /// gRPC status codes, of answers that are trailers only, after which it is sent again.
    pub grpc_statuses: Vec<u8>,
    /// Whether requests whose method is not idempotent are sent again too although they may have been processed.
    pub non_idempotent: bool,
    /// From the end of the request until the response head, for each attempt of a request that may be sent again; none:
    /// `first_byte_timeout` holds for these as for all.
    pub per_try_timeout: Option<Duration>,
    /// The wait before a request that may have reached the upstream is sent again.
    pub backoff: Backoff,
    /// The longest `Retry-After` that is waited for.
    pub max_retry_after: Duration,
    /// Bytes of a streaming request body that are kept to be sent again.
    pub body_bytes: usize,
    /// Bytes of all request bodies together that are kept, over all cores.
    pub all_body_bytes: usize,
    /// How many retries there may be.
    pub budget: RetryBudget,
}

/// Failures after which a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// Nothing can have been processed: no connection, or the endpoint refused the stream.
    pub connect: bool,
    /// The connection or the stream ended before the response head.
    pub reset: bool,
    /// The response head did not come in time.
    pub timeout: bool,
    /// What came is no response.
    pub malformed: bool,
}

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest first wait; it doubles with every retry.
    pub base: Duration,
    /// The longest wait.
    pub max: Duration,
}

/// How many retries there may be, over all cores.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RetryBudget {
    /// Retries for each request.
    pub ratio: f64,
    /// Retries a second that there may be however few requests there are.
    pub min_per_second: u32,
    /// How long what was not used can be saved up.
    pub window: Duration,
}

/// `[routes.retry]`: what a route wants otherwise; none: as the upstream says.
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
    /// See [`Retry::per_try_timeout`]; `Some(None)`: off.
    pub per_try_timeout: Option<Option<Duration>>,
}

/// `[upstreams.NAME.hedge]`: an idempotent request that takes long is sent to another endpoint too.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hedge {
    /// What is long.
    pub after: HedgeAfter,
    /// Times it is sent in addition, at most.
    pub max_extra: u32,
}

/// How long a request is waited for before it is hedged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum HedgeAfter {
    /// So long.
    Delay(Duration),
    /// Longer than this share of the latest requests took.
    Percentile {
        /// Over 0 and under 1.
        share: f64,
        /// Requests that must have been seen.
        min_samples: u32,
    },
}

/// `[routes.mirror]`: copies of requests for another upstream, whose answers nobody reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Mirror {
    /// Name of the upstream that gets the copies.
    pub upstream: String,
    /// The share of requests that is copied, 0 to 1.
    pub share: f64,
    /// Time for a copy, its answer included.
    pub timeout: Duration,
    /// Copies under way at once, over all cores.
    pub max_concurrent: usize,
    /// Bytes of a request body that are copied; longer ones are not mirrored.
    pub body_bytes: usize,
}
