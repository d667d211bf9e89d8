//! Counters without contention: a cell for each core, summed when read.
//!
//! A thread that has claimed a cell is its only writer, so it counts with a load and a store instead of a locked
//! instruction. All other threads share one cell and use locked instructions.

use crate::core_local::{CLAIM, OWN_CELL};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The most cells that can be claimed: the number of bits of the mask.
const MOST: usize = 64;

/// A cell on cache lines of its own (128 bytes, because processors fetch neighbouring lines in pairs).
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// One `T` for each core, and one that all other threads share. A `T` of counters consists of atomics that only [`add`]
/// and [`add_signed`] write; any other `T` must allow access by several threads by itself.
#[derive(Debug)]
pub struct PerCore<T> {
    cells: Box<[Padded<T>]>,
}

impl<T: Default> Default for PerCore<T> {
    fn default() -> Self {
        PerCore { cells: (0..=cores()).map(|_| Padded::default()).collect() }
    }
}

impl<T> PerCore<T> {
    /// The cell of the calling thread.
    pub fn mine(&self) -> &T {
        &self.cells[OWN_CELL.get()].0
    }

    /// All cells.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.cells.iter().map(|cell| &cell.0)
    }

    /// The sum of one number over all cells.
    pub fn sum(&self, read: impl Fn(&T) -> u64) -> u64 {
        self.iter().map(read).fold(0, u64::wrapping_add)
    }
}

/// Adds to a number of the calling thread's cell.
pub fn add(number: &AtomicU64, more: u64) {
    if OWN_CELL.get() == SHARED {
        number.fetch_add(more, Ordering::Relaxed);
    } else {
        // This thread is the only writer of its cell, so no locked instruction is needed.
        number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// As [`add`], for numbers that may become smaller.
pub fn add_signed(number: &AtomicI64, more: i64) {
    if OWN_CELL.get() == SHARED {
        number.fetch_add(more, Ordering::Relaxed);
    } else {
        number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// The index of the shared cell.
pub(crate) const SHARED: usize = 0;

/// Which cells are claimed, one bit for each; the lowest bit stands for the cell after the shared one.
struct Claimed(AtomicU64);

static CLAIMED: Claimed = Claimed(AtomicU64::new(0));

impl Claimed {
    /// Claims the first free cell of `most`.
    fn claim(&'static self, most: usize) -> Option<Claim> {
        let mut claimed = self.0.load(Ordering::Relaxed);
        loop {
            let free = claimed.trailing_ones();
            if free as usize >= most {
                return None;
            }
            let with = claimed | 1 << free;
            match self.0.compare_exchange_weak(claimed, with, Ordering::Acquire, Ordering::Relaxed) {
                Ok(_) => return Some(Claim { of: self, bit: free }),
                Err(now) => claimed = now,
            }
        }
    }
}

/// A claimed cell. It is released when its thread ends.
pub(crate) struct Claim {
    of: &'static Claimed,
    bit: u32,
}

impl Claim {
    fn place(&self) -> usize {
        self.bit as usize + 1
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Other thread-local values that count while the thread ends use the shared cell.
        let _ = OWN_CELL.try_with(|own| own.set(SHARED));
        // Release: the next owner of the cell sees everything that was counted.
        self.of.0.fetch_and(!(1 << self.bit), Ordering::Release);
    }
}

/// Lets the calling thread count in cells of its own from now on, if any are left.
pub fn claim() {
    let claim = CLAIMED.claim(cores());
    let place = claim.as_ref().map_or(SHARED, Claim::place);
    CLAIM.set(claim);
    OWN_CELL.set(place);
}

/// The number of cores. Cached, because the system reads it from files and there may be ten thousand endpoints
/// with cells.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from).clamp(1, MOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_is_in_the_sum_with_a_cell_of_its_own_or_without() {
        let counter = PerCore::<AtomicU64>::default();
        for _ in 0..3 {
            std::thread::scope(|scope| {
                for thread in 0..9 {
                    let counter = &counter;
                    scope.spawn(move || {
                        if thread % 3 > 0 {
                            claim();
                        }
                        for _ in 0..1000 {
                            add(counter.mine(), 1);
                        }
                    });
                }
            });
        }
        assert_eq!(counter.sum(|cell| cell.load(Ordering::Relaxed)), 27_000);
    }

    #[test]
    fn a_cell_has_one_owner_at_a_time() {
        static FEW: Claimed = Claimed(AtomicU64::new(0));
        let first = FEW.claim(2).expect("a free cell");
        let second = FEW.claim(2).expect("a free cell");
        assert_eq!([first.place(), second.place()], [1, 2]);
        assert!(FEW.claim(2).is_none());
        drop(first);
        assert_eq!(FEW.claim(2).expect("a free cell").place(), 1);
        let rest: Vec<_> = std::iter::from_fn(|| FEW.claim(MOST)).collect();
        assert_eq!(rest.len(), MOST - 1, "the second is still held");
    }
}
