//! The settings of a fallback.

use std::time::Duration;

/// What is done with a request that an upstream cannot take: the first of `cached`, `upstream` and `respond` that
/// is set and can respond.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Whether it applies when the circuit breaker of the upstream, or of all its endpoints, is open.
    pub on_breaker_open: bool,
    /// Whether it applies when no endpoint is in service.
    pub on_no_endpoint: bool,
    /// Whether it applies when the upstream is at its limits.
    pub on_overload: bool,
    /// The last good response, if it is stored.
    pub cached: Option<CachedAnswers>,
    /// Another upstream. Fallbacks were checked not to form a ring.
    pub upstream: Option<String>,
    /// A fixed response.
    pub respond: Option<Answer>,
}

/// A fixed response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// 200 to 599.
    pub status: u16,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// Limits on stored responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedAnswers {
    /// The most responses, at least 8.
    pub entries: usize,
    /// Bytes of all of them together, at least eight times `entry_bytes`.
    pub bytes: usize,
    /// Bytes of the largest one.
    pub entry_bytes: usize,
    /// The age up to which one is used.
    pub max_age: Duration,
}
