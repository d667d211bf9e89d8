//! Time as balancing counts it: since the process first asked, so that it fits into small numbers.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Tells the time. Tests have clocks of their own.
pub(crate) type Clock = fn() -> Duration;

/// The time since the process first asked.
pub(crate) fn now() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}
