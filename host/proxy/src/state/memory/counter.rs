//! Counting in memory: one table of fixed size for all cores.
//!
//! The hash of a bucket selects a set of eight cells. Each set has a lock of its own, which is held for some
//! nanoseconds and never across an await. The table uses locks and not compare-and-swap, because a request may
//! charge several buckets, all or none: a charge that is taken back too late would also give back what had been
//! refilled meanwhile, and so admit too much.
//!
//! The table never grows. A new bucket replaces one that is full again, because a full bucket needs no memory. If
//! no bucket of the set is full, none is replaced, since that would lift a limit: the new bucket then shares one
//! cell with the other new buckets of its policy until there is room. A flood of keys can thus make new clients
//! share one limit for a while, but it can neither grow the table nor give anybody more than the limit.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::contracts::counter::{
    BucketState, BucketStates, Counter, Draw, Settlement, Unavailable,
};
use witgate_exchange::turn;

/// Number of sets, which tests make smaller: 131,072 cells.
const SETS: usize = 1 << 14;
/// Number of sets that are allocated together when the first draw in one of them is counted: 4 KiB of 4.5 MiB in
/// total.
const CHUNK: usize = 16;
/// Number of cells in a set.
const WAYS: usize = 8;
/// Number of cells that are shared, by policy, by new buckets without room.
const SHARED: usize = 256;

/// One bucket: its identity, and the time at which it will be full again, in nanoseconds since the table was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Cell {
    bucket: u128,
    full: u64,
}

impl Cell {
    /// Charges a draw to the cell of its bucket. Returns when the bucket would be full again without the draw and
    /// with it; the latter is `None` if the draw is not admitted.
    fn charge(&mut self, draw: &Draw, now: u64) -> (u64, Option<u64>) {
        let full = if self.bucket == draw.bucket { self.full } else { 0 };
        self.fill(draw.bucket, full, draw, now)
    }

    /// As [`charge`](Cell::charge), for the cell that new buckets of this policy share.
    fn charge_shared(&mut self, draw: &Draw, now: u64) -> (u64, Option<u64>) {
        self.fill(u128::from(draw.policy), self.full, draw, now)
    }

    fn fill(&mut self, bucket: u128, full: u64, draw: &Draw, now: u64) -> (u64, Option<u64>) {
        let after = draw.rate.charge(full, now, draw.cost);
        if let Some(after) = after.filter(|_| draw.cost > 0) {
            *self = Cell { bucket, full: after };
        }
        (full, after)
    }
}

type Set = [Cell; WAYS];
type Chunk = Box<[Mutex<Set>]>;

/// The table.
pub struct MemoryCounter {
    began: Instant,
    chunks: Box<[OnceLock<Chunk>]>,
    size: usize,
    shared: Mutex<Box<[Cell; SHARED]>>,
}

impl Default for MemoryCounter {
    fn default() -> Self {
        MemoryCounter::with_sets(SETS)
    }
}

impl Counter for MemoryCounter {
    fn charge<'a>(&'a self, draws: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
        let now = u64::try_from((turn::now() - self.began).as_nanos()).unwrap_or(u64::MAX / 4);
        MaybeReady::over(Ok(match draws {
            [draw] => BucketStates::One(self.charge_one(draw, now)),
            several => BucketStates::Several(self.charge_at(several, now)),
        }))
    }

    fn settle(&self, settled: Vec<Settlement>) {
        let now = u64::try_from((turn::now() - self.began).as_nanos()).unwrap_or(u64::MAX / 4);
        settled.iter().for_each(|settled| self.settle_at(settled, now));
    }
}

impl MemoryCounter {
    fn with_sets(size: usize) -> Self {
        MemoryCounter {
            began: Instant::now(),
            chunks: (0..size.div_ceil(CHUNK)).map(|_| OnceLock::new()).collect(),
            size,
            shared: Mutex::new(Box::new([Cell::default(); SHARED])),
        }
    }

    fn lock_set(&self, index: usize) -> MutexGuard<'_, Set> {
        let chunk = &self.chunks[index / CHUNK];
        let sets = chunk.get_or_init(|| (0..CHUNK).map(|_| Mutex::default()).collect());
        lock(&sets[index % CHUNK])
    }

    /// Charges one draw, with the same result as [`MemoryCounter::charge_at`].
    fn charge_one(&self, draw: &Draw, now: u64) -> BucketState {
        let mut set = self.lock_set(set_of(draw, self.size));
        let (full, after) = match way_of(&set, draw, now) {
            Some(way) => set[way].charge(draw, now),
            None => lock(&self.shared)[shared_of(draw)].charge_shared(draw, now),
        };
        draw.rate.state(after.unwrap_or(full), now, draw.cost, after.is_some())
    }

    /// Settles one draw, in the cell in which its bucket is counted now.
    fn settle_at(&self, settled: &Settlement, now: u64) {
        let Settlement { bucket, policy, rate, change } = *settled;
        let draw = Draw { bucket, policy, cost: 0, rate };
        let mut set = self.lock_set(set_of(&draw, self.size));
        match way_of(&set, &draw, now) {
            Some(way) => {
                let full = if set[way].bucket == bucket { set[way].full } else { 0 };
                set[way] = Cell { bucket, full: rate.settle(full, now, change) };
            }
            None => {
                let shared = &mut lock(&self.shared)[shared_of(&draw)];
                shared.full = rate.settle(shared.full, now, change);
            }
        }
    }

    /// Charges all draws or none, at a time in nanoseconds since the table was made.
    fn charge_at(&self, draws: &[Draw], now: u64) -> Vec<BucketState> {
        let mut held = LockedCells::lock(self, draws);
        let mut tried: Vec<Try> = Vec::with_capacity(draws.len());
        for draw in draws {
            let place = held.find(draw, now);
            let before = *held.cell(place);
            let (full, after) = match place {
                CellPosition::Own(..) => held.cell(place).charge(draw, now),
                CellPosition::Shared(_) => held.cell(place).charge_shared(draw, now),
            };
            tried.push(Try { place, before, full, after });
        }
        let refused = tried.iter().any(|one| one.after.is_none());
        if refused {
            for one in tried.iter().rev() {
                *held.cell(one.place) = one.before;
            }
        }
        drop(held);
        let stand = |(draw, one): (&Draw, &Try)| {
            let full = if refused { one.full } else { one.after.unwrap_or(one.full) };
            draw.rate.state(full, now, draw.cost, one.after.is_some())
        };
        draws.iter().zip(&tried).map(stand).collect()
    }
}

/// One draw that is charged only if all draws of the request are admitted.
struct Try {
    place: CellPosition,
    before: Cell,
    full: u64,
    after: Option<u64>,
}

/// The position of the cell in which a bucket is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CellPosition {
    /// A cell of its own: the index among the locked sets, and the index in the set.
    Own(usize, usize),
    /// The cell that new buckets of its policy share.
    Shared(usize),
}

/// The locks of one charge. Sets are locked in ascending order and the shared cells last, so that charges cannot
/// deadlock.
struct LockedCells<'a> {
    sets: Vec<(usize, MutexGuard<'a, Set>)>,
    shared: Option<MutexGuard<'a, Box<[Cell; SHARED]>>>,
    table: &'a MemoryCounter,
}

impl<'a> LockedCells<'a> {
    fn lock(table: &'a MemoryCounter, draws: &[Draw]) -> Self {
        let mut wanted: Vec<usize> = draws.iter().map(|draw| set_of(draw, table.size)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let sets = wanted.into_iter().map(|set| (set, table.lock_set(set))).collect();
        LockedCells { sets, shared: None, table }
    }

    /// The bucket's own cell, or else a cell whose bucket is full, or else the shared cell.
    fn find(&mut self, draw: &Draw, now: u64) -> CellPosition {
        let set = set_of(draw, self.table.size);
        let held = self
            .sets
            .binary_search_by_key(&set, |(set, _)| *set)
            .expect("the set of every draw was locked before the first is looked for");
        match way_of(&self.sets[held].1, draw, now) {
            Some(way) => CellPosition::Own(held, way),
            None => CellPosition::Shared(shared_of(draw)),
        }
    }

    fn cell(&mut self, place: CellPosition) -> &mut Cell {
        match place {
            CellPosition::Own(held, way) => &mut self.sets[held].1[way],
            CellPosition::Shared(cell) => {
                let table = self.table;
                &mut self.shared.get_or_insert_with(|| lock(&table.shared))[cell]
            }
        }
    }
}

/// The cell of a set for a bucket: its own, or else one whose bucket is full.
fn way_of(cells: &Set, draw: &Draw, now: u64) -> Option<usize> {
    let own = cells.iter().position(|cell| cell.bucket == draw.bucket);
    own.or_else(|| cells.iter().position(|cell| cell.full <= now))
}

/// The cell that new buckets of this policy share.
fn shared_of(draw: &Draw) -> usize {
    draw.policy as usize % SHARED
}

fn set_of(draw: &Draw, sets: usize) -> usize {
    (draw.bucket >> 64) as usize % sets
}

/// A poisoned lock is used like any other: nothing panics while a lock is held, and a cell is always complete.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;
    use witgate_exchange::contracts::counter::Rate;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn draw(bucket: u128, cost: u32, limit: u32) -> Draw {
        let rate = Rate::of(limit, Duration::from_secs(3600), limit).unwrap();
        // The upper half selects the set.
        Draw { bucket: bucket << 64 | bucket, policy: 1, cost, rate }
    }

    fn admits(table: &MemoryCounter, draws: &[Draw], now: u64) -> bool {
        match draws {
            [draw] => table.charge_one(draw, now).admitted,
            several => table.charge_at(several, now).iter().all(|state| state.admitted),
        }
    }

    proptest! {
        /// A single draw has the same result in both functions.
        #[test]
        fn one_draw_alone_is_charged_like_one_of_several(
            steps in proptest::collection::vec((0_u64..2, 0_u128..30, 0_u32..4), 1..300)
        ) {
            let (alone, together) = (MemoryCounter::with_sets(1), MemoryCounter::with_sets(1));
            let mut now = SECOND;
            for (pause, bucket, cost) in steps {
                now += pause * SECOND;
                let draw = Draw { rate: Rate::of(2, Duration::from_secs(4), 3).unwrap(), ..draw(bucket, cost, 1) };
                prop_assert_eq!(vec![alone.charge_one(&draw, now)], together.charge_at(&[draw], now));
            }
        }
    }

    #[test]
    fn many_threads_never_get_more_than_the_limit() {
        let table = MemoryCounter::with_sets(2);
        // Every thread draws on two of three buckets at once, in either order.
        let pairs = [[1, 2], [2, 1], [2, 3], [3, 2], [1, 3], [3, 1]];
        let admitted: Vec<[u128; 2]> = std::thread::scope(|scope| {
            let hammer = |pair: [u128; 2]| {
                let table = &table;
                scope.spawn(move || {
                    let draws = pair.map(|bucket| draw(bucket, 1, 500));
                    (0..2000).filter(|_| admits(table, &draws, SECOND)).map(|_| pair).collect::<Vec<_>>()
                })
            };
            let threads = pairs.map(hammer);
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let drawn = |bucket| admitted.iter().flatten().filter(|drawn| **drawn == bucket).count();
        assert!([1, 2, 3].iter().all(|bucket| drawn(*bucket) <= 500));
        // Refused draws have charged nothing: exactly what is left can still be drawn.
        for bucket in [1, 2, 3] {
            let left = 500 - u32::try_from(drawn(bucket)).unwrap();
            assert!(left == 0 || admits(&table, &[draw(bucket, left, 500)], SECOND));
            assert!(!admits(&table, &[draw(bucket, 1, 500)], SECOND));
        }
    }

    #[test]
    fn a_flood_of_keys_neither_grows_the_table_nor_lifts_a_limit() {
        let table = MemoryCounter::with_sets(4);
        let known = draw(7, 1, 1);
        assert!(admits(&table, &[known], SECOND));
        let flood =
            (100..10_000_u128).filter(|bucket| admits(&table, &[draw(*bucket, 1, 1)], SECOND)).count();
        assert!(!admits(&table, &[known], SECOND));
        // Each cell admits one draw, and the cell that new buckets share admits one more.
        assert_eq!(flood, 4 * WAYS - 1 + 1);
        // Once all buckets are full again, there is room for a new one.
        assert!(admits(&table, &[draw(20_000, 1, 1)], 2 * 3600 * SECOND));
    }

    #[test]
    fn memory_is_taken_where_something_is_counted() {
        let table = MemoryCounter::default();
        let taken = || table.chunks.iter().filter(|chunk| chunk.get().is_some()).count();
        assert_eq!(taken(), 0);
        assert!(admits(&table, &[draw(7, 1, 9)], SECOND));
        assert!(admits(&table, &[draw(7, 1, 9), draw(8, 1, 9)], SECOND), "one chunk");
        assert_eq!(taken(), 1);
        assert!(admits(&table, &[draw(7 + SETS as u128 / 2, 1, 9)], SECOND));
        assert_eq!(taken(), 2);
    }

    #[test]
    fn one_bucket_named_twice_is_charged_twice() {
        let table = MemoryCounter::with_sets(1);
        assert!(!admits(&table, &[draw(1, 2, 3), draw(1, 2, 3)], SECOND));
        assert!(admits(&table, &[draw(1, 1, 3), draw(1, 2, 3)], SECOND));
        assert!(!admits(&table, &[draw(1, 1, 3)], SECOND));
    }

    #[test]
    fn asking_takes_no_place() {
        let table = MemoryCounter::with_sets(1);
        for bucket in 0..1000 {
            assert!(admits(&table, &[draw(bucket, 0, 1)], SECOND));
        }
        assert!((0..table.size).all(|set| table.lock_set(set).iter().all(|cell| cell.full == 0)));
    }

    proptest! {
        /// Whatever is drawn and when, no bucket admits more than its burst and what is refilled.
        #[test]
        fn no_bucket_admits_more_than_burst_and_flow(
            steps in proptest::collection::vec((0_u64..3, proptest::collection::vec((0_u128..40, 0_u32..4), 1..4)), 1..300)
        ) {
            let table = MemoryCounter::with_sets(2);
            let rate = Rate::of(2, Duration::from_secs(4), 3).unwrap();
            let mut drawn: HashMap<u128, u64> = HashMap::new();
            let mut now = SECOND;
            for (pause, buckets) in steps {
                now += pause * SECOND;
                let draws: Vec<Draw> = buckets
                    .iter()
                    .map(|(bucket, cost)| Draw { bucket: bucket << 64 | bucket, policy: 1, cost: *cost, rate })
                    .collect();
                if admits(&table, &draws, now) {
                    for (bucket, cost) in &buckets {
                        *drawn.entry(*bucket).or_default() += u64::from(*cost);
                    }
                }
            }
            // A bucket may have drawn on a cell of its own and, while there was no room, on the shared one.
            let most = 2 * (3 + (now - SECOND) / (2 * SECOND));
            for (bucket, sum) in drawn {
                prop_assert!(sum <= most, "bucket {bucket} got {sum} of {most}");
            }
        }
    }
}
