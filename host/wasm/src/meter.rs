//! Counters of each binding. Each core counts for itself, and the sum is computed when the counters are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use witgate_exchange::contracts::{CallFailure, Measured, Phase};
use witgate_exchange::per_core::{PerCore, add, add_signed};

pub use crate::imports::metrics::Kind;
use crate::imports::metrics::Names;

/// Upper bounds of the histogram of call times, in microseconds.
pub const MICROSECONDS: [u64; 16] =
    [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000];

/// Upper bounds of the histograms that plugins define.
pub const BOUNDS: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 100.0, 1_000.0, 10_000.0];

/// Every kind of call failure, in the order of the counters.
pub const FAILURES: [CallFailure; 9] = [
    CallFailure::Trap,
    CallFailure::Cpu,
    CallFailure::Wall,
    CallFailure::Memory,
    CallFailure::HostCalls,
    CallFailure::Output,
    CallFailure::Queue,
    CallFailure::Quarantined,
    CallFailure::Unavailable,
];

/// The counters of one binding. Carried over its versions.
#[derive(Default)]
pub struct Meter {
    cores: PerCore<CoreMeter>,
    /// The metrics that the plugin defines.
    pub(crate) names: Arc<Names>,
    log_lines_dropped: AtomicU64,
    metrics_dropped: AtomicU64,
    grants_refused: AtomicU64,
    unobserved: AtomicU64,
    memory_high: AtomicUsize,
    instructions: AtomicU64,
    quarantines: AtomicU64,
    reverts: AtomicU64,
}

/// The counters of one core.
#[derive(Default)]
struct CoreMeter {
    calls: [AtomicU64; Phase::ALL.len()],
    failures: [AtomicU64; FAILURES.len()],
    times: [AtomicU64; MICROSECONDS.len() + 1],
    microseconds: AtomicU64,
    answers_again: AtomicU64,
    refusals: AtomicU64,
    abandoned: AtomicU64,
    made: AtomicU64,
    live: AtomicI64,
}

/// The sum over all cores at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterTotals {
    /// Calls that ran, in the order of [`Phase::ALL`].
    pub calls: [u64; Phase::ALL.len()],
    /// Failed calls, in the order of [`FAILURES`].
    pub failures: [u64; FAILURES.len()],
    /// Calls by duration, in the buckets of [`MICROSECONDS`]; the last number counts longer calls. Not cumulative.
    pub times: [u64; MICROSECONDS.len() + 1],
    /// Sum of the durations of all calls, in microseconds.
    pub microseconds: u64,
    /// Remembered results that were used instead of a call.
    pub answers_again: u64,
    /// Requests that the plugin itself refused: authentication refused them, or transformation sent a response of
    /// its own.
    pub refusals: u64,
    /// Calls that were dropped because the client went away.
    pub abandoned: u64,
    /// Instances made.
    pub made: u64,
    /// Instances that exist.
    pub live: u64,
    /// Log lines dropped by the rate limit.
    pub log_lines_dropped: u64,
    /// Values dropped because their name could not be used.
    pub metrics_dropped: u64,
    /// Uses of objects that are not granted.
    pub grants_refused: u64,
    /// Finished exchanges that `observe` did not see: the queue was full, or the call with their batch failed.
    pub unobserved: u64,
    /// The most memory that one instance had, in bytes.
    pub memory_high: u64,
    /// Times the binding was put in quarantine.
    pub quarantines: u64,
    /// Times a new version was reverted.
    pub reverts: u64,
}

impl Meter {
    /// A call ended, with a result or a failure.
    pub(crate) fn called(&self, phase: Phase, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let slot = MICROSECONDS.partition_point(|bound| *bound < microseconds);
        let core = self.cores.mine();
        add(&core.calls[phase as usize], 1);
        add(&core.times[slot], 1);
        add(&core.microseconds, microseconds);
    }

    /// A remembered result was used instead of a call.
    pub(crate) fn answered_again(&self) {
        add(&self.cores.mine().answers_again, 1);
    }

    /// A call returned no result.
    pub(crate) fn failed(&self, failure: CallFailure) {
        if let Some(slot) = FAILURES.iter().position(|known| *known == failure) {
            add(&self.cores.mine().failures[slot], 1);
        }
    }

    /// The plugin refused a request.
    pub(crate) fn refused(&self) {
        add(&self.cores.mine().refusals, 1);
    }

    /// A call was dropped before its end.
    pub(crate) fn abandoned(&self) {
        add(&self.cores.mine().abandoned, 1);
    }

    /// An instance was made.
    pub(crate) fn made(&self) {
        let core = self.cores.mine();
        add(&core.made, 1);
        add_signed(&core.live, 1);
    }

    /// Instances were dropped.
    pub(crate) fn gone(&self, count: usize) {
        add_signed(&self.cores.mine().live, -i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// An instance has this much memory.
    pub(crate) fn memory(&self, bytes: usize) {
        if bytes > self.memory_high.load(Relaxed) {
            self.memory_high.fetch_max(bytes, Relaxed);
        }
    }

    /// An instance of an engine that counts has executed this many instructions.
    pub(crate) fn executed(&self, instructions: u64) {
        self.instructions.fetch_add(instructions, Relaxed);
    }

    /// What was measured so far.
    pub(crate) fn measured(&self) -> Measured {
        Measured {
            memory: self.memory_high.load(Relaxed) as u64,
            instructions: self.instructions.load(Relaxed),
        }
    }

    /// A log line was dropped by the rate limit.
    pub(crate) fn log_line_dropped(&self) {
        self.log_lines_dropped.fetch_add(1, Relaxed);
    }

    /// A value was dropped because its name could not be used.
    pub(crate) fn metric_dropped(&self) {
        self.metrics_dropped.fetch_add(1, Relaxed);
    }

    /// The plugin used an object that is not granted.
    pub(crate) fn grant_refused(&self) {
        self.grants_refused.fetch_add(1, Relaxed);
    }

    /// This many finished exchanges were not seen by `observe`.
    pub(crate) fn unobserved(&self, count: u64) {
        self.unobserved.fetch_add(count, Relaxed);
    }

    /// The binding was put in quarantine.
    pub(crate) fn quarantined(&self) {
        self.quarantines.fetch_add(1, Relaxed);
    }

    /// The binding's new version is to be reverted.
    pub(crate) fn reverted(&self) {
        self.reverts.fetch_add(1, Relaxed);
    }

    /// The metrics that the plugin defines.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The sum over all cores.
    pub fn read(&self) -> MeterTotals {
        let mut reading = MeterTotals {
            log_lines_dropped: self.log_lines_dropped.load(Relaxed),
            metrics_dropped: self.metrics_dropped.load(Relaxed),
            grants_refused: self.grants_refused.load(Relaxed),
            unobserved: self.unobserved.load(Relaxed),
            memory_high: self.memory_high.load(Relaxed) as u64,
            quarantines: self.quarantines.load(Relaxed),
            reverts: self.reverts.load(Relaxed),
            ..MeterTotals::default()
        };
        let mut live = 0_i64;
        for core in self.cores.iter() {
            sum(&mut reading.calls, &core.calls);
            sum(&mut reading.failures, &core.failures);
            sum(&mut reading.times, &core.times);
            reading.microseconds += core.microseconds.load(Relaxed);
            reading.answers_again += core.answers_again.load(Relaxed);
            reading.refusals += core.refusals.load(Relaxed);
            reading.abandoned += core.abandoned.load(Relaxed);
            reading.made += core.made.load(Relaxed);
            live += core.live.load(Relaxed);
        }
        reading.live = u64::try_from(live).unwrap_or_default();
        reading
    }
}

fn sum<const N: usize>(sums: &mut [u64; N], counters: &[AtomicU64; N]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.load(Relaxed);
    }
}

/// A histogram that a plugin defines.
#[derive(Default)]
pub struct Distribution {
    counts: [AtomicU64; BOUNDS.len() + 1],
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl Distribution {
    /// Adds a value.
    pub(crate) fn observe(&self, value: f64) {
        // One value that is not finite would make the sum useless from then on.
        if !value.is_finite() {
            return;
        }
        let slot = BOUNDS.partition_point(|bound| *bound < value);
        self.counts[slot].fetch_add(1, Relaxed);
        self.sum.update(Relaxed, Relaxed, |bits| (f64::from_bits(bits) + value).to_bits());
    }

    /// Number of values in each bucket of [`BOUNDS`]; the last number counts greater values. Not cumulative.
    pub fn counts(&self) -> [u64; BOUNDS.len() + 1] {
        let mut counts = [0; BOUNDS.len() + 1];
        sum(&mut counts, &self.counts);
        counts
    }

    /// The sum of all values.
    pub fn sum(&self) -> f64 {
        f64::from_bits(self.sum.load(Relaxed))
    }
}
