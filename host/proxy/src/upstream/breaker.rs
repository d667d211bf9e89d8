//! A first circuit breaker: failures in a row open it, after a rest one probe at a time may close it.
//!
//! Shared by all cores, without locks.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use witgate_config::model;

/// The breaker of one endpoint.
#[derive(Debug)]
pub(super) struct Breaker {
    epoch: Instant,
    failures: AtomicU32,
    /// When it half-opens, in milliseconds since the epoch; 0: it is closed.
    open_until: AtomicU64,
    probing: AtomicBool,
}

/// How a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// No request passes.
    Open,
    /// One probe at a time passes.
    HalfOpen,
}

/// What became of a breaker by what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It lets nothing through from now on.
    Opened,
    /// It lets everything through again.
    Closed,
}

/// The right to send one request through a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It is closed.
    Ordinary,
    /// It is half-open, and this request decides.
    Probe,
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker {
            epoch: Instant::now(),
            failures: AtomicU32::new(0),
            open_until: AtomicU64::new(0),
            probing: AtomicBool::new(false),
        }
    }
}

impl Breaker {
    /// Whether [`Breaker::enter`] is likely to let a request through.
    pub(super) fn would_pass(&self) -> bool {
        match self.state() {
            BreakerState::Closed => true,
            BreakerState::Open => false,
            BreakerState::HalfOpen => !self.probing.load(Ordering::Acquire),
        }
    }

    /// Asks to send a request. Each pass must be given back by [`Breaker::leave`].
    pub(super) fn enter(&self) -> Option<Pass> {
        match self.state() {
            BreakerState::Closed => Some(Pass::Ordinary),
            BreakerState::Open => None,
            BreakerState::HalfOpen => (!self.probing.swap(true, Ordering::AcqRel)).then_some(Pass::Probe),
        }
    }

    /// Gives a pass back. A probe that decided nothing (its client went away) lets the next one through.
    pub(super) fn leave(&self, pass: Pass) {
        if pass == Pass::Probe {
            self.probing.store(false, Ordering::Release);
        }
    }

    /// The endpoint answered with a head: a probe closes the breaker. The count of failures stays, since the body may
    /// still break off.
    pub(super) fn answered(&self, pass: Pass) -> Option<Change> {
        if pass == Pass::Ordinary {
            return None;
        }
        self.failures.store(0, Ordering::Release);
        (self.open_until.swap(0, Ordering::AcqRel) != 0).then_some(Change::Closed)
    }

    /// A whole answer came.
    pub(super) fn succeeded(&self) {
        // Reading first keeps the cache line shared between cores while all is well.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Release);
        }
    }

    /// The endpoint failed.
    pub(super) fn failed(&self, pass: Pass, settings: &model::Breaker) -> Option<Change> {
        let failures = self.failures.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let enough = settings.consecutive_failures > 0 && failures >= settings.consecutive_failures;
        if !enough && pass != Pass::Probe {
            return None;
        }
        let until = (self.now() + millis(settings.open_for)).max(1);
        let opened = match pass {
            Pass::Probe => {
                self.open_until.store(until, Ordering::Release);
                true
            }
            // Requests that were under way when it opened do not prolong the rest.
            Pass::Ordinary => {
                self.open_until.compare_exchange(0, until, Ordering::AcqRel, Ordering::Acquire).is_ok()
            }
        };
        opened.then_some(Change::Opened)
    }

    /// How it stands.
    pub(super) fn state(&self) -> BreakerState {
        match self.open_until.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            until if self.now() < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// How long it stays open.
    pub(super) fn rests_for(&self) -> Duration {
        Duration::from_millis(self.open_until.load(Ordering::Acquire).saturating_sub(self.now()))
    }

    fn now(&self) -> u64 {
        millis(self.epoch.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
