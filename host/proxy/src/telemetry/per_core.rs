//! Counters without contention: a cell for each core, summed when read.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Cells on cache lines of their own (128 bytes: neighbouring lines are fetched in pairs).
#[repr(align(128))]
#[derive(Debug, Default)]
struct Padded<T>(T);

/// One `T` for each core, and for some more if that makes their number a power of two. The `T` is made of atomics; that a cell is seldom written by two threads makes it cheap, not
/// correct.
#[derive(Debug)]
pub struct PerCore<T> {
    cells: Box<[Padded<T>]>,
}

impl<T: Default> Default for PerCore<T> {
    fn default() -> Self {
        PerCore { cells: (0..cores()).map(|_| Padded::default()).collect() }
    }
}

impl<T> PerCore<T> {
    /// The cell of the calling thread.
    pub fn mine(&self) -> &T {
        &self.cells[slot() & (self.cells.len() - 1)].0
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

/// Asked once: the answer is read from files, and there may be ten thousand endpoints with cells.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| {
        std::thread::available_parallelism().map_or(1, usize::from).clamp(1, 64).next_power_of_two()
    })
}

/// A number of its own for each thread: the workers are started one after the other, so theirs differ modulo the number
/// of cores.
fn slot() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SLOT: Cell<Option<usize>> = const { Cell::new(None) };
    }
    SLOT.with(|cell| {
        cell.get().unwrap_or_else(|| {
            let slot = NEXT.fetch_add(1, Ordering::Relaxed);
            cell.set(Some(slot));
            slot
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn every_thread_is_in_the_sum() {
        let counter = PerCore::<AtomicU64>::default();
        std::thread::scope(|scope| {
            for _ in 0..9 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counter.mine().fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(counter.sum(|cell| cell.load(Ordering::Relaxed)), 9000);
    }
}
