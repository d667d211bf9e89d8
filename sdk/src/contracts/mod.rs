//! The contracts.

pub(crate) mod authentication;
pub(crate) mod by_body;
pub(crate) mod gate;
pub(crate) mod observe;
pub(crate) mod rate_limiting;
pub(crate) mod routing;
pub(crate) mod tick;
pub(crate) mod transformation;

use std::time::Duration;

/// A duration in milliseconds, as the contracts count it. A longer one than fits becomes `u64::MAX`.
///
/// Not computed with [`Duration::as_millis`], because a multiplication of 128 bits is a function call in
/// WebAssembly.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(duration.subsec_millis().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_count_in_whole_milliseconds_and_the_longest_are_for_ever() {
        assert_eq!(milliseconds(Duration::new(61, 1_999_999)), 61_001);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX);
        let longest = Duration::from_millis(u64::MAX);
        assert_eq!(milliseconds(longest), u64::MAX);
        assert_eq!(milliseconds(longest - Duration::from_millis(1)), u64::MAX - 1);
    }
}
