//! The interface of what counts draws on rate limits, in memory or in a store that gateways share.

use std::time::Duration;

use super::MaybeReady;
pub use super::rate::Rate;

/// Counts what requests draw from their buckets.
///
/// One counter is shared by all cores.
pub trait Counter: Send + Sync {
    /// Charges every draw, or none if one of them is over its limit. The states are in the order of the draws. The
    /// result is ready at once if the counter waits for nothing.
    ///
    /// # Errors
    /// The counter cannot be reached.
    fn charge<'a>(&'a self, draws: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>>;

    /// Settles what draws have cost that were charged before. Waits for nothing; what cannot be settled, because the counter
    /// cannot be reached, stays as drawn.
    fn settle(&self, settled: Vec<Settlement>);
}

/// What one request draws from one bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Which bucket: the first half of the SHA-256 of binding, policy and key.
    pub bucket: u128,
    /// Which policy, approximately: a short hash of binding and policy.
    pub policy: u64,
    /// How much is drawn; 0 only reads the state of the bucket.
    pub cost: u32,
    /// How fast the bucket fills, and how much it holds.
    pub rate: Rate,
}

/// What is settled of one draw after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Which bucket, as in [`Draw`].
    pub bucket: u128,
    /// Which policy, as in [`Draw`].
    pub policy: u64,
    /// How fast the bucket fills, and how much it holds.
    pub rate: Rate,
    /// By how many nanoseconds the bucket is full later than it would have been; below 0: earlier. See [`Rate::settle`].
    pub change: i64,
}

/// The states of the buckets of one request, in the order of its draws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BucketStates {
    /// The state of one bucket. Most requests draw on one.
    One(BucketState),
    /// The states of several buckets.
    Several(Vec<BucketState>),
}

impl BucketStates {
    /// All states.
    pub fn as_slice(&self) -> &[BucketState] {
        match self {
            BucketStates::One(state) => std::slice::from_ref(state),
            BucketStates::Several(states) => states,
        }
    }
}

/// The state of a bucket after a draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketState {
    /// Whether this draw was within its limit. If any draw of the request was not, none was charged.
    pub admitted: bool,
    /// How much can still be drawn at once.
    pub remaining: u32,
    /// Time until the bucket is full again.
    pub reset: Duration,
    /// Time until a draw of the same cost would be admitted; zero if this one was.
    pub retry_after: Duration,
    /// Whether the counter has counted it, so that it can be settled: not if `on_unavailable` decided without the counter.
    pub counted: bool,
}

/// The counter cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable;
