//! Notices saved changes of a plugin's sources.

use std::path::Path;
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, channel};

use crate::exit::{Exit, Failure};

/// How long nothing may change before a build begins, because editors write a file in several steps.
const QUIET: Duration = Duration::from_millis(150);

/// Waits for changes of a plugin's sources.
pub(super) struct Changes {
    events: Receiver<()>,
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
        Ok(Changes { events, _watcher: watcher })
    }

    /// Waits for the next change, and until nothing has changed for [`QUIET`].
    pub(super) async fn next(&mut self) {
        if self.events.recv().await.is_none() {
            // Not reached while the watcher exists; without it there is nothing to wait for.
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.events.recv()).await {}
    }
}

fn is_source(event: &notify::Event) -> bool {
    let is_change = !matches!(event.kind, EventKind::Access(_));
    let source = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs") || path.ends_with("Cargo.toml")
    };
    is_change && event.paths.iter().any(source)
}
