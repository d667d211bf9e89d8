//! Drops replaced snapshots on a thread of its own.
//!
//! A snapshot owns connection pools, compiled plugins and whole tables; freeing it takes milliseconds. A request
//! that happens to hold the last reference must not pay for that, so one reference is kept here until it is the
//! last.
//!
//! This thread must be the only owner that waits to hold the last reference. If a second owner did the same, the
//! two would wait for each other and the snapshot would never be dropped.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::bound::{DrainPhase, Generation};
use crate::snapshot::Snapshot;

/// Interval at which retired snapshots and generations are checked while there are any.
const ROUND: Duration = Duration::from_millis(100);

/// Length of the queue. A control plane that swaps so often that it is full waits until old snapshots have been
/// dropped.
const QUEUE: usize = 64;

enum Retired {
    Snapshot(Arc<Snapshot>),
    Generation(Weak<Generation>, Instant),
}

/// The queue of the thread that drops what is out of service. The thread ends when this is dropped.
pub(crate) struct Retire {
    retired: SyncSender<Retired>,
    snapshots: Arc<AtomicUsize>,
}

impl Retire {
    /// Starts the thread. It counts in `snapshots` those that are out of service and not dropped yet.
    pub(crate) fn start(snapshots: Arc<AtomicUsize>) -> std::io::Result<Retire> {
        let (sender, arrivals) = sync_channel(QUEUE);
        let counted = Arc::clone(&snapshots);
        let run = move || run(&arrivals, &counted);
        std::thread::Builder::new().name("witgate-retire".into()).spawn(run)?;
        Ok(Retire { retired: sender, snapshots })
    }

    /// Takes a reference to a replaced snapshot, which is dropped on the thread once this reference is the last.
    pub(crate) fn snapshot(&self, snapshot: Arc<Snapshot>) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        // The thread ends only after this sender is dropped, so its receiver exists.
        let _ = self.retired.send(Retired::Snapshot(snapshot));
    }

    /// Drains the connections of a generation, and cuts those that are left at the deadline.
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
        // Kept while other owners exist; once this is the last reference, dropping it here frees the snapshot.
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
