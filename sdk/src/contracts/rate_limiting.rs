//! Which limits does this request count against?

use std::time::Duration;

use super::milliseconds;
use crate::plugin::{Interest, Plugin};
use crate::request::Request;

pub use crate::bindings::rate_limiting::exports::witgate::plugin::rate_limiting::Bucket;

/// Says which buckets a request draws on. The gateway counts, so that no limit depends on the number of cores.
pub trait RateLimiting: Plugin {
    /// The headers it looks at.
    fn interest(&self) -> Interest {
        Interest::none()
    }

    /// The buckets of one request: all are charged or none is.
    fn draw(&self, request: &Request) -> Buckets;
}

/// The buckets of one request. Made from one bucket, an optional one, or several; empty means no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Buckets(pub Vec<Bucket>);

impl Bucket {
    /// So many requests in each window for everybody who shares the key. The policy is called `default` until
    /// [`named`](Self::named) says otherwise.
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

    /// So many requests a second.
    pub fn per_second(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(1), key)
    }

    /// So many requests a minute.
    pub fn per_minute(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(60), key)
    }

    /// So many requests an hour.
    pub fn per_hour(limit: u32, key: impl Into<String>) -> Self {
        Self::new(limit, Duration::from_secs(3600), key)
    }

    /// Names the policy, as shown in `RateLimit-Policy`: a token of at most 64 characters. Buckets of different
    /// policies never mix, even under one key.
    #[must_use]
    pub fn named(mut self, policy: impl Into<String>) -> Self {
        self.policy = policy.into();
        self
    }

    /// How much this request costs; 1 unless said otherwise. 0 draws nothing, it only asks.
    #[must_use]
    pub fn with_cost(mut self, cost: u32) -> Self {
        self.cost = cost;
        self
    }

    /// How much may be drawn at once; the limit unless said otherwise.
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
