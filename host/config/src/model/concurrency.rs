//! The settings of an adaptive concurrency limit.

use std::time::Duration;

/// An adaptive limit on the requests in flight of an upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Concurrency {
    /// The smallest limit, at least 1.
    pub min: u32,
    /// The largest limit.
    pub max: u32,
    /// The initial limit, between `min` and `max`.
    pub initial: u32,
    /// How many times slower than usual responses may become before the limit shrinks, at least 1.
    pub tolerance: f64,
    /// How often the limit is adjusted.
    pub window: Duration,
}
