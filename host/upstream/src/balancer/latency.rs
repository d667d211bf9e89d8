//! The latency of an endpoint: a moving average that rises at once and falls slowly, in one atomic number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The average of one endpoint, shared by all cores and carried over reloads with the endpoint.
///
/// The upper half is the average in microseconds, as the bits of an `f32`; the lower half is the time of the last
/// update, in [`TICKS`] per second. 0: nothing was observed yet.
#[derive(Debug, Default)]
pub struct Latency(AtomicU64);

/// Ticks per second: so many that few observations fall into the same tick. The counter wraps after five days; an
/// endpoint that was unused for exactly that long then seems recently used, which does no harm.
const TICKS: u64 = 10_000;

impl Latency {
    /// Adds an observation. A time above the average becomes the average; a shorter one lowers it by as much as
    /// the time since the last observation weighs against `decay`.
    pub(crate) fn observe(&self, now: Duration, took: Duration, decay: Duration) {
        let (took, at) = (micros(took), ticks(now));
        let taken = |old: u64| {
            let next = match unpack(old) {
                Some((average, touched)) if took < average => {
                    let kept = remainder(at.wrapping_sub(touched), decay);
                    average * kept + took * (1.0 - kept)
                }
                _ => took,
            };
            Some(pack(next, at))
        };
        // The function never returns `None`, so the update cannot fail.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
    }

    /// The average in microseconds, decayed since the last update; `None`: nothing was observed yet.
    pub(crate) fn faded(&self, now: Duration, decay: Duration) -> Option<f32> {
        let (average, touched) = unpack(self.0.load(Ordering::Relaxed))?;
        Some(average * remainder(ticks(now).wrapping_sub(touched), decay))
    }

    /// The average at the last update, in microseconds; `None`: nothing was observed yet.
    pub fn micros(&self) -> Option<u64> {
        unpack(self.0.load(Ordering::Relaxed)).map(|(average, _)| average as u64)
    }
}

/// The fraction of an average that is left after this many ticks. The clocks of two cores may differ by a tick,
/// which counts as 0.
fn remainder(ticks: u32, decay: Duration) -> f32 {
    let elapsed = if ticks > u32::MAX / 2 { 0 } else { ticks };
    (-(elapsed as f32) / (decay.as_secs_f32() * TICKS as f32).max(1.0)).exp()
}

/// In microseconds, at least 1, because 0 means that nothing was observed.
fn micros(took: Duration) -> f32 {
    (took.as_secs_f32() * 1e6).max(1.0)
}

fn ticks(now: Duration) -> u32 {
    let ticks = now.as_micros() * u128::from(TICKS) / 1_000_000;
    (ticks & u128::from(u32::MAX)) as u32
}

fn pack(average: f32, touched: u32) -> u64 {
    u64::from(average.to_bits()) << 32 | u64::from(touched)
}

fn unpack(packed: u64) -> Option<(f32, u32)> {
    let average = f32::from_bits((packed >> 32) as u32);
    (average > 0.0).then_some((average, packed as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    #[test]
    fn it_rises_at_once_and_falls_slowly() {
        let latency = Latency::default();
        let millis = Duration::from_millis;
        assert_eq!(latency.faded(millis(0), DECAY), None);
        latency.observe(millis(1000), millis(5), DECAY);
        latency.observe(millis(1001), millis(500), DECAY);
        assert_eq!(latency.micros(), Some(500_000));
        latency.observe(millis(11_001), millis(5), DECAY);
        // After one `decay` a third is left: 500 / e + 5 * (1 - 1 / e).
        assert!((187_000..187_200).contains(&latency.micros().unwrap()), "{latency:?}");
        let faded = latency.faded(millis(111_001), DECAY).unwrap();
        assert!(faded < 10.0, "{faded}");
    }

    #[test]
    fn clocks_that_differ_do_no_harm() {
        let latency = Latency::default();
        latency.observe(Duration::from_secs(20), Duration::from_millis(9), DECAY);
        latency.observe(Duration::from_secs(19), Duration::from_millis(1), DECAY);
        assert_eq!(latency.micros(), Some(9000), "no time has passed, so nothing has faded");
    }
}
