//! Notices changed files and requests a reload.
//!
//! *Folders* are watched, not files: editors replace a file by renaming another over it, and Kubernetes swaps the
//! symbolic link `..data`; after either, a watch on the file itself would watch a deleted file. The watcher waits
//! until changed files are whole ([`settle`]), then compares contents by digest, so that a file whose contents are
//! the same causes nothing. For file systems without events (network shares, some container mounts) there is a
//! slow poll, which is always on and reads only metadata until that differs.

mod fingerprint;
mod settle;
mod writers;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::control::handle::Handle;
pub(crate) use fingerprint::{CONFIGURATION, Fingerprint, WatchList, names};
use settle::{Burst, Verdict};
use writers::Writers;

/// Time between two checks while files change.
const STEP: Duration = Duration::from_millis(25);

/// Time between two checks without an event.
const POLL: Duration = Duration::from_secs(3);

/// The running watcher.
pub(crate) struct FileWatch {
    /// Wakes the watching thread. Carries no data: if it is full, the thread is already woken.
    bell: SyncSender<()>,
    state: Arc<Mutex<WatchState>>,
    handle: Handle,
}

/// What the watching thread has not read yet. Writing to it never waits, however slow the file system is that the
/// thread reads.
#[derive(Default)]
struct WatchState {
    /// Replaces what is watched, with the fingerprint of what was read.
    watch: Option<(WatchList, Fingerprint)>,
    /// Adds to what is watched, with the fingerprint of what was read: the files of a configuration that was
    /// refused.
    also: Option<(WatchList, Fingerprint)>,
}

impl FileWatch {
    /// Starts the watching thread. It watches nothing at first.
    ///
    /// # Errors
    /// The system refuses the thread.
    pub(crate) fn start(handle: Handle) -> std::io::Result<FileWatch> {
        let (bell, rings) = sync_channel(1);
        let state = Arc::<Mutex<WatchState>>::default();
        let (events, hears, watching) = (bell.clone(), state.clone(), handle.clone());
        std::thread::Builder::new().name("witgate-watch".to_owned()).spawn(move || {
            let writers = Arc::<Writers>::default();
            let notes = writers.clone();
            let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                let Ok(event) = event else { return };
                notes.note(&event);
                if matters(event.kind) {
                    let _: Result<(), TrySendError<()>> = events.try_send(());
                }
            });
            let watcher = watcher
                .inspect_err(|error| {
                    watching.warn(format!("no file events ({error}): files are polled instead"))
                })
                .ok();
            let watching = Watching {
                handle: watching,
                watcher,
                folders: BTreeSet::new(),
                list: WatchList::default(),
                baseline: Fingerprint::default(),
                state: hears,
                writers,
                burst: None,
                looked: Instant::now(),
            };
            watching.follow(&rings);
        })?;
        Ok(FileWatch { bell, state, handle })
    }

    /// Sets what to watch from now on, and the fingerprint of what the version in service was built from.
    pub(crate) fn watch(&self, list: WatchList, read: Fingerprint) {
        self.tell(|state| *state = WatchState { watch: Some((list, read)), also: None });
    }

    /// Adds to what is watched, with the fingerprint of what was read.
    pub(crate) fn watch_also(&self, list: WatchList, read: Fingerprint) {
        self.tell(|state| {
            let (known, looks) = state.also.get_or_insert_default();
            known.extend(list);
            looks.add(read);
        });
    }

    fn tell(&self, tell: impl FnOnce(&mut WatchState)) {
        tell(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(TrySendError::Disconnected(())) = self.bell.try_send(()) {
            self.handle.warn("files are no longer watched: the watching thread has ended".to_owned());
        }
    }
}

/// Whether an event may mean a change. Reading a file, as the comparison does, is none.
fn matters(kind: EventKind) -> bool {
    use notify::event::{AccessKind, AccessMode};
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

struct Watching {
    handle: Handle,
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    list: WatchList,
    baseline: Fingerprint,
    state: Arc<Mutex<WatchState>>,
    writers: Arc<Writers>,
    /// Changes that may not be complete yet.
    burst: Option<Burst>,
    /// Time of the last check.
    looked: Instant,
}

impl Watching {
    fn follow(mut self, rings: &Receiver<()>) {
        loop {
            let wait = if self.burst.is_some() { STEP } else { POLL };
            match rings.recv_timeout(wait) {
                Ok(()) => self.hear(),
                Err(RecvTimeoutError::Timeout) if self.burst.is_none() => self.watch_folders(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // This also finds changes between the reading and the watching.
            self.burst.get_or_insert_with(|| Burst::new(&self.baseline));
            // In a busy folder, events come faster than checks are useful.
            if self.looked.elapsed() >= STEP {
                self.look();
            }
        }
    }

    /// Takes over the new watch list.
    fn hear(&mut self) {
        let WatchState { watch, also } =
            std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner));
        if watch.is_none() && also.is_none() {
            return;
        }
        if let Some((list, read)) = watch {
            self.list = list;
            self.baseline = read;
        }
        if let Some((list, read)) = also {
            self.list.extend(list);
            self.baseline.add(read);
        }
        self.watch_folders();
    }

    fn look(&mut self) {
        let Some(burst) = &mut self.burst else { return };
        self.looked = Instant::now();
        burst.see(Fingerprint::take(&self.list.with_newcomers(), burst.seen()), self.looked);
        match burst.judge(&self.baseline, &self.writers, self.looked) {
            Verdict::Wait => return,
            // Metadata may have changed; keeping it saves reading the files at the next poll.
            Verdict::Same => self.baseline = burst.seen().clone(),
            Verdict::Changed => {
                let changed = burst.seen().differences(&self.baseline);
                let reason = format!("files changed: {}", changed.join(", "));
                // A gateway that drains refuses reloads.
                if self.handle.reload(reason, false, None).is_ok() {
                    self.baseline = burst.seen().clone();
                }
            }
        }
        self.burst = None;
        self.writers.forget_closed();
    }

    /// Watches every folder that exists by now, and stops watching those that are no longer listed.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = self.list.event_folders();
        for gone in self.folders.difference(&wanted) {
            // A deleted folder is unwatched already.
            let _ = watcher.unwatch(gone);
        }
        let kept: BTreeSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        let new = wanted.difference(&kept).filter(|folder| {
            // If a folder cannot be watched, the poll still notices changes.
            watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
        });
        self.folders = new.cloned().chain(kept.iter().cloned()).collect();
    }
}
