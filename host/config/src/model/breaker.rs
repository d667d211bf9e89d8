//! What is meant by a circuit breaker.

use std::time::Duration;

/// A circuit breaker, of an endpoint or of an upstream as a whole. It opens by whichever rule holds first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// Failures in a row that open it, of which the end of a shared connection is one; 0: never.
    pub consecutive_failures: u32,
    /// Share of failed calls in the window that opens it, up to 1; 0: never.
    pub failure_ratio: f64,
    /// Share of slow calls in the window that opens it, up to 1; 0: never.
    pub slow_ratio: f64,
    /// How long the head of an answer takes at least if the call is slow.
    pub slow_call: Duration,
    /// The time over which shares are counted.
    pub window: Duration,
    /// Calls in the window before a share means anything.
    pub min_requests: u32,
    /// How long it stays open before probes are let through.
    pub open_for: Duration,
    /// How long it stays open at most, after probes have failed again and again; at least `open_for`.
    pub max_open_for: Duration,
    /// Probes under way at once while it is half-open, at least 1.
    pub probes: u32,
    /// Probes that must succeed before it closes, at least 1.
    pub probe_successes: u32,
}
