//! Contract `rate-limiting`: which buckets a request draws on.

use std::time::Duration;

use super::{Answer, Binding, Call, CallResult};

/// A binding that names the buckets of a request. The gateway counts.
pub trait RateLimiting: Binding {
    /// Names the buckets.
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>>;
}

/// One limit a request draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Name shown in `RateLimit-Policy`.
    pub policy: String,
    /// Whose bucket.
    pub key: String,
    /// What this request costs; 0 only asks.
    pub cost: u32,
    /// Allowed in each window.
    pub limit: u32,
    /// The window.
    pub window: Duration,
    /// Allowed at once; none: `limit`.
    pub burst: Option<u32>,
}
