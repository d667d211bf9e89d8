//! A binding that is killed again and again rests: calls fail at once, then one at a time probes whether it recovered.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use witgate_config::model;

/// The quarantine of one binding, shared by all cores. In good times a call reads one number.
pub(crate) struct Quarantine {
    config: model::Quarantine,
    begun: Instant,
    /// Nanoseconds since `begun` until which the binding rests; 0: it is in service.
    resting_until: AtomicU64,
    /// Whether a probe is under way.
    probing: AtomicBool,
    /// When the last kills were.
    kills: Mutex<VecDeque<Instant>>,
}

/// Leave to make one call.
pub(crate) struct Admission<'a> {
    quarantine: &'a Quarantine,
    probe: bool,
}

/// Where a binding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// In service.
    Serving,
    /// Calls fail without being made.
    Resting,
    /// Rest is over; one call at a time is let through until one succeeds.
    Probing,
}

impl Quarantine {
    pub(crate) fn new(config: model::Quarantine) -> Self {
        Quarantine {
            config,
            begun: Instant::now(),
            resting_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
            kills: Mutex::default(),
        }
    }

    /// Leave to make a call; none while the binding rests, or while another call probes it.
    pub(crate) fn admit(&self) -> Option<Admission<'_>> {
        let until = self.resting_until.load(Ordering::Acquire);
        if until == 0 {
            return Some(Admission { quarantine: self, probe: false });
        }
        let free = self.now() >= until && !self.probing.swap(true, Ordering::AcqRel);
        free.then_some(Admission { quarantine: self, probe: true })
    }

    /// Where the binding stands now.
    pub(crate) fn health(&self) -> Health {
        match self.resting_until.load(Ordering::Acquire) {
            0 => Health::Serving,
            until if self.now() < until => Health::Resting,
            _ => Health::Probing,
        }
    }

    /// Notes a kill; says whether it began a rest.
    fn killed(&self) -> bool {
        if self.config.kills == 0 {
            return false;
        }
        let now = Instant::now();
        let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
        kills.push_back(now);
        while kills.front().is_some_and(|first| now.duration_since(*first) > self.config.window) {
            kills.pop_front();
        }
        if kills.len() < usize::try_from(self.config.kills).unwrap_or(usize::MAX) {
            return false;
        }
        kills.clear();
        drop(kills);
        self.rest();
        true
    }

    fn rest(&self) {
        let until = self.now().saturating_add(nanoseconds(self.config.rest)).max(1);
        self.resting_until.store(until, Ordering::Release);
    }

    fn now(&self) -> u64 {
        nanoseconds(self.begun.elapsed())
    }
}

impl Admission<'_> {
    /// The call came to an end that says something about the plugin. Says whether a rest began.
    pub(crate) fn settle(self, killed: bool) -> bool {
        match (self.probe, killed) {
            (true, true) => {
                self.quarantine.rest();
                true
            }
            (true, false) => {
                self.quarantine.resting_until.store(0, Ordering::Release);
                false
            }
            (false, true) => self.quarantine.killed(),
            (false, false) => false,
        }
    }
}

/// A probe that ends without a verdict, because its client went away, makes room for the next.
impl Drop for Admission<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.quarantine.probing.store(false, Ordering::Release);
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quarantine(rest: Duration) -> Quarantine {
        Quarantine::new(model::Quarantine { kills: 2, window: Duration::from_secs(60), rest })
    }

    fn kill(quarantine: &Quarantine) -> bool {
        quarantine.admit().unwrap().settle(true)
    }

    #[test]
    fn kills_in_the_window_begin_a_rest() {
        let quarantine = quarantine(Duration::from_secs(60));
        assert!(!kill(&quarantine));
        assert_eq!(quarantine.health(), Health::Serving);
        assert!(kill(&quarantine));
        assert_eq!(quarantine.health(), Health::Resting);
        assert!(quarantine.admit().is_none());
    }

    #[test]
    fn one_probe_at_a_time_and_the_first_good_one_ends_it() {
        let quarantine = quarantine(Duration::ZERO);
        assert!(!kill(&quarantine));
        assert!(kill(&quarantine));
        let probe = quarantine.admit().unwrap();
        assert!(quarantine.admit().is_none(), "a second probe waits for the first");
        drop(probe);
        assert!(kill(&quarantine), "a probe that fails begins another rest");
        assert!(!quarantine.admit().unwrap().settle(false));
        assert_eq!(quarantine.health(), Health::Serving);
    }
}
