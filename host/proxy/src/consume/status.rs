//! What is known of a consumer, for status and metrics.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Consumer;

/// Counts the messages of a consumer by what became of them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) delivered: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) tried_again: AtomicU64,
    pub(super) dead_lettered: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) returned: AtomicU64,
}

impl Counts {
    /// Counts one message.
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// The condition of a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Name of the broker.
    pub broker: String,
    /// The queue or subject.
    pub from: String,
    /// Why nothing is fetched at the moment; `None` if nothing is wrong.
    pub problem: Option<String>,
    /// The code of why no request begins at the moment; `None` if nothing holds them back.
    pub paused: Option<&'static str>,
    /// Messages that are fetched and not settled.
    pub unsettled: usize,
    /// The counts, by name. The names are values of a metric's label.
    pub messages: Vec<(&'static str, u64)>,
}

impl Consumer {
    /// Its condition and its counts since it began.
    pub fn status(&self) -> ConsumerStatus {
        let counts = &self.counts;
        let named = [
            ("delivered", &counts.delivered),
            ("acknowledged", &counts.acknowledged),
            ("tried-again", &counts.tried_again),
            ("dead-lettered", &counts.dead_lettered),
            ("discarded", &counts.discarded),
            ("returned", &counts.returned),
        ];
        ConsumerStatus {
            broker: self.settings.broker.clone(),
            from: self.settings.from.clone(),
            problem: self.consuming().as_ref().and_then(|consuming| consuming.problem()),
            paused: self.pause.code(),
            unsettled: self.unsettled.load(Ordering::Relaxed),
            messages: named.into_iter().map(|(name, count)| (name, count.load(Ordering::Relaxed))).collect(),
        }
    }
}
