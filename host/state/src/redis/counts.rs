//! How the operations of one state ended.

use std::sync::atomic::{AtomicU64, Ordering};

use super::link::Failure;

/// Counts of operations, by how they ended. A failed decision is counted twice: once for its failure, and once for
/// what was done instead.
#[derive(Default)]
pub(super) struct Counts {
    counts: [AtomicU64; END_NAMES.len()],
}

/// How an operation ended: an index into the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The servers have replied.
    Done,
    Unreachable,
    TimedOut,
    OutOfMemory,
    Refused,
    Malformed,
    /// This gateway counted the draws by itself.
    Local,
    /// The draws were admitted without being counted.
    Allowed,
    /// The call of the binding has failed.
    Denied,
}

/// The values of the metric's label, in the order of [`End`].
const END_NAMES: [&str; 9] =
    ["done", "unreachable", "timeout", "out-of-memory", "refused", "malformed", "local", "allowed", "denied"];

impl Counts {
    pub(super) fn count(&self, end: End) {
        self.counts[end as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All counts with their names.
    pub(super) fn read(&self) -> Vec<(&'static str, u64)> {
        END_NAMES
            .iter()
            .zip(&self.counts)
            .map(|(name, count)| (*name, count.load(Ordering::Relaxed)))
            .collect()
    }
}

impl From<&Failure> for End {
    fn from(failure: &Failure) -> End {
        match failure {
            Failure::Unreachable => End::Unreachable,
            Failure::TimedOut => End::TimedOut,
            Failure::OutOfMemory => End::OutOfMemory,
            Failure::Refused => End::Refused,
            Failure::Malformed => End::Malformed,
        }
    }
}
