//! The contract `rate-limiting`: which limits a request counts against.

use std::time::Duration;

use super::milliseconds;
use crate::plugin::{Interest, Plugin};
use crate::request::Request;

pub use crate::bindings::rate_limiting::exports::witgate::plugin::rate_limiting::Bucket;

/// Names the buckets that a request draws on. The gateway counts, so that no limit depends on the number of cores.
pub trait RateLimiting: Plugin {
    /// The headers that the plugin reads.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// The buckets of one request: either all of them are charged or none is.
    fn draw(&self, request: &Request) -> Buckets;
}

/// The buckets of one request. Made from one bucket, an optional one, or several; empty means no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(pub Vec<Bucket>);

impl Bucket {
    /// `limit` requests in each window for all callers with the same key. The policy is called `default` until
    /// [`named`](Self::named) changes that.
    pub fn new(limit: u32, window: Duration, key: impl Into<String>) -> Self {
        Self {
            policy: "default".to_owned(),
            key: key.into(),
            cost: 1,
            limit,
            window: milliseconds(window),
            burst: None,
        }
    }

    /// `limit` requests per second.
    pub fn per_second(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(1), key)
    }

    /// `limit` requests per minute.
    pub fn per_minute(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(60), key)
    }

    /// `limit` requests per hour.
    pub fn per_hour(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(3600), key)
    }

    /// Names the policy, as shown in `RateLimit-Policy`: a token of at most 64 characters. Buckets of different
    /// policies are separate, even under the same key.
    #[must_use]
    pub fn named(mut self, policy: impl Into<String>) -> Self {
        self.policy = policy.into();
        self
    }

    /// The cost of this request; the default is 1. With 0 the bucket is only read.
    #[must_use]
    pub fn with_cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// The most that may be drawn at once; the default is the limit.
    #[must_use]
    pub fn with_burst(mut self, burst: u32) -> Self {
        self.burst = Some(burst);
        self
    }
}

impl From<Bucket> for Buckets {
    fn from(bucket: Bucket) -> Self {
        Self(vec![bucket])
    }
}

impl From<Option<Bucket>> for Buckets {
    fn from(bucket: Option<Bucket>) -> Self {
        Self(bucket.into_iter().collect())
    }
}

impl From<Vec<Bucket>> for Buckets {
    fn from(buckets: Vec<Bucket>) -> Self {
        Self(buckets)
    }
}

impl<const N: usize> From<[Bucket; N]> for Buckets {
    fn from(buckets: [Bucket; N]) -> Self {
        Self(buckets.into())
    }
}
