//! The first calls of a new version are watched: one that fails too often asks to be taken back.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use witgate_config::model;

/// Calls below which no share of failures means anything.
const LEAST: u32 = 5;

/// The trial of a new version that replaced one.
///
/// It only asks. The control plane swaps the snapshot, so that a request that began with this version ends with it.
pub(crate) struct Trial {
    config: model::Revert,
    calls: AtomicU32,
    failures: AtomicU32,
    over: AtomicBool,
}

impl Trial {
    pub(crate) fn new(config: model::Revert) -> Self {
        let over = AtomicBool::new(config.calls == 0);
        Trial { config, calls: AtomicU32::new(0), failures: AtomicU32::new(0), over }
    }

    /// Notes a call; says yes once, when the version is to be taken back.
    pub(crate) fn note(&self, failed: bool) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        let failures = self.failures.fetch_add(u32::from(failed), Ordering::Relaxed) + u32::from(failed);
        let calls = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let telling = calls >= LEAST.min(self.config.calls);
        let condemned =
            failed && telling && f64::from(failures) >= self.config.failure_ratio * f64::from(calls);
        if condemned || calls >= self.config.calls {
            return !self.over.swap(true, Ordering::Relaxed) && condemned;
        }
        false
    }

    /// The answer of a call that was counted as good turned out to be bad.
    pub(crate) fn correct(&self) -> bool {
        if self.over.load(Ordering::Relaxed) {
            return false;
        }
        self.calls.fetch_sub(1, Ordering::Relaxed);
        self.note(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(calls: u32, failure_ratio: f64) -> Trial {
        Trial::new(model::Revert { calls, failure_ratio })
    }

    #[test]
    fn a_version_that_only_fails_is_condemned_once() {
        let trial = trial(100, 0.5);
        let verdicts: Vec<bool> = (0..10).map(|_| trial.note(true)).collect();
        assert_eq!(verdicts.iter().filter(|condemned| **condemned).count(), 1);
        assert!(verdicts[4], "five calls are enough");
    }

    #[test]
    fn a_good_version_leaves_its_trial() {
        let trial = trial(20, 0.5);
        assert!((0..20).all(|_| !trial.note(false)));
        assert!((0..100).all(|_| !trial.note(true)), "later failures are the quarantine's");
    }

    #[test]
    fn zero_calls_switch_it_off() {
        let trial = trial(0, 0.1);
        assert!((0..100).all(|_| !trial.note(true)));
    }
}
