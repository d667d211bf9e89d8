//! Contract `rate-limiting`: which buckets a request draws on.

use std::time::Duration;

use super::{Answer, Binding, Call, CallResult};

/// A binding that names the buckets on which a request draws. The gateway counts the draws.
pub trait RateLimiting: Binding {
    /// Names the buckets of the request.
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>>;
}

/// One limit a request draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Name shown in `RateLimit-Policy`.
    pub policy: String,
    /// Key of the bucket, for example the caller.
    pub key: String,
    /// Units that this request draws; 0 only reads the state of the bucket.
    pub cost: u32,
    /// Units that are allowed in each window.
    pub limit: u32,
    /// The length of the window.
    pub window: Duration,
    /// Units that may be drawn at once; `None` stands for `limit`.
    pub burst: Option<u32>,
}
