//! Notices changed files and asks the control plane for a reload.
//!
//! *Folders* are watched, not files: editors replace a file by renaming another over it, and Kubernetes swaps the
//! symbolic link `..data`, both of which leave a watch on the file itself looking at a corpse. A burst of events is waited
//! out, then contents are compared by digest: what merely touched a file changes nothing. File systems without events
//! (network shares, some container mounts) are served by a slow poll, which is always on and reads only metadata
//! until that differs.

mod fingerprint;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::control::handle::{Handle, Request};
pub(crate) use fingerprint::{Fingerprint, WatchList, names};

/// How long it must have been quiet after an event before files are compared.
const QUIET: Duration = Duration::from_millis(150);

/// After how long they are compared although it does not get quiet.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often files are compared where no event came.
const POLL: Duration = Duration::from_secs(3);

/// The running watcher.
pub(crate) struct FileWatch {
    notes: SyncSender<Note>,
    handle: Handle,
}

enum Note {
    /// Something happened in a watched folder.
    Event,
    /// From now on this is what matters, and this is what was read of it.
    Watch(WatchList, Fingerprint),
    /// This matters too: what a configuration that was refused depends on.
    Also(WatchList),
}

impl FileWatch {
    /// Starts the watching thread. It watches nothing until it is told what.
    ///
    /// # Errors
    /// The thread could not be made.
    pub(crate) fn start(handle: Handle) -> std::io::Result<FileWatch> {
        // Events carry nothing, so one that finds the queue full may be dropped: those in front of it do the same.
        let (notes, incoming) = sync_channel(16);
        let events = notes.clone();
        let watching = handle.clone();
        std::thread::Builder::new().name("witgate-watch".to_owned()).spawn(move || {
            let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| matters(event.kind)) {
                    let _: Result<(), TrySendError<Note>> = events.try_send(Note::Event);
                }
            });
            let watcher = watcher
                .inspect_err(|error| {
                    watching.warn(format!("no file events ({error}): files are polled instead"))
                })
                .ok();
            let (list, baseline) = (WatchList::default(), Fingerprint::default());
            Watching { handle: watching, watcher, folders: BTreeSet::new(), list, baseline }
                .follow(&incoming);
        })?;
        Ok(FileWatch { notes, handle })
    }

    /// Tells what to watch from now on, and what the version in service was built from.
    pub(crate) fn watch(&self, list: WatchList, read: Fingerprint) {
        self.tell(Note::Watch(list, read));
    }

    /// Tells what to watch beside what is watched already.
    pub(crate) fn watch_also(&self, list: WatchList) {
        self.tell(Note::Also(list));
    }

    fn tell(&self, note: Note) {
        if self.notes.send(note).is_err() {
            self.handle.warn("files are no longer watched: the watching thread has ended".to_owned());
        }
    }
}

/// Reading a file, as the comparison itself does, is no change.
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
}

impl Watching {
    fn follow(mut self, notes: &Receiver<Note>) {
        loop {
            match notes.recv_timeout(POLL) {
                Ok(Note::Event) => {
                    if !self.wait_for_quiet(notes) {
                        return;
                    }
                    self.compare();
                }
                Ok(Note::Watch(list, read)) => self.take(list, read),
                Ok(Note::Also(list)) => self.add(list),
                Err(RecvTimeoutError::Timeout) => {
                    self.watch_folders();
                    self.compare();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits out a burst of events. False if the gateway has ended.
    fn wait_for_quiet(&mut self, notes: &Receiver<Note>) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match notes.recv_timeout(QUIET) {
                Ok(Note::Event) => {}
                Ok(Note::Watch(list, read)) => self.take(list, read),
                Ok(Note::Also(list)) => self.add(list),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        true
    }

    fn take(&mut self, list: WatchList, read: Fingerprint) {
        self.list = list;
        self.baseline = read;
        self.watch_folders();
        // Whatever changed between the reading and the watching is found here.
        self.compare();
    }

    /// What is new is taken as it is now: a change between its reading and now is found only by a further one.
    fn add(&mut self, list: WatchList) {
        let fresh = Fingerprint::take(&list, &self.baseline);
        self.list.files.extend(list.files);
        self.list.folders.extend(list.folders);
        self.baseline.add(fresh);
        self.watch_folders();
    }

    fn compare(&mut self) {
        let now = Fingerprint::take(&self.list, &self.baseline);
        let changed = now.differences(&self.baseline);
        if changed.is_empty() {
            // Metadata may have changed all the same; keeping it saves reading the files at the next poll.
            self.baseline = now;
            return;
        }
        let reason = format!("files changed: {}", changed.join(", "));
        // If the control plane does not take it now, the baseline stays and the next poll asks again.
        if self.handle.send(Request::Reload { reason, force: false, reply: None }).is_ok() {
            self.baseline = now;
        }
    }

    /// Watches every folder that exists by now and forgets those that matter no longer.
    fn watch_folders(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted = self.list.event_folders();
        for gone in self.folders.difference(&wanted) {
            // A folder that was deleted is unwatched already.
            let _ = watcher.unwatch(gone);
        }
        let kept: BTreeSet<PathBuf> = self.folders.intersection(&wanted).cloned().collect();
        let new = wanted.difference(&kept).filter(|folder| {
            // Where no watch can be had, the poll serves.
            watcher.watch(folder, RecursiveMode::NonRecursive).is_ok()
        });
        self.folders = new.cloned().chain(kept.iter().cloned()).collect();
    }
}
