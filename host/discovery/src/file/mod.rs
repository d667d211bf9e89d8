//! Endpoints in a file, which is watched.
//!
//! The file is read when it has changed and its changes have settled, at the latest a second after the first change.
//! A file that cannot be read, is too large, or is malformed leaves the last good set in service. The folder is
//! watched and not the file, because a file that is replaced by a rename is another file; where the file system has
//! no events, a look every two seconds finds the change.

mod format;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use witgate_config::{Problems, file, model};
use witgate_exchange::contracts::discovery::{
    EndpointSink, EndpointSpec, Run, Source, SourceKind, SourceThread,
};

/// The row of the table.
pub const KIND: SourceKind = SourceKind {
    kind: "file",
    summary: "a file of addresses, TOML or JSON, that is watched",
    thread: SourceThread::Keeper,
    build,
};

/// The largest file in bytes. A hundred thousand endpoints take about half of it.
const LARGEST: u64 = 16 * 1024 * 1024;
/// The time between two looks at the file if nothing is heard of it.
const POLL: Duration = Duration::from_secs(2);
/// The time for which a file that has changed must stay the same before it is read.
const SETTLED: Duration = Duration::from_millis(50);
/// The longest time that a file which keeps changing is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

fn build(source: &model::DiscoverySource) -> Result<Box<dyn Source>, Problems> {
    let path = match source {
        model::DiscoverySource::File(path) => path.clone(),
        _ => PathBuf::new(),
    };
    Ok(Box::new(FileSource { path }))
}

struct FileSource {
    path: PathBuf,
}

impl Source for FileSource {
    fn known(&self) -> Vec<EndpointSpec> {
        read(&self.path).map(|(endpoints, _)| endpoints).unwrap_or_default()
    }

    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(follow(self.path.clone(), sink))
    }
}

/// What tells versions of a file apart without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<std::fs::Metadata> for Stamp {
    fn from(metadata: std::fs::Metadata) -> Stamp {
        Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Why a file gives no endpoints.
enum Unreadable {
    /// It cannot be read, which may be over without a change of the file.
    Unread(String),
    /// Its contents are malformed.
    Malformed(String),
    /// It was changed while it was read.
    Changing,
}

/// Reports the endpoints of the file whenever it changes.
async fn follow(path: PathBuf, sink: &dyn EndpointSink) -> Result<(), String> {
    let bell = Arc::<Notify>::default();
    let _watcher = watch(&path, bell.clone());
    let (mut read_last, mut in_order) = (None, false);
    loop {
        let stamp = settle(&path).await;
        if stamp.is_some() && stamp == read_last {
            if in_order {
                sink.confirm();
            }
        } else {
            let file = path.clone();
            let outcome = tokio::task::spawn_blocking(move || read(&file)).await;
            match outcome.map_err(|error| error.to_string())? {
                Ok((endpoints, stamp)) => {
                    // What is refused is noted by the sink.
                    in_order = sink.whole(endpoints).is_ok();
                    read_last = Some(stamp);
                }
                Err(Unreadable::Changing) => continue,
                Err(Unreadable::Unread(why)) => {
                    (in_order, read_last) = (false, None);
                    sink.failed(why);
                }
                Err(Unreadable::Malformed(why)) => {
                    (in_order, read_last) = (false, stamp);
                    sink.failed(why);
                }
            }
        }
        // Both ends of the wait mean the same: it is time for a look.
        let _ = timeout(POLL, bell.notified()).await;
    }
}

/// Waits until the file has not changed for a moment. `None` if it does not exist.
async fn settle(path: &Path) -> Option<Stamp> {
    let begun = Instant::now();
    let mut stamp = look(path).await;
    while begun.elapsed() < PATIENCE {
        sleep(SETTLED).await;
        let now = look(path).await;
        if now == stamp {
            break;
        }
        stamp = now;
    }
    stamp
}

async fn look(path: &Path) -> Option<Stamp> {
    let path = path.to_owned();
    let metadata = tokio::task::spawn_blocking(move || std::fs::metadata(path)).await;
    metadata.ok()?.ok().map(Stamp::from)
}

fn read(path: &Path) -> Result<(Vec<EndpointSpec>, Stamp), Unreadable> {
    let unread =
        |error: std::io::Error| Unreadable::Unread(format!("cannot read `{}`: {error}", path.display()));
    let opened = file::open(path).map_err(unread)?;
    let before = Stamp::from(opened.metadata().map_err(unread)?);
    let bytes = file::read_opened(&opened, LARGEST).map_err(unread)?;
    if Stamp::from(opened.metadata().map_err(unread)?) != before {
        return Err(Unreadable::Changing);
    }
    let malformed = |why: String| Unreadable::Malformed(format!("`{}`: {why}", path.display()));
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not text (UTF-8)".to_owned()))?;
    let is_json = path.extension().is_some_and(|extension| extension == "json");
    let endpoints = if is_json { format::json(&text) } else { format::toml(&text) };
    Ok((endpoints.map_err(malformed)?, before))
}

/// Rings the bell at each event in the folder of the file. `None` if the folder cannot be watched.
fn watch(path: &Path, bell: Arc<Notify>) -> Option<RecommendedWatcher> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let ring = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            bell.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(ring).ok()?;
    watcher.watch(folder, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

#[cfg(test)]
mod tests;
