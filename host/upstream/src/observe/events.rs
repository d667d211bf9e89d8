//! Changes of state of an upstream and its endpoints. They are counted, listed in the status, and logged.
//!
//! They are rare, so recording them may take a lock. Each event wakes the [`keeper`](crate::keeper), which logs it
//! and does the work that follows from it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;
use witgate_config::model::LogLevel;

/// The number of events that are kept for the status.
const KEPT: usize = 32;

/// The kinds of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EventKind {
    /// A breaker has opened: no request passes.
    BreakerOpened,
    /// A breaker has let the first half-open probe through.
    BreakerHalfOpened,
    /// Half-open probes have succeeded: the endpoint, or the upstream, works again.
    BreakerClosed,
    /// An operator has drained the endpoint: it takes no new requests.
    EndpointDrained,
    /// An operator has ended the drain: the endpoint takes requests again.
    EndpointUndrained,
    /// An operator has set a weight that differs from that of the file.
    WeightChanged,
    /// An operator has reset the endpoint to the settings of the file.
    EndpointReset,
    /// So few endpoints are usable that health is ignored.
    PanicBegan,
    /// Health is considered again.
    PanicEnded,
    /// The adaptive limit has halved since it was last reported.
    ConcurrencyLowered,
    /// The adaptive limit has doubled since it was last reported.
    ConcurrencyRaised,
    /// A request was dropped because the upstream is at its limits. More may follow.
    SheddingBegan,
    /// No request was dropped for a while.
    SheddingEnded,
    /// Active checks have failed: the endpoint takes no requests.
    Unhealthy,
    /// Active checks succeed again.
    Healthy,
    /// Requests have failed: the endpoint is ejected for a while.
    Ejected,
    /// An ejection has ended.
    Returned,
    /// The source of the endpoints failed, or its set was refused. The last good set stays in service.
    SourceFailed,
    /// The source of the endpoints supplies good sets again.
    SourceRecovered,
    /// The source has not confirmed the set for longer than `keep_stale`: endpoints serve only if they pass their
    /// checks or prove their identity by TLS.
    EndpointsStale,
    /// The source has reported another set of endpoints.
    EndpointsChanged,
    /// The set of endpoints could not be saved for the next process.
    SavingFailed,
}

impl EventKind {
    /// The name in the log, the metrics and the status.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            EventKind::BreakerOpened => "breaker-opened",
            EventKind::BreakerHalfOpened => "breaker-half-opened",
            EventKind::BreakerClosed => "breaker-closed",
            EventKind::EndpointDrained => "endpoint-drained",
            EventKind::EndpointUndrained => "endpoint-undrained",
            EventKind::WeightChanged => "weight-changed",
            EventKind::EndpointReset => "endpoint-reset",
            EventKind::PanicBegan => "panic-began",
            EventKind::PanicEnded => "panic-ended",
            EventKind::ConcurrencyLowered => "concurrency-lowered",
            EventKind::ConcurrencyRaised => "concurrency-raised",
            EventKind::SheddingBegan => "shedding-began",
            EventKind::SheddingEnded => "shedding-ended",
            EventKind::Unhealthy => "unhealthy",
            EventKind::Healthy => "healthy",
            EventKind::Ejected => "ejected",
            EventKind::Returned => "returned",
            EventKind::SourceFailed => "source-failed",
            EventKind::SourceRecovered => "source-recovered",
            EventKind::EndpointsStale => "endpoints-stale",
            EventKind::EndpointsChanged => "endpoints-changed",
            EventKind::SavingFailed => "saving-failed",
        }
    }

    /// The level at which it is logged.
    pub(crate) fn level(self) -> LogLevel {
        match self {
            EventKind::BreakerOpened
            | EventKind::Unhealthy
            | EventKind::Ejected
            | EventKind::PanicBegan
            | EventKind::ConcurrencyLowered
            | EventKind::SourceFailed
            | EventKind::EndpointsStale
            | EventKind::SavingFailed
            | EventKind::SheddingBegan => LogLevel::Warn,
            EventKind::BreakerHalfOpened
            | EventKind::BreakerClosed
            | EventKind::Healthy
            | EventKind::Returned
            | EventKind::SourceRecovered
            | EventKind::EndpointsChanged
            | EventKind::EndpointDrained
            | EventKind::EndpointUndrained
            | EventKind::WeightChanged
            | EventKind::EndpointReset
            | EventKind::PanicEnded
            | EventKind::ConcurrencyRaised
            | EventKind::SheddingEnded => LogLevel::Info,
        }
    }
}

/// One change of state.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When it happened.
    pub(crate) at: SystemTime,
    /// What has changed.
    pub(crate) kind: EventKind,
    /// The endpoint concerned. `None` for the upstream as a whole.
    pub(crate) endpoint: Option<Arc<str>>,
    /// Why, in a few words.
    pub(crate) why: String,
}

/// The changes of one upstream. Carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Events {
    state: Mutex<State>,
    /// Wakes the task of the keeper for this upstream.
    wake: Notify,
}

/// Counts by kind and endpoint.
pub(crate) type Counts = BTreeMap<(EventKind, Option<Arc<str>>), u64>;

#[derive(Debug, Default)]
struct State {
    recent: VecDeque<Event>,
    /// How many of the recent events are not logged yet: the last `unsaid` ones.
    unsaid: usize,
    counts: Counts,
}

impl Events {
    /// Records a change.
    pub(crate) fn record(&self, kind: EventKind, endpoint: Option<&Arc<str>>, why: impl Into<String>) {
        let event = Event { at: SystemTime::now(), kind, endpoint: endpoint.cloned(), why: why.into() };
        let mut state = self.lock();
        *state.counts.entry((kind, event.endpoint.clone())).or_default() += 1;
        state.recent.push_back(event);
        if state.recent.len() > KEPT {
            state.recent.pop_front();
        }
        state.unsaid = (state.unsaid + 1).min(KEPT);
        drop(state);
        self.wake();
    }

    /// Forgets the counts of endpoints that have left; otherwise the counts would grow with each new endpoint.
    pub(crate) fn forget(&self, names: &HashSet<&str>) {
        let is_gone = |name: &Option<Arc<str>>| name.as_deref().is_some_and(|name| names.contains(name));
        self.lock().counts.retain(|(_, name), _| !is_gone(name));
    }

    /// Wakes the keeper for this upstream.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Waits for an event since the last call returned.
    pub(crate) async fn happened(&self) {
        self.wake.notified().await;
    }

    /// The events that are not logged yet, oldest first. If more events happened than are kept, the oldest are
    /// only counted.
    pub(crate) fn say(&self) -> Vec<Event> {
        let mut state = self.lock();
        let unsaid = std::mem::take(&mut state.unsaid);
        state.recent.range(state.recent.len() - unsaid..).cloned().collect()
    }

    /// The latest events, oldest first.
    pub(crate) fn recent(&self) -> Vec<Event> {
        self.lock().recent.iter().cloned().collect()
    }

    /// How often each change happened.
    pub(crate) fn counts(&self) -> Counts {
        self.lock().counts.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_is_said_once_and_counted_always() {
        let events = Events::default();
        let name: Arc<str> = "a:80".into();
        events.record(EventKind::BreakerOpened, Some(&name), "upstream-reset");
        events.record(EventKind::BreakerClosed, Some(&name), "");
        let said: Vec<EventKind> = events.say().iter().map(|event| event.kind).collect();
        assert_eq!(said, [EventKind::BreakerOpened, EventKind::BreakerClosed]);
        assert!(events.say().is_empty());
        for _ in 0..2 * KEPT {
            events.record(EventKind::BreakerOpened, Some(&name), "");
        }
        assert_eq!((events.say().len(), events.recent().len()), (KEPT, KEPT));
        assert_eq!(events.counts()[&(EventKind::BreakerOpened, Some(name))], 1 + 2 * KEPT as u64);
        events.record(EventKind::BreakerOpened, Some(&"b:80".into()), "");
        events.forget(&["a:80"].into());
        assert_eq!(
            events.counts().into_keys().collect::<Vec<_>>(),
            [(EventKind::BreakerOpened, Some("b:80".into()))]
        );
    }
}
