//! The thread that reads and writes the file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

use redb::StorageError;
use witgate_exchange::contracts::state::Health;

use super::database::{Changes, Store};
use super::folder;

/// The most operations that may wait. Further ones are refused at once, because the disk is too slow.
const WAITING: usize = 4096;

/// The most operations of one transaction.
const BATCH: usize = 1024;

/// Interval at which expired values and full buckets are removed while no operations come in.
const SWEEP: Duration = Duration::from_secs(30);

/// Time before a file that failed is opened again.
const REOPEN: Duration = Duration::from_millis(500);

/// The workers of this process, by folder. A reload that changes a setting keeps using the open file.
static WORKERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Worker>>>> = LazyLock::new(Mutex::default);

/// An operation. Its result is sent only after its transaction is on the disk.
pub(super) trait Job: Send {
    /// Runs the operation in a transaction.
    ///
    /// # Errors
    /// The disk has failed.
    fn act(&mut self, changes: &mut Changes<'_>, size: usize) -> Result<(), StorageError>;

    /// Sends the result. If `is_on_disk` is false, the operation has none.
    fn answer(self: Box<Self>, is_on_disk: bool);
}

/// Sends operations to the thread of one file. Dropping this ends the thread and closes the file.
pub(super) struct Worker {
    jobs: SyncSender<Box<dyn Job>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The most bytes of the values of all plugins.
    size: AtomicUsize,
    problem: Mutex<Option<String>>,
    /// Bytes that the values of each plugin count for.
    used: Mutex<HashMap<String, usize>>,
    done: AtomicU64,
    failed: AtomicU64,
    overloaded: AtomicU64,
}

impl Worker {
    /// The worker of a folder. It is started if it is not running.
    ///
    /// # Errors
    /// The reason why the file cannot be used, as a sentence.
    pub(super) fn of(folder: &Path, size: usize) -> Result<Arc<Worker>, String> {
        let mut workers = WORKERS.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|_, worker| worker.strong_count() > 0);
        let worker = match workers.get(folder).and_then(Weak::upgrade) {
            Some(worker) => worker,
            None => {
                let worker = Arc::new(Worker::start(folder)?);
                workers.insert(folder.to_owned(), Arc::downgrade(&worker));
                worker
            }
        };
        worker.shared.size.store(size, Ordering::Relaxed);
        Ok(worker)
    }

    fn start(folder: &Path) -> Result<Worker, String> {
        let store = open(folder)?;
        let (jobs, waiting) = sync_channel(WAITING);
        let shared = Arc::new(Shared::default());
        let thread = Thread { folder: folder.to_owned(), store: Some(store), shared: Arc::clone(&shared) };
        let named = std::thread::Builder::new().name("state-file".to_owned());
        named
            .spawn(move || thread.run(&waiting))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Worker { jobs, shared })
    }

    /// Sends an operation to the thread. The operation is dropped if too many are waiting.
    pub(super) fn send(&self, job: Box<dyn Job>) {
        if self.jobs.try_send(job).is_err() {
            self.shared.overloaded.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Bytes that the values of a plugin count for.
    pub(super) fn used(&self, plugin: &str) -> usize {
        self.shared
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(plugin)
            .copied()
            .unwrap_or_default()
    }

    pub(super) fn health(&self) -> Health {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let shared = &self.shared;
        Health {
            problem: shared.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            operations: vec![
                ("done", read(&shared.done)),
                ("failed", read(&shared.failed)),
                ("overloaded", read(&shared.overloaded)),
            ],
        }
    }
}

/// Opens the file of a folder.
fn open(folder: &Path) -> Result<Store, String> {
    let file = folder::open(folder)?;
    Store::open(file).map_err(|error| match error {
        redb::Error::DatabaseAlreadyOpen => format!("{} is used by another process", folder.display()),
        error => format!("the file in {} cannot be used: {error}", folder.display()),
    })
}

/// The state of the thread.
struct Thread {
    folder: PathBuf,
    /// `None` after the disk has failed, until the file is opened again.
    store: Option<Store>,
    shared: Arc<Shared>,
}

impl Thread {
    fn run(mut self, waiting: &Receiver<Box<dyn Job>>) {
        loop {
            let pause = if self.store.is_some() { SWEEP } else { REOPEN };
            match waiting.recv_timeout(pause) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(waiting.try_iter().take(BATCH - 1));
                    self.work(batch);
                }
                Err(RecvTimeoutError::Timeout) if self.store.is_none() => self.reopen(),
                Err(RecvTimeoutError::Timeout) => {
                    let swept = self.transact(|changes| changes.sweep());
                    self.note(swept);
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Runs some operations in one transaction and sends their results.
    fn work(&mut self, mut batch: Vec<Box<dyn Job>>) {
        if self.store.is_none() {
            self.reopen();
        }
        let size = self.shared.size.load(Ordering::Relaxed);
        let done = self.transact(|changes| batch.iter_mut().try_for_each(|job| job.act(changes, size)));
        let is_on_disk = done.is_ok();
        let count = if is_on_disk { &self.shared.done } else { &self.shared.failed };
        count.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.note(done);
        for job in batch {
            job.answer(is_on_disk);
        }
    }

    fn transact(
        &mut self,
        act: impl FnOnce(&mut Changes<'_>) -> Result<(), StorageError>,
    ) -> Result<(), String> {
        let store = self.store.as_mut().ok_or("the file could not be opened again")?;
        store.transact(act).map_err(|error| error.to_string())
    }

    /// Notes the result of a transaction. After a failure the file is closed, because its state is unknown.
    fn note(&mut self, done: Result<(), String>) {
        match done {
            Ok(()) => {
                let Some(store) = &self.store else { return };
                let mut used = self.shared.used.lock().unwrap_or_else(PoisonError::into_inner);
                store.copy_used(&mut used);
            }
            Err(problem) => {
                self.store = None;
                self.set_problem(Some(problem));
            }
        }
    }

    fn reopen(&mut self) {
        match open(&self.folder) {
            Ok(store) => {
                self.store = Some(store);
                self.set_problem(None);
            }
            Err(problem) => self.set_problem(Some(problem)),
        }
    }

    fn set_problem(&self, problem: Option<String>) {
        *self.shared.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }
}
