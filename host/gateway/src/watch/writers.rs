//! Tracks who is writing which file, as far as the kernel's events tell (inotify(7)).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use notify::EventKind;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};

/// The most files that are remembered. A folder with more files being written is not used for configurations.
const MOST: usize = 4096;

/// What was last observed of a file's writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// It has written and not closed the file.
    Open,
    /// It has closed the file, or created it and written nothing.
    Closed,
    /// It has moved another file to this path.
    Moved,
}

/// Files of watched folders that were written recently.
#[derive(Default)]
pub(super) struct Writers(Mutex<HashMap<PathBuf, Writer>>);

impl Writers {
    /// Records an event.
    pub(super) fn note(&self, event: &notify::Event) {
        let writer = match event.kind {
            EventKind::Modify(ModifyKind::Data(_)) => Some(Writer::Open),
            EventKind::Create(_) | EventKind::Access(AccessKind::Close(AccessMode::Write)) => {
                Some(Writer::Closed)
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Writer::Moved),
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => None,
            _ => return,
        };
        let mut files = self.files();
        for path in &event.paths {
            match writer {
                Some(writer) if files.len() < MOST || files.contains_key(path) => {
                    files.insert(path.clone(), writer);
                }
                Some(_) => {}
                None => drop(files.remove(path)),
            }
        }
    }

    /// The writer of a file, including the target if it is a symbolic link.
    pub(super) fn of(&self, file: &Path) -> Option<Writer> {
        let known = self.files().get(file).copied();
        let behind = || {
            let target = std::fs::canonicalize(file).ok()?;
            self.files().get(&target).copied()
        };
        known.or_else(behind)
    }

    /// Forgets all writers that have finished.
    pub(super) fn forget_closed(&self) {
        self.files().retain(|_, writer| *writer == Writer::Open);
    }

    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, Writer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
