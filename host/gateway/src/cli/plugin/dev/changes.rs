//! Notices saved changes of a plugin's sources.

use std::path::Path;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::Instant;

use crate::cli::plugin::scratch::SETTINGS;
use crate::exit::{Exit, Failure};

/// How long nothing may change before a build begins, because editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Waits for changes of a plugin's sources.
pub(super) struct Changes {
    events: Receiver<()>,
    /// When nothing will have changed for [`QUIET`]; `None`: there is no change. It is kept here, because a wait that
    /// is given up must not lose the change that it has seen, nor begin the time anew.
    due: Option<Instant>,
    /// Kept because dropping it ends the watch.
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Watches a plugin's folder: its manifest, and its sources with all folders in them.
    ///
    /// # Errors
    /// The system provides no file events.
    pub(super) fn watch(folder: &Path) -> Result<Self, Failure> {
        let (sender, events) = channel(1);
        let watch = || -> notify::Result<RecommendedWatcher> {
            let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
                if event.is_ok_and(|event| is_source(&event)) {
                    // If a notice is already waiting, another one is not needed.
                    let _ = sender.try_send(());
                }
            })?;
            watcher.watch(folder, RecursiveMode::NonRecursive)?;
            let sources = folder.join("src");
            if sources.is_dir() {
                watcher.watch(&sources, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        };
        let watcher = watch().map_err(|error| {
            Failure::new(Exit::Failure, format!("the sources cannot be watched: {error}"))
        })?;
        Ok(Changes { events, due: None, _watcher: watcher })
    }

    /// Waits for the next change, and until nothing has changed for [`QUIET`]. A wait may be given up: the next one
    /// goes on where it was.
    pub(super) async fn next(&mut self) {
        loop {
            let event = match self.due {
                None => self.events.recv().await,
                Some(due) => match tokio::time::timeout_at(due, self.events.recv()).await {
                    Ok(event) => event,
                    Err(_) => {
                        self.due = None;
                        return;
                    }
                },
            };
            if event.is_none() {
                // Not reached while the watcher exists; without it there is nothing to wait for.
                std::future::pending::<()>().await;
            }
            self.due = Some(Instant::now() + QUIET);
        }
    }
}

fn is_source(event: &notify::Event) -> bool {
    let is_change = !matches!(event.kind, EventKind::Access(_));
    let source = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs")
            || path.ends_with("Cargo.toml")
            || path.ends_with(SETTINGS)
    };
    is_change && event.paths.iter().any(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_not_lost_if_something_else_always_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("src")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut changes = Changes::watch(folder.path()).unwrap();
            for file in ["src/lib.rs", "Cargo.toml", SETTINGS] {
                std::fs::write(folder.path().join(file), "saved").unwrap();
                let begun = Instant::now();
                // As where a request is told every few milliseconds.
                while tokio::time::timeout(QUIET / 10, changes.next()).await.is_err() {
                    assert!(begun.elapsed() < Duration::from_secs(10), "the change of {file} was lost");
                }
            }
            assert!(
                tokio::time::timeout(2 * QUIET, changes.next()).await.is_err(),
                "nothing has changed since"
            );
        });
    }
}
