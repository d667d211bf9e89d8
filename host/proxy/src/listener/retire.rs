//! Where old snapshots are dropped.
//!
//! A snapshot owns pools, compiled plugins and whole tables; freeing it takes milliseconds. A request that happens to
//! hold the last reference must not pay for that, so one reference stays here until it is the last.
//!
//! This thread is the only one that waits to hold the last reference. Whoever else keeps a retired snapshot in order to
//! decide when it is dropped would wait for this thread, as this thread would for it, and the snapshot would stay for ever.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::bound::{DrainPhase, Generation};
use crate::snapshot::Snapshot;

/// How often retired things are looked at while there are any.
const ROUND: Duration = Duration::from_millis(100);

/// What may wait to be looked at. Whoever swaps so often that it is full waits until old snapshots have been dropped.
const QUEUE: usize = 64;

enum Retired {
    Snapshot(Arc<Snapshot>),
    Generation(Weak<Generation>, Instant),
}

/// The way to the thread that drops what is out of service. The thread ends when this is dropped.
pub(crate) struct Retire {
    retired: SyncSender<Retired>,
    snapshots: Arc<AtomicUsize>,
}

impl Retire {
    /// Starts the thread. It keeps the number of snapshots that are out of service and not yet dropped in `snapshots`.
    pub(crate) fn start(snapshots: Arc<AtomicUsize>) -> std::io::Result<Retire> {
        let (sender, arrivals) = sync_channel(QUEUE);
        let counted = Arc::clone(&snapshots);
        let run = move || run(&arrivals, &counted);
        std::thread::Builder::new().name("witgate-retire".into()).spawn(run)?;
        Ok(Retire { retired: sender, snapshots })
    }

    /// Takes the one reference that decides: the snapshot is dropped here once nobody else has it.
    pub(crate) fn snapshot(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        // The receiver lives as long as this sender.
        let _ = self.retired.send(Retired::Snapshot(snapshot));
    }

    /// Drains the connections of a generation, and cuts what is left at the deadline.
    pub(crate) fn generation(&self, generation: &Arc<Generation>, deadline: Instant) {
        generation.advance(DrainPhase::Draining);
        let _ = self.retired.send(Retired::Generation(Arc::downgrade(generation), deadline));
    }
}

fn run(arrivals: &Receiver<Retired>, snapshots: &AtomicUsize) {
    let mut kept = Vec::new();
    loop {
        let wait = if kept.is_empty() { Duration::from_secs(3600) } else { ROUND };
        match arrivals.recv_timeout(wait) {
            Ok(retired) => kept.push(retired),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let before = kept.iter().filter(|retired| retired.is_snapshot()).count();
        kept.retain(keep);
        let dropped = before - kept.iter().filter(|retired| retired.is_snapshot()).count();
        snapshots.fetch_sub(dropped, Ordering::Relaxed);
    }
}

impl Retired {
    fn is_snapshot(&self) -> bool {
        matches!(self, Retired::Snapshot(_))
    }
}

fn keep(retired: &Retired) -> bool {
    match retired {
        Retired::Snapshot(snapshot) => Arc::strong_count(snapshot) > 1,
        Retired::Generation(generation, deadline) => match generation.upgrade() {
            Some(generation) if Instant::now() >= *deadline => {
                generation.advance(DrainPhase::Cut);
                false
            }
            Some(_) => true,
            None => false,
        },
    }
}
