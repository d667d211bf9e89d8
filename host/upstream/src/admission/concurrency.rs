//! An adaptive limit on the requests in flight, computed from the gradient of latency.
//!
//! The algorithm follows Gradient2 of Netflix's concurrency-limits
//! (<https://github.com/Netflix/concurrency-limits>). In each window the average latency is compared with the
//! long-term average. If it has grown by more than a tolerated factor, requests queue at the upstream, and the
//! limit shrinks by that gradient, by half at most. Otherwise the limit grows by a small queue, the square root of
//! the limit, to find out whether more is possible. It changes only if at least half of it is in use, since an
//! idle upstream shows nothing about its capacity. Changes are smoothed.
//!
//! Envoy's gradient controller instead measures the best latency by letting hardly any request through once a
//! minute. That costs requests of a healthy upstream, and the measured value is wrong as long as a slow upstream
//! stays slow. Here the latency of an upstream that stays slow becomes the normal one after about 600 windows.
//!
//! The state is in shared atomics. The core that ends a window moves the limit; no core waits for another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use witgate_config::model;

use crate::time::{Clock, millis};

/// The fewest responses in a window for which its average is meaningful.
const LEAST_SAMPLES: u64 = 10;

/// The number of windows that the long-term average covers.
const LONG: f64 = 600.0;

/// The number of first windows for which the long-term average is their plain mean, because connections are new
/// and caches are cold in the very first.
const WARM_UP: u64 = 10;

/// The weight of the computed limit in the next one.
const SMOOTHING: f64 = 0.2;

/// Longer latencies count as this one: they add no information, and the sum has to fit into its bits.
const LONGEST: Duration = Duration::from_secs(10);

/// Bits of the sum of latencies in microseconds. The other bits of the word count the samples.
const SUM: u32 = 44;

/// The adaptive limit of one upstream.
#[derive(Debug, Default)]
pub(crate) struct Concurrency {
    pub(crate) clock: Clock,
    /// The limit, the long-term average in microseconds, and the limit that was last reported: the bits of `f64`
    /// numbers, 0 before the first window.
    limit: AtomicU64,
    long: AtomicU64,
    told: AtomicU64,
    /// The number of windows that have ended.
    ended: AtomicU64,
    /// When the current window began, in milliseconds of the clock.
    begun: AtomicU64,
    /// The number of samples in the window, and their sum.
    samples: AtomicU64,
    /// The most requests in flight in the window.
    most_in_flight: AtomicU64,
}

/// A change of the limit that is large enough for an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LimitChange {
    pub(crate) limit: usize,
    pub(crate) lowered: bool,
}

impl Concurrency {
    /// The current limit.
    pub(crate) fn limit(&self, settings: &model::Concurrency) -> usize {
        self.exact(settings) as usize
    }

    fn exact(&self, settings: &model::Concurrency) -> f64 {
        match self.limit.load(Ordering::Acquire) {
            0 => f64::from(settings.initial),
            bits => f64::from_bits(bits).clamp(f64::from(settings.min), f64::from(settings.max)),
        }
    }

    /// Adds the latency of an attempt, and the number of requests in flight. `Some` if the limit has changed much.
    pub(crate) fn observe(
        &self,
        took: Duration,
        in_flight: usize,
        settings: &model::Concurrency,
    ) -> Option<LimitChange> {
        let took = took.min(LONGEST).as_micros() as u64;
        self.samples.fetch_add((1 << SUM) | took.max(1), Ordering::AcqRel);
        if self.most_in_flight.load(Ordering::Relaxed) < in_flight as u64 {
            self.most_in_flight.fetch_max(in_flight as u64, Ordering::AcqRel);
        }
        let (now, begun) = (self.clock.now(), self.begun.load(Ordering::Acquire));
        let complete = now >= begun + millis(settings.window)
            && self.samples.load(Ordering::Acquire) >> SUM >= LEAST_SAMPLES;
        let mine =
            complete && self.begun.compare_exchange(begun, now, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if mine { self.end_window(settings) } else { None }
    }

    fn end_window(&self, settings: &model::Concurrency) -> Option<LimitChange> {
        let samples = self.samples.swap(0, Ordering::AcqRel);
        let most_in_flight = self.most_in_flight.swap(0, Ordering::AcqRel);
        let short = (samples & ((1 << SUM) - 1)) as f64 / (samples >> SUM).max(1) as f64;
        let ended = self.ended.fetch_add(1, Ordering::AcqRel) + 1;
        let long = long_average(f64::from_bits(self.long.load(Ordering::Acquire)), short, ended);
        self.long.store(long.to_bits(), Ordering::Release);
        let before = self.exact(settings);
        if (most_in_flight as f64) < before / 2.0 {
            return None;
        }
        let limit = next_limit(before, long, short, settings);
        self.limit.store(limit.to_bits(), Ordering::Release);
        self.worth_telling(limit, settings)
    }

    /// `Some` if the limit has doubled or halved since it was last reported.
    fn worth_telling(&self, limit: f64, settings: &model::Concurrency) -> Option<LimitChange> {
        let told = match self.told.load(Ordering::Acquire) {
            0 => f64::from(settings.initial),
            bits => f64::from_bits(bits),
        };
        let much = limit >= told * 2.0 || limit <= told / 2.0;
        much.then(|| {
            self.told.store(limit.to_bits(), Ordering::Release);
            LimitChange { limit: limit as usize, lowered: limit < told }
        })
    }
}

/// The long-term average after window number `ended`. It falls faster while it is far too high, as it is after the
/// upstream was slow.
fn long_average(long: f64, short: f64, ended: u64) -> f64 {
    let reach = if ended <= WARM_UP { ended as f64 } else { LONG };
    let long = long + (short - long) / reach;
    if long > 2.0 * short { long * 0.95 } else { long }
}

fn next_limit(limit: f64, long: f64, short: f64, settings: &model::Concurrency) -> f64 {
    let gradient = (settings.tolerance * long / short).clamp(0.5, 1.0);
    let found = limit * gradient + limit.sqrt();
    let smoothed = limit + (found - limit) * SMOOTHING;
    smoothed.clamp(f64::from(settings.min), f64::from(settings.max))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    fn settings() -> model::Concurrency {
        model::Concurrency { min: 4, max: 200, initial: 20, tolerance: 1.5, window: WINDOW }
    }

    fn concurrency() -> Concurrency {
        Concurrency { clock: Clock::still(), ..Concurrency::default() }
    }

    /// Runs windows of responses with these latencies in milliseconds, with the limit in use. Returns the reported
    /// changes.
    fn windows(
        concurrency: &Concurrency,
        count: usize,
        took: u64,
        settings: &model::Concurrency,
    ) -> Vec<LimitChange> {
        let mut told = Vec::new();
        for _ in 0..count {
            concurrency.clock.pass(WINDOW);
            let in_flight = concurrency.limit(settings);
            for _ in 0..LEAST_SAMPLES {
                told.extend(concurrency.observe(Duration::from_millis(took), in_flight, settings));
            }
        }
        told
    }

    #[test]
    fn it_grows_to_the_greatest_while_answers_stay_fast() {
        let (concurrency, settings) = (concurrency(), settings());
        let told = windows(&concurrency, 200, 10, &settings);
        assert_eq!(concurrency.limit(&settings), 200);
        assert!(told.iter().all(|told| !told.lowered) && told.len() < 5, "{told:?}");
    }

    #[test]
    fn it_shrinks_when_answers_get_slow_and_recovers_with_them() {
        let (concurrency, settings) = (concurrency(), settings());
        windows(&concurrency, 200, 10, &settings);
        let told = windows(&concurrency, 80, 100, &settings);
        assert!(concurrency.limit(&settings) < 10, "{}", concurrency.limit(&settings));
        assert!(told.iter().all(|told| told.lowered) && !told.is_empty(), "{told:?}");
        windows(&concurrency, 200, 10, &settings);
        assert_eq!(concurrency.limit(&settings), 200);
    }

    #[test]
    fn a_slow_beginning_is_not_taken_for_what_is_usual() {
        let (concurrency, settings) = (concurrency(), settings());
        windows(&concurrency, 1, 100, &settings);
        windows(&concurrency, WARM_UP as usize, 10, &settings);
        let before = concurrency.limit(&settings);
        windows(&concurrency, 5, 100, &settings);
        assert!(concurrency.limit(&settings) < before);
    }

    #[test]
    fn a_little_slower_is_tolerated() {
        let (concurrency, settings) = (concurrency(), settings());
        windows(&concurrency, 200, 10, &settings);
        windows(&concurrency, 50, 14, &settings);
        assert_eq!(concurrency.limit(&settings), 200);
    }

    #[test]
    fn an_upstream_that_is_hardly_used_teaches_nothing() {
        let (concurrency, settings) = (concurrency(), settings());
        for _ in 0..1000 {
            concurrency.clock.pass(WINDOW);
            concurrency.observe(Duration::from_millis(10), 9, &settings);
        }
        assert_eq!(concurrency.limit(&settings), 20);
    }

    #[test]
    fn bounds_that_a_reload_changes_hold_at_once() {
        let (concurrency, settings) = (concurrency(), settings());
        windows(&concurrency, 200, 10, &settings);
        assert_eq!(concurrency.limit(&model::Concurrency { max: 50, ..settings }), 50);
    }

    /// The same responses in the same windows lead to the same limit, on however many threads they are observed.
    #[test]
    fn the_number_of_threads_changes_nothing() {
        let limits = [1, 2, 4].map(|threads| {
            let (concurrency, settings) = (Arc::new(concurrency()), settings());
            for window in 0..60 {
                // The last response of a window ends it, after all others.
                let took = Duration::from_millis(if window < 30 { 10 } else { 80 });
                let observing: Vec<_> = (0..threads)
                    .map(|_| {
                        let concurrency = concurrency.clone();
                        std::thread::spawn(move || {
                            for _ in 0..40 / threads {
                                assert_eq!(concurrency.observe(took, 1000, &settings), None);
                            }
                        })
                    })
                    .collect();
                observing.into_iter().for_each(|thread| thread.join().unwrap());
                concurrency.clock.pass(WINDOW);
                concurrency.observe(took, 1000, &settings);
            }
            concurrency.limit(&settings)
        });
        assert_eq!(limits, [limits[0]; 3]);
    }
}
