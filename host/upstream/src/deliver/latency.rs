//! Recent latencies, of an upstream or of an endpoint: a small histogram with decay, shared by all cores.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Buckets for each doubling. The bounds of a bucket differ by less than a fifth.
const STEPS: u32 = 4;
/// 28 doublings, from a microsecond to more than four minutes.
const BUCKETS: usize = 28 * STEPS as usize;
/// The number of samples after which all counts are halved.
const HALVED_EVERY: u64 = 10_000;
/// The number of milliseconds for which a computed percentile is used.
const FRESH: u64 = 100;

/// A histogram of recent latencies, for percentiles.
#[derive(Debug)]
pub(crate) struct Latencies {
    begun: Instant,
    counts: [AtomicU32; BUCKETS],
    halved: AtomicU64,
    /// When the percentile was computed, in milliseconds, counted from 1; 0: never.
    known_at: AtomicU64,
    /// The percentile in microseconds; 0: there are too few samples.
    known: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies {
            begun: Instant::now(),
            counts: [const { AtomicU32::new(0) }; BUCKETS],
            halved: AtomicU64::new(0),
            known_at: AtomicU64::new(0),
            known: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// Records the latency of one request.
    pub(crate) fn record(&self, time: Duration) {
        self.record_at(self.now(), time);
    }

    /// The latency that this share of the recent requests did not exceed. `None` while there are too few samples.
    pub(crate) fn percentile(&self, share: f64, min_samples: u32) -> Option<Duration> {
        self.percentile_at(self.now(), share, min_samples)
    }

    /// The latencies that these shares of the recent requests did not exceed, computed now. `None` if there were no
    /// recent requests.
    pub(crate) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[Duration; N]> {
        let found = shares.map(|share| self.find(share, 1));
        found.iter().all(|micros| *micros > 0).then(|| found.map(Duration::from_micros))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn record_at(&self, now: u64, time: Duration) {
        let halved = self.halved.load(Ordering::Relaxed);
        let due = now.saturating_sub(halved) >= HALVED_EVERY;
        if due && self.halved.compare_exchange(halved, now, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            for count in &self.counts {
                count.fetch_sub(count.load(Ordering::Relaxed).div_ceil(2), Ordering::Relaxed);
            }
        }
        self.counts[bucket(time)].fetch_add(1, Ordering::Relaxed);
    }

    fn percentile_at(&self, now: u64, share: f64, min_samples: u32) -> Option<Duration> {
        let (now, known_at) = (now + 1, self.known_at.load(Ordering::Acquire));
        let stale = known_at == 0 || now >= known_at + FRESH;
        if stale && self.known_at.compare_exchange(known_at, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            let found = self.find(share, min_samples);
            self.known.store(found, Ordering::Release);
        }
        let known = self.known.load(Ordering::Acquire);
        (known > 0).then(|| Duration::from_micros(known))
    }

    /// The upper bound of the bucket that contains the percentile, in microseconds; 0: there are too few samples.
    fn find(&self, share: f64, min_samples: u32) -> u64 {
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed).into()).collect();
        let total: u64 = counts.iter().sum();
        if total < u64::from(min_samples) {
            return 0;
        }
        let rank = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        let found = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        upper_bound(found.unwrap_or(BUCKETS - 1))
    }
}

fn bucket(time: Duration) -> usize {
    let micros = time.as_micros().max(1) as f64;
    ((micros.log2() * f64::from(STEPS)).floor() as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    ((bucket + 1) as f64 / f64::from(STEPS)).exp2().ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    fn known(latencies: &Latencies, now: u64) -> Option<f64> {
        latencies.percentile_at(now, 0.95, 20).map(|time| time.as_secs_f64() * 1e3)
    }

    #[test]
    fn the_percentile_is_known_to_a_fifth_once_there_are_enough() {
        let latencies = Latencies::default();
        (1..=19).for_each(|number| latencies.record_at(0, MILLI * number));
        assert_eq!(known(&latencies, 0), None);
        (20..=100).for_each(|number| latencies.record_at(0, MILLI * number));
        let found = known(&latencies, FRESH).unwrap();
        assert!((95.0..=95.0 * 1.2).contains(&found), "{found}");
    }

    #[test]
    fn it_is_worked_out_anew_after_a_moment_and_old_times_are_forgotten() {
        let latencies = Latencies::default();
        (0..1000).for_each(|_| latencies.record_at(0, MILLI * 100));
        assert!(known(&latencies, 0).unwrap() >= 100.0);
        (0..100_000).for_each(|_| latencies.record_at(1, MILLI));
        assert!(known(&latencies, FRESH - 1).unwrap() >= 100.0, "still the old one");
        assert!(known(&latencies, FRESH).unwrap() < 2.0);
        (1..=20).for_each(|round| latencies.record_at(round * HALVED_EVERY, MILLI * 50));
        let found = known(&latencies, 20 * HALVED_EVERY);
        assert_eq!(found, None, "what is left is too little");
    }

    #[test]
    fn quantiles_are_known_from_the_first_request_and_the_histogram_is_small() {
        assert!(size_of::<Latencies>() <= 512, "each of ten thousand endpoints has one");
        let latencies = Latencies::default();
        assert_eq!(latencies.quantiles([0.5, 0.95]), None);
        (1..=100).for_each(|number| latencies.record(MILLI * number));
        let [half, most] = latencies.quantiles([0.5, 0.95]).unwrap().map(|time| time.as_secs_f64() * 1e3);
        assert!((50.0..=50.0 * 1.2).contains(&half) && (95.0..=95.0 * 1.2).contains(&most), "{half} {most}");
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_bucket() {
        for time in [Duration::ZERO, Duration::from_nanos(1), Duration::from_secs(1 << 40)] {
            assert!(bucket(time) < BUCKETS);
        }
        assert!(upper_bound(bucket(MILLI)) >= 1000);
    }
}
