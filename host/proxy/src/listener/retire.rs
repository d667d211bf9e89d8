//! Where old snapshots are dropped.
//!
//! A snapshot owns pools, compiled plugins and whole tables; freeing it takes milliseconds. A request that happens to
//! hold the last reference must not pay for that, so one reference stays here until it is the last.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::door::{Generation, Phase};
use crate::snapshot::Snapshot;

/// How often retired things are looked at while there are any.
const ROUND: Duration = Duration::from_millis(100);

enum Retired {
    Snapshot(Arc<Snapshot>),
    Generation(Weak<Generation>, Instant),
}

/// The way to the thread that drops what is out of service. The thread ends when this is dropped.
pub(crate) struct Retire(SyncSender<Retired>);

impl Retire {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Retire> {
        let (sender, retired) = sync_channel(64);
        std::thread::Builder::new().name("witgate-retire".into()).spawn(move || run(&retired))?;
        Ok(Retire(sender))
    }

    /// Keeps a snapshot until nobody else has it.
    pub(crate) fn snapshot(&self, snapshot: Arc<Snapshot>) {
        // The receiver lives as long as this sender.
        let _ = self.0.send(Retired::Snapshot(snapshot));
    }

    /// Drains the connections of a generation, and cuts what is left at the deadline.
    pub(crate) fn generation(&self, generation: &Arc<Generation>, deadline: Instant) {
        generation.advance(Phase::Draining);
        let _ = self.0.send(Retired::Generation(Arc::downgrade(generation), deadline));
    }
}

fn run(arrivals: &std::sync::mpsc::Receiver<Retired>) {
    let mut kept = Vec::new();
    loop {
        let wait = if kept.is_empty() { Duration::from_secs(3600) } else { ROUND };
        match arrivals.recv_timeout(wait) {
            Ok(retired) => kept.push(retired),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        kept.retain(keep);
    }
}

fn keep(retired: &Retired) -> bool {
    match retired {
        Retired::Snapshot(snapshot) => Arc::strong_count(snapshot) > 1,
        Retired::Generation(generation, deadline) => match generation.upgrade() {
            Some(generation) if Instant::now() >= *deadline => {
                generation.advance(Phase::Cut);
                false
            }
            Some(_) => true,
            None => false,
        },
    }
}
