//! Time for balancing, counted from the first call in the process, so that it fits into small numbers.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// A clock. Tests use clocks of their own.
pub(crate) type Clock = fn() -> Duration;

/// The time since the first call in the process.
pub(crate) fn now() -> Duration {
    static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
    EPOCH.elapsed()
}
