//! The four contracts, in the order in which the gateway calls them.

pub(crate) mod authentication;
pub(crate) mod rate_limiting;
pub(crate) mod routing;
pub(crate) mod transformation;

/// A duration as the border counts it. What does not fit is for ever in practice.
pub(crate) fn milliseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
