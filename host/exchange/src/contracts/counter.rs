//! The seam behind which draws are counted: here in memory, elsewhere in a shared store.

use std::time::Duration;

use super::MaybeReady;
pub use super::rate::Rate;

/// Counts what requests draw from their buckets.
///
/// One is shared by all cores.
pub trait Counter: Send + Sync {
    /// Charges every draw, or none if one of them is over its limit. The standings come in the order of the draws.
    /// Ready at once where counting waits for nothing.
    ///
    /// # Errors
    /// The place where draws are counted cannot be reached.
    fn charge<'a>(&'a self, draws: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>>;
}

/// What one request draws from one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Which bucket: the first half of the SHA-256 of binding, policy and key.
    pub bucket: u128,
    /// Which policy, roughly: a short hash of binding and policy.
    pub policy: u64,
    /// How much is drawn; 0 only asks.
    pub cost: u32,
    /// How fast the bucket fills and how much it holds.
    pub rate: Rate,
}

/// How the buckets of one request stand, in the order of its draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketStates {
    /// Most requests draw from one.
    One(BucketState),
    /// Those of several.
    Several(Vec<BucketState>),
}

impl BucketStates {
    /// Each of them.
    pub fn as_slice(&self) -> &[BucketState] {
        match self {
            BucketStates::One(state) => std::slice::from_ref(state),
            BucketStates::Several(states) => states,
        }
    }
}

/// How a bucket stands after a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// Whether the draw itself was within the limit. If one is not, none was charged.
    pub admitted: bool,
    /// What could still be drawn at once.
    pub remaining: u32,
    /// Until the bucket is full again.
    pub reset: Duration,
    /// Until a draw of the same cost would be admitted; zero if it was.
    pub retry_after: Duration,
}

/// The place where draws are counted cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;
