//! Numbers to spread load by. Not for secrets: a component seeds them once, from WASI's insecure seed.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Any number (SplitMix64, Steele et al. 2014).
#[must_use]
pub fn number() -> u64 {
    let state =
        STATE.get().unwrap_or_else(|| RandomState::new().hash_one(0)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A number from 0 to `bound - 1`; 0 if `bound` is 0. The bias is below one in 2^32.
#[must_use]
pub fn below(bound: u32) -> u32 {
    (((number() >> 32) * u64::from(bound)) >> 32) as u32
}

/// Starts the sequence anew: for tests that want the same numbers every time.
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub(crate) fn seed(seed: u64) {
    STATE.set(Some(seed));
}
