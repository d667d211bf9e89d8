//! Loads: a load reads the configuration, drafts the plugins and builds a snapshot. It runs on a thread of its
//! own, because it takes as long as files, compilers and plugins take. Only the control thread puts its result in
//! service.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use witgate_config::Config;
use witgate_proxy::listener::ListenerTls;
use witgate_proxy::snapshot::Snapshot;

use super::components::Components;
use super::emptied::{self, Written};
use super::handle::{Handle, Message};
use super::library::{self, Draft, Library, Loader};
use super::preflight;
use super::source::{ConfigReading, Refusal, Source};
use super::wanted::Force;
use crate::allocator;
use crate::exit::Exit;
use crate::watch::Fingerprint;

/// Time after a load until the memory of the replaced snapshot is returned to the kernel. That snapshot is dropped
/// once the last request that began with it has ended, and most have ended by then.
const AFTERMATH: Duration = Duration::from_secs(2);

pub(super) type PluginDraft = Draft<<Components as Loader>::Component>;

/// A load to be done, with everything of the version in service that it needs.
pub(super) struct Job {
    pub(super) source: Source,
    pub(super) library: Library<Components>,
    pub(super) force: Force,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) in_service: InService,
    /// See [`Control`](super::Control).
    pub(super) generation: u64,
}

/// What the version in service was built from.
#[derive(Clone)]
pub(super) struct InService {
    pub(super) config: Arc<Config>,
    /// The fingerprint of the files.
    pub(super) fingerprint: Fingerprint,
    /// Which of the files were not empty.
    pub(super) written: Arc<Written>,
}

/// The result of a load.
pub(super) struct Finished {
    /// The generation of the job.
    pub(super) generation: u64,
    pub(super) outcome: Result<Ready, Refusal>,
}

/// A result that can be put in service.
pub(super) struct Ready {
    pub(super) reading: ConfigReading,
    /// What is kept of it once it is in service.
    pub(super) in_service: InService,
    pub(super) draft: PluginDraft,
    pub(super) next: Next,
    /// Files in the plugin folder that no plugin declares.
    pub(super) undeclared: Vec<String>,
}

/// What has changed.
pub(super) enum Next {
    /// Nothing: the same settings, the same files, the same plugins.
    Same,
    /// A new version, with the TLS files of its listeners.
    New(Arc<Snapshot>, ListenerTls),
}

/// The thread that runs one load after the other. It is not joined when the process ends.
pub(super) struct LoadThread(SyncSender<Job>);

impl LoadThread {
    /// Starts the thread. Results are sent to the control thread.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(super) fn start(handle: Handle) -> std::io::Result<LoadThread> {
        // The control thread begins one load at a time.
        let (jobs, incoming) = sync_channel(1);
        std::thread::Builder::new()
            .name("witgate-load".to_owned())
            .spawn(move || work(&incoming, &handle))?;
        Ok(LoadThread(jobs))
    }

    /// Sends it a job.
    ///
    /// # Errors
    /// The thread is gone, which only a bug in it can cause.
    pub(super) fn begin(&self, job: Job) -> Result<(), ()> {
        self.0.try_send(job).map_err(drop)
    }
}

fn work(jobs: &Receiver<Job>, handle: &Handle) {
    while let Ok(mut job) = jobs.recv() {
        loop {
            let finished = Box::new(job.run());
            if !handle.hand_over(Message::Loaded(finished)) {
                return;
            }
            allocator::give_back();
            match jobs.recv_timeout(AFTERMATH) {
                Ok(next) => job = next,
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        allocator::give_back();
    }
}

impl Job {
    /// Runs the load. A panic refuses the load and leaves the thread alive.
    fn run(self) -> Finished {
        let generation = self.generation;
        let outcome = catch_unwind(AssertUnwindSafe(|| self.load()));
        Finished { generation, outcome: outcome.unwrap_or_else(|_| Err(Refusal::by_panic())) }
    }

    fn load(self) -> Result<Ready, Refusal> {
        let reading = self.source.read()?;
        let in_service = InService::of(&reading);
        let problems = emptied::at_reload(&reading, &in_service.written, &self.in_service.written);
        if !problems.is_empty() {
            return Err(reading.refusal(Exit::Config, problems));
        }
        let (draft, snapshot) = build(&self.library, &reading, &self.force, Some(&self.snapshot))?;
        let next = if self.changes_nothing(&reading, &draft) {
            Next::Same
        } else {
            Next::New(Arc::new(snapshot), preflight::check(&reading)?)
        };
        let undeclared = reading.undeclared();
        Ok(Ready { reading, in_service, draft, next, undeclared })
    }

    /// Whether everything is the same as in service: settings, files and plugins.
    fn changes_nothing(&self, reading: &ConfigReading, draft: &PluginDraft) -> bool {
        let plugins = draft.plugins();
        let before = &self.snapshot.plugins;
        let same_plugins = plugins.len() == before.len()
            && plugins.iter().zip(before).all(|((_, new), (_, old))| Arc::ptr_eq(new, old));
        let config = &reading.config;
        let plugin_files: Vec<_> =
            config.plugins.values().map(|plugin| library::file(config, &plugin.file)).collect();
        same_plugins
            && **config == *self.in_service.config
            && reading.fingerprint.agrees(&self.in_service.fingerprint, &plugin_files)
    }
}

impl InService {
    /// What a version is built from.
    pub(super) fn of(reading: &ConfigReading) -> InService {
        InService {
            config: reading.config.clone(),
            fingerprint: reading.fingerprint.clone(),
            written: Arc::new(Written::of(reading)),
        }
    }
}

/// Drafts the plugins and builds the snapshot, without putting it in service.
pub(super) fn build(
    library: &Library<Components>,
    reading: &ConfigReading,
    force: &Force,
    previous: Option<&Snapshot>,
) -> Result<(PluginDraft, Snapshot), Refusal> {
    let draft = library.draft(&reading.config, force);
    let plugins = draft.as_ref().map_or_else(|_| library::stand_ins(&reading.config), Draft::plugins);
    // The snapshot is built even if plugins were refused, so that all problems are reported at once.
    let snapshot = Snapshot::build(reading.config.clone(), plugins, previous);
    match (draft, snapshot) {
        (Ok(draft), Ok(snapshot)) => Ok((draft, snapshot)),
        (draft, snapshot) => {
            let objections = draft.err().unwrap_or_default();
            let mut problems = objections.configuration;
            problems.extend(snapshot.err().unwrap_or_default());
            let exit = if problems.is_empty() { Exit::PluginRefused } else { Exit::Config };
            problems.extend(objections.plugins);
            Err(reading.refusal(exit, problems))
        }
    }
}
