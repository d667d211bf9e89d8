//! The time of day. A component reads it from WASI; in tests it changes only when the test changes it.

use std::time::Duration;

/// Time since 1970-01-01T00:00:00Z.
#[must_use]
pub fn now() -> Duration {
    #[cfg(any(not(target_family = "wasm"), feature = "test"))]
    return crate::test::now();
    #[cfg(all(target_family = "wasm", not(feature = "test")))]
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

/// Whole seconds since 1970-01-01T00:00:00Z, as in a JWT's `exp` (RFC 7519 section 2, NumericDate).
#[must_use]
pub fn unix_seconds() -> u64 {
    now().as_secs()
}
