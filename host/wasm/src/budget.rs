//! What one call, and one instance, may use.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use wasmtime::{ResourceLimiter, UpdateDeadline};
use witgate_config::model::Budget;
use witgate_proxy::contracts::CallFailure;

use crate::clock::{Clock, LONGEST_LOOK, TICK};

/// Ticks until the first look at the clocks. One may be over at once; two are at least one whole tick.
pub(crate) const FIRST_LOOK: u64 = 2;

/// What a wait leaves of the wall time, so that a plugin that is told of its end can still answer. Of a wall time under 100
/// milliseconds it leaves half.
const TIME_TO_ANSWER: Duration = Duration::from_millis(50);

/// The host ended a call. Travels through the guest as an error that no guest can catch.
#[derive(Debug)]
pub(crate) struct Killed(pub(crate) CallFailure);

impl fmt::Display for Killed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ended by the gateway: {}", self.0.as_str())
    }
}

impl std::error::Error for Killed {}

/// The time of one call, shared between the caller and the epoch callback in its store.
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
    /// When this core took it up; later than `begun` once it has waited.
    resumed: Instant,
    /// The most that the thread's CPU clock can have shown then.
    clock: Duration,
    /// CPU time before it last waited.
    spent: Duration,
    /// CPU time that does not count against the budget, because it was used before the budget began anew.
    forgiven: Duration,
    /// Whether this core is at it; else it waits.
    running: bool,
    /// Whether it was looked at since it began.
    looked_at: bool,
}

impl Stopwatch {
    /// A stopwatch that no call has begun yet.
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

    /// A call begins at this moment, which is now, and may take so much.
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

    /// A call that waited goes on.
    pub(crate) fn resume(&self) {
        self.clock.keep_going();
        self.with(|reading| reading.resume(Instant::now()));
    }

    /// A call begins to wait.
    pub(crate) fn pause(&self) {
        self.with(|reading| {
            reading.spent += reading.used();
            reading.running = false;
        });
    }

    /// CPU time the call has taken so far, whether it counted against its budget or not.
    pub(crate) fn burnt(&self) -> Duration {
        self.with(|reading| {
            let now = if reading.running { reading.used() } else { Duration::ZERO };
            reading.forgiven + reading.spent + now
        })
    }

    /// How long the call may still wait for the host: its wall time but for a rest in which it can answer.
    pub(crate) fn left_to_wait(&self) -> Duration {
        self.with(|reading| {
            let rest = TIME_TO_ANSWER.min(reading.wall / 2);
            (reading.wall - rest).saturating_sub(reading.begun.elapsed())
        })
    }

    /// Looks at both clocks: how long until the next look, or why the call ends here.
    ///
    /// No call ends for its CPU time at the first look, but has its budget anew from there. A machine that shares its
    /// processors may stand still for longer than a budget while a call of microseconds is under way, and the CPU clock
    /// counts some of that: on two cores of such a machine, that of a busy thread jumped by more than 5 ms five times in
    /// four minutes, once by more than 10. A short call is over by the second look; a loop is not.
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

    /// CPU time since the call was taken up, rather too little than too much: a thread that was put aside has used less
    /// than the elapsed time, and its clock was read before the call began.
    fn used(&self) -> Duration {
        let elapsed = self.resumed.elapsed();
        if elapsed < TICK {
            return elapsed;
        }
        elapsed.min(cpu_clock().saturating_sub(self.clock))
    }
}

/// The most that this thread's CPU clock can show now. It is read at most once a tick, because reading it costs more than
/// a small call; since then, the thread has used no more than the time that has passed.
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

/// Caps the memory and tables of one store.
pub(crate) struct Space {
    memory: usize,
    memory_limit: usize,
    elements: usize,
    elements_limit: usize,
}

impl Space {
    /// Room for one instance under this budget.
    pub(crate) fn new(budget: &Budget) -> Self {
        Space { memory: 0, memory_limit: budget.memory, elements: 0, elements_limit: budget.table_elements }
    }

    /// Bytes of linear memory the instance has.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }
}

/// Adds a growth to a sum, if it stays within the limit. Denial ends the call: a guest that is told would only panic,
/// and its panic would not say why.
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

    /// To the stopwatch, a machine that stands still under a call looks like a call that computes.
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
    #[expect(clippy::disallowed_methods, reason = "the time that passes is what is tested")]
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
        stopwatch.begin(Instant::now(), Duration::from_secs(1), Duration::from_millis(20));
        std::thread::sleep(Duration::from_millis(15));
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
