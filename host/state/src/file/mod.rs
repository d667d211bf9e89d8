//! State in a file on this machine.
//!
//! Choose it for one gateway whose quotas and keys must survive a restart, a crash or a power failure. It needs no
//! server. An operation that changes something ends only when the change is on the disk. Operations that arrive
//! together share one write, so the time of a decision depends on the disk and not on their number.
//!
//! The file belongs to one process. Gateways cannot share it, and a second process that names the same folder does
//! not start. Times are those of the system's clock, because they must remain valid after a restart.

mod database;
mod folder;
mod jobs;
mod worker;

use std::path::PathBuf;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use schemars::JsonSchema;
use serde::Deserialize;
use witgate_config::scalar::{Size, Text};
use witgate_config::{Problems, Settings as Written};
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::contracts::state::{BuildContext, Health, Kind, State};
use witgate_exchange::contracts::store::KeyStore;

use jobs::{FileCounter, FileKeys};
use worker::Worker;

/// The row of this kind.
pub const KIND: Kind = Kind { name: "file", build };

/// Settings of a state of kind `file`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The folder of the file, by its absolute path, e.g. `/var/lib/witgate/state`. It is created if it does not exist, and must
    /// belong to the gateway's user alone (mode 0700).
    folder: PathBuf,
    /// The most that the values of all plugins may take together, beside the limit that `store_bytes` sets for each.
    #[serde(default = "size")]
    size: Text<Size>,
}

fn size() -> Text<Size> {
    Text::of("64MiB")
}

fn build(written: &Written, context: BuildContext<'_>) -> Result<Arc<dyn State>, Problems> {
    let settings: Settings = written.parse()?;
    if settings.folder.is_relative() {
        let hint = Some("write the whole path, from `/`".to_owned());
        return Err(vec![written.problem("/folder", "the path is not absolute", hint)]);
    }
    if !context.serving {
        return Ok((context.memory)());
    }
    let worker = Worker::of(&settings.folder, usize::try_from(settings.size.value.0).unwrap_or(usize::MAX))
        .map_err(|problem| vec![written.problem("/folder", problem, None)])?;
    Ok(Arc::new(FileState {
        counter: Arc::new(FileCounter::new(Arc::clone(&worker))),
        worker,
        stores: Mutex::default(),
    }))
}

/// State in a file.
struct FileState {
    worker: Arc<Worker>,
    counter: Arc<FileCounter>,
    /// The keys of each plugin, by its name.
    stores: Mutex<Vec<Arc<FileKeys>>>,
}

impl State for FileState {
    fn counter(&self) -> Arc<dyn Counter> {
        Arc::clone(&self.counter) as _
    }

    fn store(&self, plugin: &str, bytes: usize) -> Arc<dyn KeyStore> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = stores.iter().find(|store| store.plugin() == plugin) {
            store.set_budget(bytes);
            return Arc::clone(store) as _;
        }
        let store = Arc::new(FileKeys::new(Arc::clone(&self.worker), plugin, AtomicUsize::new(bytes)));
        stores.push(Arc::clone(&store));
        store
    }

    fn health(&self) -> Option<Health> {
        Some(self.worker.health())
    }
}
