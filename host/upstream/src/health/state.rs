//! The results of the checks of an endpoint.

use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use witgate_config::model;
use witgate_exchange::per_core::PerCore;

/// The health of an endpoint according to its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// There are no checks, or none has ended yet. The endpoint takes requests.
    Unknown,
    /// The endpoint takes requests.
    Healthy,
    /// The endpoint takes no requests.
    Unhealthy,
}

/// The results of the checks of an endpoint. Written by the keeper only, read by all cores.
#[derive(Debug, Default)]
pub(crate) struct Health {
    state: AtomicU8,
    /// The number of checks in a row that contradict the state.
    contradicting: AtomicU32,
    passed: AtomicU64,
    failed: AtomicU64,
    /// Why the latest check failed. `None` if it did not fail.
    why: Mutex<Option<String>>,
    /// How often the endpoint has become unhealthy.
    times_unhealthy: AtomicU32,
    /// Wakes the requests that wait at the endpoint when it becomes unhealthy. Each core has its own, so that requests of
    /// different cores do not share a lock. Allocated with the first request that waits.
    waiting: OnceLock<PerCore<Notify>>,
}

const UNKNOWN: u8 = 0;
const HEALTHY: u8 = 1;
const UNHEALTHY: u8 = 2;

impl Health {
    /// Whether the endpoint must not take requests. Called for every request, so it is cheap.
    pub(crate) fn is_unhealthy(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNHEALTHY
    }

    /// The current health.
    pub(crate) fn state(&self) -> HealthState {
        match self.state.load(Ordering::Relaxed) {
            HEALTHY => HealthState::Healthy,
            UNHEALTHY => HealthState::Unhealthy,
            _ => HealthState::Unknown,
        }
    }

    /// Records the result of a check. Returns the new health if it has changed. The first check decides alone,
    /// because before it there is no state that a threshold could protect.
    pub(crate) fn note(&self, shown: &Result<(), String>, settings: &model::Health) -> Option<HealthState> {
        let counter = if shown.is_ok() { &self.passed } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = shown.as_ref().err().cloned();
        let (becomes, threshold) = match (self.state(), shown) {
            (HealthState::Unknown, Ok(())) => (HEALTHY, 1),
            (HealthState::Unknown, Err(_)) => (UNHEALTHY, 1),
            (HealthState::Healthy, Err(_)) => (UNHEALTHY, settings.unhealthy_threshold),
            (HealthState::Unhealthy, Ok(())) => (HEALTHY, settings.healthy_threshold),
            (HealthState::Healthy, Ok(())) | (HealthState::Unhealthy, Err(_)) => {
                self.contradicting.store(0, Ordering::Relaxed);
                return None;
            }
        };
        if self.contradicting.fetch_add(1, Ordering::Relaxed) + 1 < threshold {
            return None;
        }
        self.contradicting.store(0, Ordering::Relaxed);
        self.state.store(becomes, Ordering::Relaxed);
        if becomes == UNHEALTHY {
            self.times_unhealthy.fetch_add(1, Ordering::Relaxed);
            // Either a request that begins to wait sees the new number, or it is seen here and woken.
            fence(Ordering::SeqCst);
            self.waiting.get().into_iter().flat_map(PerCore::iter).for_each(Notify::notify_waiters);
        }
        Some(self.state())
    }

    /// How often the endpoint has become unhealthy.
    pub(crate) fn times_unhealthy(&self) -> u32 {
        self.times_unhealthy.load(Ordering::Relaxed)
    }

    /// Waits until the endpoint has become unhealthy more often than `before`.
    pub(crate) async fn until_unhealthy(&self, before: u32) {
        let waiting = self.waiting.get_or_init(PerCore::default).mine();
        loop {
            let mut woken = pin!(waiting.notified());
            woken.as_mut().enable();
            fence(Ordering::SeqCst);
            if self.times_unhealthy() != before {
                return;
            }
            woken.await;
        }
    }

    /// Whether the next check should come soon: the endpoint is unhealthy, or its last check contradicts its
    /// state.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.is_unhealthy() || self.contradicting.load(Ordering::Relaxed) > 0
    }

    /// Forgets the health, because the endpoint is not checked any more.
    pub(crate) fn forget(&self) {
        self.state.store(UNKNOWN, Ordering::Relaxed);
        self.contradicting.store(0, Ordering::Relaxed);
        *self.why.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The number of checks so far that succeeded, and that failed.
    pub(crate) fn checks(&self) -> (u64, u64) {
        (self.passed.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }

    /// Why the latest check failed. `None` if it did not fail.
    pub(crate) fn why(&self) -> Option<String> {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
