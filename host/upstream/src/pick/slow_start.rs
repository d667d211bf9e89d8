//! Slow start: the weight of an endpoint while it is new.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use witgate_config::model;

/// The step of the weight in percent. It is not smaller, so that balancers are not rebuilt too often.
const STEP: u32 = 5;

/// Since when an endpoint has been in service, for slow start.
#[derive(Debug, Default)]
pub(crate) struct Newness(AtomicU64);

impl Newness {
    /// An endpoint that came into service at this time of the balancing clock.
    pub(crate) fn since(now: Duration) -> Self {
        let newness = Newness::default();
        newness.begin(now);
        newness
    }

    /// Begins slow start again.
    pub(crate) fn begin(&self, now: Duration) {
        self.0.store(now.as_millis() as u64 + 1, Ordering::Relaxed);
    }

    /// The percentage of its weight that it takes, from 1 to 100.
    pub(crate) fn percent(&self, settings: Option<&model::SlowStart>, now: Duration) -> u32 {
        let (Some(settings), since @ 1..) = (settings, self.0.load(Ordering::Relaxed)) else { return 100 };
        let elapsed = (now.as_millis() as u64 + 1).saturating_sub(since) as f64;
        let ramp = (elapsed / (settings.window.as_secs_f64() * 1000.0)).clamp(settings.least, 1.0);
        let percent = (ramp * 100.0) as u32;
        (percent - percent % STEP).max((settings.least * 100.0) as u32).max(1)
    }

    /// When its percentage rises next, by the balancing clock. `None` if it takes its full weight.
    pub(crate) fn next_step(&self, settings: Option<&model::SlowStart>, now: Duration) -> Option<Duration> {
        let (percent, window) = (self.percent(settings, now), settings?.window.as_millis() as u64);
        let next = u64::from((percent - percent % STEP + STEP).min(100));
        let since = Duration::from_millis(self.0.load(Ordering::Relaxed).saturating_sub(1));
        (percent < 100).then(|| since + Duration::from_millis((window * next).div_ceil(100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weight_grows_in_steps_until_it_is_all_there() {
        let settings =
            model::SlowStart { window: Duration::from_secs(20), least: 0.12, after_recovery: false };
        let start = Duration::from_secs(1000);
        let newness = Newness::since(start);
        let after = |millis| newness.percent(Some(&settings), start + Duration::from_millis(millis));
        let grown = [0, 2999, 3000, 3999, 4000, 10_000, 19_999, 20_000, 90_000].map(after);
        assert_eq!(grown, [12, 12, 15, 15, 20, 50, 95, 100, 100]);
        let next = |millis| newness.next_step(Some(&settings), start + Duration::from_millis(millis));
        let steps = [0, 2999, 3000, 18_999, 19_000, 19_999].map(next);
        let expected = [3000, 3000, 4000, 19_000, 20_000, 20_000].map(Duration::from_millis);
        assert_eq!(steps, expected.map(|after| Some(start + after)));
        assert_eq!((next(20_000), newness.next_step(None, start)), (None, None));
        assert_eq!(newness.percent(None, start), 100);
        assert_eq!(Newness::default().percent(Some(&settings), Duration::ZERO), 100, "there from the start");
    }
}
