//! What is meant by a fallback.

use std::time::Duration;

/// What is done with a request that an upstream cannot take: the first of these that is set and has an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Whether it is for open breakers, of the upstream or of all its endpoints.
    pub on_breaker_open: bool,
    /// Whether it is for upstreams without an endpoint in service.
    pub on_no_endpoint: bool,
    /// Whether it is for upstreams at their limits.
    pub on_overload: bool,
    /// The last good answer, if it is kept.
    pub cached: Option<CachedAnswers>,
    /// Another upstream. It is checked that there is no ring of them.
    pub upstream: Option<String>,
    /// A fixed answer.
    pub respond: Option<Answer>,
}

/// A fixed answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// The last good answers that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedAnswers {
    /// How many at most, at least 8.
    pub entries: usize,
    /// Bytes of all of them together, at least eight times `entry_bytes`.
    pub bytes: usize,
    /// Bytes of the largest.
    pub entry_bytes: usize,
    /// How old one may get.
    pub max_age: Duration,
}
