//! The settings of a fallback.

/// What is done with a request that an upstream cannot take: the first of `upstream` and `respond` that is set
/// and can respond.
#[derive(Debug, Clone, PartialEq)]
pub struct Fallback {
    /// Whether it applies when the circuit breaker of the upstream, or of all its endpoints, is open.
    pub on_breaker_open: bool,
    /// Whether it applies when no endpoint is in service.
    pub on_no_endpoint: bool,
    /// Whether it applies when the upstream is at its limits.
    pub on_overload: bool,
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
