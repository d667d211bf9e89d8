//! Random numbers for spreading load. Not for secrets: a component seeds the generator once, from WASI's insecure
//! seed.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// A random number (SplitMix64, Steele et al. 2014).
#[must_use]
pub fn number() -> u64 {
    let state =
        STATE.get().unwrap_or_else(|| RandomState::new().hash_one(0)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// A random number from 0 to `bound - 1`; 0 if `bound` is 0. The bias is below 2^-32.
#[must_use]
pub fn below(bound: u32) -> u32 {
    (((number() >> 32) * u64::from(bound)) >> 32) as u32
}

/// Restarts the sequence, for tests that need the same numbers every time.
#[cfg(any(not(target_family = "wasm"), feature = "test"))]
pub(crate) fn seed(seed: u64) {
    STATE.set(Some(seed));
}
