//! Saves the last good set of an upstream for the next process.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Discovery, EndpointSpecs, Sink};
use crate::Upstream;

/// The shortest time between two writes.
const PACE: Duration = Duration::from_secs(5);
/// The longest time between two writes of a set that its source confirms. The age of what is saved is known to this
/// extent.
const REFRESH: Duration = Duration::from_secs(600);

/// Saves the sets of one upstream, on the keeper's thread.
#[derive(Default)]
pub(crate) struct Saving {
    /// The version that was saved last, and when.
    saved: Option<(u64, Instant)>,
    writing: Option<JoinHandle<()>>,
}

impl Saving {
    /// Saves the last good set if it is due. Returns when it will be due. The file is written on a thread for
    /// blocking calls.
    pub(crate) fn follow(&mut self, upstream: &Upstream) -> Option<std::time::Instant> {
        let Discovery { saved: Some(saved), .. } = &upstream.discovery else { return None };
        let discover = upstream.config.discover.as_ref()?;
        let sink: &Sink = &upstream.carried.sink;
        let (good, version, confirmed) = sink.confirmed()?;
        let due = match self.saved {
            None => Instant::now(),
            Some((known, at)) if known != version => at + PACE,
            Some((_, at)) if confirmed > at => at + REFRESH,
            // The source has not confirmed it since; if it does, there will be another round.
            Some(_) => return None,
        };
        if due > Instant::now() || self.writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return Some(due.max(Instant::now() + PACE / 5).into_std());
        }
        self.saved = Some((version, Instant::now()));
        let (saved, name) = (saved.clone(), upstream.name.clone());
        let (source, good): (_, EndpointSpecs) = (discover.source.clone(), good);
        let events = Arc::clone(&upstream.carried.events);
        self.writing = Some(tokio::task::spawn_blocking(move || {
            if let Err(why) = saved.save(&name, &source, &good) {
                let why = format!("the endpoints cannot be saved for the next start: {why}");
                events.record(crate::observe::events::EventKind::SavingFailed, None, why);
            }
        }));
        Some((Instant::now() + REFRESH).into_std())
    }
}
