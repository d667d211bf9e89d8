//! What is meant by an adaptive limit.

use std::time::Duration;

/// An adaptive limit on the requests in flight of an upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concurrency {
    /// The least limit, at least 1.
    pub min: u32,
    /// The greatest limit.
    pub max: u32,
    /// The limit to begin with, between the two.
    pub initial: u32,
    /// How many times slower than usual answers may get before the limit shrinks, at least 1.
    pub tolerance: f64,
    /// How often the limit is looked at.
    pub window: Duration,
}
