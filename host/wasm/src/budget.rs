//! Budgets: the CPU time and wall time of one call, and the memory of one instance.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};
use witgate_config::model::Budget;
use witgate_exchange::contracts::CallFailure;

use crate::clock::{Clock, LONGEST_LOOK, TICK};

/// Ticks from the start of a call until its clocks are read for the first time. One tick may end immediately; two
/// ticks take at least one whole tick period.
pub(crate) const FIRST_LOOK: u64 = 2;

/// Wall time that an import which waits (`fetch`) leaves unused, so that the guest can still return a result after
/// the wait has timed out. If the wall time is below 100 ms, half of it is left.
const TIME_TO_ANSWER: Duration = Duration::from_millis(50);

/// The host ended a call. Passed through the guest as an error that the guest cannot catch.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) CallFailure);

impl fmt::Display for Killed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ended by the gateway: {}", self.0.as_str())
    }
}

impl std::error::Error for Killed {}

/// The CPU time and wall time of one call, shared between the caller and the epoch callback of its store.
#[derive(Clone)]
pub(crate) struct Stopwatch {
    reading: Arc<Mutex<BudgetUse>>,
    clock: Arc<Clock>,
}

struct BudgetUse {
    cpu: Duration,
    wall: Duration,
    /// When the call began.
    begun: Instant,
    /// When this core last started or resumed the call. Later than `begun` if the call has waited.
    resumed: Instant,
    /// Upper bound of the thread's CPU clock at `resumed`.
    clock: Duration,
    /// CPU time that the call used before it last began to wait.
    spent: Duration,
    /// CPU time that does not count, because it was used before the budget was started again.
    forgiven: Duration,
    /// Whether the guest is running; otherwise the call is waiting.
    running: bool,
    /// Whether the clocks have been read since the call began.
    looked_at: bool,
}

impl Stopwatch {
    /// A stopwatch on which no call has begun.
    pub(crate) fn new(clock: Arc<Clock>) -> Self {
        let now = Instant::now();
        let reading = BudgetUse {
            cpu: Duration::ZERO,
            wall: Duration::ZERO,
            begun: now,
            resumed: now,
            clock: Duration::ZERO,
            spent: Duration::ZERO,
            forgiven: Duration::ZERO,
            running: false,
            looked_at: false,
        };
        Stopwatch { reading: Arc::new(Mutex::new(reading)), clock }
    }

    /// Starts a call with these budgets. `now` is the current time.
    pub(crate) fn begin(&self, now: Instant, cpu: Duration, wall: Duration) {
        self.clock.keep_going();
        self.with(|reading| {
            (reading.cpu, reading.wall) = (cpu, wall);
            (reading.spent, reading.forgiven) = (Duration::ZERO, Duration::ZERO);
            reading.looked_at = false;
            reading.resume(now);
            reading.begun = now;
        });
    }

    /// The call goes on after a wait.
    pub(crate) fn resume(&self) {
        self.clock.keep_going();
        self.with(|reading| reading.resume(Instant::now()));
    }

    /// The call begins to wait.
    pub(crate) fn pause(&self) {
        self.with(|reading| {
            reading.spent += reading.used();
            reading.running = false;
        });
    }

    /// CPU time that the call has used so far, whether it counts against the budget or not.
    pub(crate) fn burnt(&self) -> Duration {
        self.with(|reading| {
            let now = if reading.running { reading.used() } else { Duration::ZERO };
            reading.forgiven + reading.spent + now
        })
    }

    /// How long the call may still wait for the host: the rest of its wall time without the part that is kept for
    /// returning a result ([`TIME_TO_ANSWER`]).
    pub(crate) fn left_to_wait(&self) -> Duration {
        self.with(|reading| {
            let rest = TIME_TO_ANSWER.min(reading.wall / 2);
            (reading.wall - rest).saturating_sub(reading.begun.elapsed())
        })
    }

    /// Reads both clocks. Returns the number of ticks until the next reading, or the error that ends the call.
    ///
    /// A call that exceeds its CPU budget at the first reading is not ended; its budget starts again from there.
    /// On a shared machine the whole virtual machine may be stopped for longer than a budget while a call of some
    /// microseconds is running, and the CPU clock counts part of that time. A short call is over before the second
    /// reading; an endless loop is not.
    pub(crate) fn look(&self) -> wasmtime::Result<UpdateDeadline> {
        self.clock.keep_going();
        self.with(|reading| {
            let again = std::mem::replace(&mut reading.looked_at, true);
            let mut used = reading.spent + reading.used();
            if used >= reading.cpu {
                if again {
                    return Err(wasmtime::Error::new(Killed(CallFailure::Cpu)));
                }
                reading.resume(Instant::now());
                reading.forgiven += used;
                (reading.spent, used) = (Duration::ZERO, Duration::ZERO);
            }
            let elapsed = reading.begun.elapsed();
            if elapsed >= reading.wall {
                return Err(wasmtime::Error::new(Killed(CallFailure::Wall)));
            }
            let left = (reading.cpu - used).min(reading.wall - elapsed);
            let ticks = left.as_nanos().div_ceil(TICK.as_nanos()).max(1);
            Ok(UpdateDeadline::Continue(u64::try_from(ticks).unwrap_or(u64::MAX).min(LONGEST_LOOK)))
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut BudgetUse) -> T) -> T {
        act(&mut self.reading.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl BudgetUse {
    fn resume(&mut self, now: Instant) {
        self.resumed = now;
        self.running = true;
        self.clock = cpu_clock_at(now);
    }

    /// CPU time since the call was started or resumed. Never too high: elapsed time is an upper bound for a thread
    /// that was preempted, and the CPU clock value at the start is an upper bound, too.
    fn used(&self) -> Duration {
        let elapsed = self.resumed.elapsed();
        if elapsed < TICK {
            return elapsed;
        }
        elapsed.min(cpu_clock().saturating_sub(self.clock))
    }
}

/// Upper bound of this thread's CPU clock at `now`. Reading the clock costs more than a small call, so it is read
/// at most once a tick; the time that has passed since the last reading is added.
fn cpu_clock_at(now: Instant) -> Duration {
    thread_local! {
        static LAST: Cell<Option<(Instant, Duration)>> = const { Cell::new(None) };
    }
    LAST.with(|last| match last.get() {
        Some((read, clock)) if now.duration_since(read) < TICK => clock + now.duration_since(read),
        _ => {
            let clock = cpu_clock();
            last.set(Some((now, clock)));
            clock
        }
    })
}

/// CPU time of this thread.
pub(crate) fn cpu_clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or_default();
    Duration::new(seconds, nanoseconds)
}

/// Limits the memory and the tables of one store.
pub(crate) struct Space {
    memory: usize,
    memory_limit: usize,
    elements: usize,
    elements_limit: usize,
}

impl Space {
    /// Limits for one instance under this budget.
    pub(crate) fn new(budget: &Budget) -> Self {
        Space { memory: 0, memory_limit: budget.memory, elements: 0, elements_limit: budget.table_elements }
    }

    /// Linear memory of the instance, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

/// Adds a growth to a sum if the sum stays within the limit. Otherwise the call is ended: a guest that is told of
/// the failed growth would only panic, and the panic message would hide the cause.
fn grow(sum: &mut usize, limit: usize, current: usize, desired: usize) -> wasmtime::Result<bool> {
    let grown = sum.saturating_add(desired.saturating_sub(current));
    if grown > limit {
        return Err(wasmtime::Error::new(Killed(CallFailure::Memory)));
    }
    *sum = grown;
    Ok(true)
}

impl ResourceLimiter for Space {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        grow(&mut self.memory, self.memory_limit, current, desired)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        grow(&mut self.elements, self.elements_limit, current, desired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(memory: usize, table_elements: usize) -> Space {
        Space { memory: 0, memory_limit: memory, elements: 0, elements_limit: table_elements }
    }

    fn killed(answer: &wasmtime::Result<bool>) -> Option<CallFailure> {
        answer.as_ref().err().and_then(|error| error.downcast_ref::<Killed>()).map(|killed| killed.0)
    }

    #[test]
    fn all_memories_and_tables_of_an_instance_share_one_budget() {
        let mut space = space(100, 10);
        assert!(space.memory_growing(0, 60, None).unwrap());
        assert!(space.memory_growing(60, 80, None).unwrap());
        assert_eq!(killed(&space.memory_growing(0, 30, None)), Some(CallFailure::Memory));
        assert_eq!(space.memory(), 80);
        assert!(space.table_growing(0, 10, None).unwrap());
        assert_eq!(killed(&space.table_growing(0, 1, None)), Some(CallFailure::Memory));
        assert_eq!(killed(&space.table_growing(10, usize::MAX, None)), Some(CallFailure::Memory));
    }

    fn ended(stopwatch: &Stopwatch) -> Option<CallFailure> {
        stopwatch.look().err().and_then(|error| error.downcast::<Killed>().ok()).map(|killed| killed.0)
    }

    fn compute(time: Duration) {
        let begun = cpu_clock();
        while cpu_clock() - begun < time {}
    }

    /// The stopwatch cannot tell a machine that is stopped during a call from a call that computes.
    #[test]
    fn a_short_call_survives_a_machine_that_stands_still_and_a_loop_does_not() {
        let stopwatch = Stopwatch::new(Arc::new(Clock::start(|| false).unwrap()));
        let (budget, wall) = (Duration::from_millis(50), Duration::from_secs(60));
        for _ in 0..2 {
            stopwatch.begin(Instant::now(), budget, wall);
            compute(3 * budget);
            assert_eq!(ended(&stopwatch), None, "at the first look");
            compute(budget / 2);
            assert_eq!(ended(&stopwatch), None, "the budget begins anew");
            compute(budget);
            assert_eq!(ended(&stopwatch), Some(CallFailure::Cpu));
            assert!(stopwatch.burnt() >= 4 * budget, "what was forgiven was burnt all the same");
        }
        stopwatch.begin(Instant::now(), budget, wall);
        assert_eq!(ended(&stopwatch), None);
        compute(2 * budget);
        assert_eq!(ended(&stopwatch), Some(CallFailure::Cpu), "only at the first look");
    }

    #[test]
    fn a_wait_leaves_time_to_answer() {
        let stopwatch = Stopwatch::new(Arc::new(Clock::start(|| false).unwrap()));
        let left = |wall: u64| {
            stopwatch.begin(Instant::now(), Duration::from_secs(1), Duration::from_millis(wall));
            stopwatch.left_to_wait()
        };
        for (wall, most) in [(60_000, 59_950), (1000, 950), (100, 50), (40, 20), (1, 1)] {
            assert!(left(wall) <= Duration::from_millis(most), "{wall} ms");
        }
        assert!(left(60_000) > Duration::from_secs(59));
        let begun = Instant::now() - Duration::from_millis(955);
        stopwatch.begin(begun, Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(stopwatch.left_to_wait(), Duration::ZERO);
        assert!(stopwatch.look().is_ok(), "there is time left to answer");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the time that passes is what is tested")]
    fn time_that_was_waited_is_wall_time_only() {
        let stopwatch = Stopwatch::new(Arc::new(Clock::start(|| false).unwrap()));
        stopwatch.begin(Instant::now(), Duration::from_millis(200), Duration::from_secs(60));
        stopwatch.pause();
        std::thread::sleep(Duration::from_millis(250));
        assert!(stopwatch.burnt() < Duration::from_millis(200), "nor is it burning");
        stopwatch.resume();
        assert!(stopwatch.look().is_ok(), "sleeping is not computing");
        stopwatch.begin(Instant::now(), Duration::from_secs(60), Duration::from_millis(10));
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(ended(&stopwatch), Some(CallFailure::Wall));
    }
}
