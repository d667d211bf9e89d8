//! Counters without contention: a cell for each core, summed when read.
//!
//! A thread that has claimed a cell is alone in writing it, so it counts with a load and a store: a locked instruction
//! costs many times as much, and a request counts eight numbers. All other threads share one cell and lock.

use std::cell::{Cell, RefCell};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// Cells that can be claimed at most: as many as a mask has bits.
const MOST: usize = 64;

/// Cells on cache lines of their own (128 bytes: neighbouring lines are fetched in pairs).
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// One `T` for each core, and one that all other threads share. The `T` is made of atomics that only [`add`] and
/// [`add_signed`] write.
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
        &self.cells[OWN.get()].0
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

/// Adds to a number in the calling thread's cell.
pub fn add(number: &AtomicU64, more: u64) {
    if OWN.get() == SHARED {
        number.fetch_add(more, Ordering::Relaxed);
    } else {
        number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// As [`add`], or takes away.
pub fn add_signed(number: &AtomicI64, more: i64) {
    if OWN.get() == SHARED {
        number.fetch_add(more, Ordering::Relaxed);
    } else {
        number.store(number.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }
}

/// The place of the cell that has no owner.
const SHARED: usize = 0;

/// Which cells are claimed, as bits: the lowest is the one behind the shared one.
struct Claimed(AtomicU64);

static CLAIMED: Claimed = Claimed(AtomicU64::new(0));

thread_local! {
    /// The place of this thread's cell.
    static OWN: Cell<usize> = const { Cell::new(SHARED) };
    static CLAIM: RefCell<Option<Claim>> = const { RefCell::new(None) };
}

impl Claimed {
    /// Claims the first of so many cells that is free.
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

/// A cell that has an owner. It is free again when its thread ends.
struct Claim {
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
        // What other thread-local values count in their last moments goes to the shared cell.
        let _ = OWN.try_with(|own| own.set(SHARED));
        // Whoever claims it next sees all that was counted.
        self.of.0.fetch_and(!(1 << self.bit), Ordering::Release);
    }
}

/// From now on, the calling thread counts in cells of its own, if there are any left.
pub(crate) fn claim() {
    let claim = CLAIMED.claim(cores());
    let place = claim.as_ref().map_or(SHARED, Claim::place);
    CLAIM.set(claim);
    OWN.set(place);
}

/// Asked once: the answer is read from files, and there may be ten thousand endpoints with cells.
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
