//! The queue of finished exchanges of one binding, and the thread that passes them on in batches.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use witgate_exchange::contracts::Observer;
use witgate_exchange::log_entry::LogEntry;

use crate::background;
use crate::call::observe::observe;
use crate::meter::Meter;
use crate::plugin::Loaded;

/// The most exchanges that wait.
const QUEUE: usize = 4096;

/// The most bytes of the heads of exchanges that wait or are being passed on. An exchange keeps the head of its request in
/// memory, which may be much longer than usual.
const QUEUE_BYTES: usize = 16 << 20;

/// The most exchanges of one batch.
const BATCH: usize = 256;

/// How long the thread waits for more exchanges after the first.
const GATHER: Duration = Duration::from_secs(1);

/// Interval at which the end of the process looks whether everything was passed on.
const ROUND: Duration = Duration::from_millis(5);

/// All queues of the process, for its end.
#[derive(Default)]
pub(crate) struct Queues(Mutex<Vec<Weak<Progress>>>);

/// What queue and thread of one binding know of each other.
#[derive(Default)]
struct Progress {
    /// Exchanges that were queued.
    queued: AtomicU64,
    /// Exchanges of batches whose calls have ended.
    done: AtomicU64,
    /// Bytes of the heads of exchanges that are queued and not done.
    bytes: AtomicUsize,
    /// Set at the end of the process: nothing is gathered any more.
    ending: AtomicBool,
    /// Ends the gathering early.
    enough: Notify,
}

/// The queue of one binding. When it is dropped, the thread passes on what is left in it and ends.
pub(crate) struct Observed {
    entries: Sender<Arc<LogEntry>>,
    progress: Arc<Progress>,
    meter: Arc<Meter>,
}

impl Observer for Observed {
    fn observe(&self, entry: &Arc<LogEntry>) {
        let bytes = size(entry);
        // Counted before it is sent, so that the end of the process overlooks none.
        self.progress.queued.fetch_add(1, Ordering::Relaxed);
        let has_room = self.progress.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= QUEUE_BYTES;
        if !has_room || self.entries.try_send(Arc::clone(entry)).is_err() {
            self.progress.bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.progress.queued.fetch_sub(1, Ordering::Relaxed);
            self.meter.unobserved(1);
        } else if self.entries.capacity() < QUEUE / 2 {
            self.progress.enough.notify_one();
        }
    }
}

impl Observed {
    /// Starts the thread of a binding. `None`: the operating system gives none; a line in the log says so.
    pub(crate) fn start(loaded: &Arc<Loaded>) -> Option<Arc<Observed>> {
        let (entries, queue) = channel(QUEUE);
        let progress = Arc::<Progress>::default();
        let observed =
            Observed { entries, progress: Arc::clone(&progress), meter: Arc::clone(loaded.meter()) };
        let binding = Arc::clone(loaded);
        loaded.background.queues.add(&progress);
        match background::start("witgate-observe", move || pass_on(binding, queue, progress)) {
            Ok(()) => Some(Arc::new(observed)),
            Err(error) => {
                loaded.no_thread("observe", &error);
                None
            }
        }
    }
}

/// About how many bytes the head of an exchange keeps in memory. The same for each call, since an entry does not change.
fn size(entry: &LogEntry) -> usize {
    let head = &entry.head;
    let fields = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32);
    let received = head.received_target.as_ref().map_or(0, |target| target.as_str().len());
    fields.sum::<usize>() + head.target.as_str().len() + received + size_of::<LogEntry>()
}

/// Passes batches on until the queue is dropped and empty.
async fn pass_on(binding: Arc<Loaded>, mut queue: Receiver<Arc<LogEntry>>, progress: Arc<Progress>) {
    let mut batch = Vec::with_capacity(BATCH);
    while let Some(first) = queue.recv().await {
        batch.push(first);
        if !progress.ending.load(Ordering::Acquire) && !queue.is_closed() {
            let _either_way = tokio::time::timeout(GATHER, progress.enough.notified()).await;
        }
        loop {
            while batch.len() < BATCH
                && let Ok(entry) = queue.try_recv()
            {
                batch.push(entry);
            }
            let count = batch.len() as u64;
            if count == 0 {
                break;
            }
            if observe(&binding, &batch).await.is_err() {
                binding.meter().unobserved(count);
            }
            progress.bytes.fetch_sub(batch.iter().map(|entry| size(entry)).sum(), Ordering::Relaxed);
            progress.done.fetch_add(count, Ordering::Release);
            batch.clear();
            // Less than a whole batch: gathering more saves calls.
            if count < BATCH as u64 {
                break;
            }
        }
    }
}

impl Queues {
    fn add(&self, progress: &Arc<Progress>) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        queues.push(Arc::downgrade(progress));
    }

    /// Blocks until everything that was queued is passed on; only for the end of the process. False: the time ran out.
    pub(crate) fn flush(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_empty = |queue: &Weak<Progress>| {
            queue.upgrade().is_none_or(|progress| {
                progress.ending.store(true, Ordering::Release);
                progress.enough.notify_one();
                progress.done.load(Ordering::Acquire) >= progress.queued.load(Ordering::Relaxed)
            })
        };
        // Every queue is told to hurry before one is waited for.
        while queues.iter().filter(|queue| !is_empty(queue)).count() > 0 {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::park_timeout(ROUND);
        }
        true
    }
}
