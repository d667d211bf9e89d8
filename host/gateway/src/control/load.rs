//! Loads: a load reads the configuration, drafts the plugins and builds a snapshot. It runs on a thread of its
//! own, because it takes as long as files, compilers and plugins take. Only the control thread puts its result in
//! service.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use witgate_config::Config;
use witgate_proxy::listener::ListenerTls;
use witgate_proxy::snapshot::{Services, Snapshot};
use witgate_upstream::discovery::Discovery;

use super::brokers::Brokers;
use super::components::Components;
use super::data::{self, DataFiles};
use super::emptied::{self, Written};
use super::handle::{Handle, Message};
use super::library::{self, Draft, Library, Loader, Plan};
use super::preflight;
use super::source::{ConfigReading, Refusal, Source};
use super::states::States;
use super::transcoders;
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
    pub(super) discovery: Discovery,
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
    /// Where counters and stores are kept.
    pub(super) states: States,
    /// The files for plugins.
    pub(super) data: DataFiles,
    pub(super) brokers: Brokers,
}

/// The result of a load.
pub(super) struct Finished {
    /// The generation of the job.
    pub(super) generation: u64,
    pub(super) outcome: Result<Ready, Refusal>,
    /// Whether it has stopped waiting for a plugin's source because another load was requested.
    pub(super) interrupted: bool,
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
        let (generation, fetches) = (self.generation, self.library.fetches().clone());
        let outcome = catch_unwind(AssertUnwindSafe(|| self.load()));
        let outcome = outcome.unwrap_or_else(|_| Err(Refusal::by_panic()));
        Finished { generation, outcome, interrupted: fetches.was_interrupted() }
    }

    fn load(self) -> Result<Ready, Refusal> {
        let reading = self.source.read()?;
        let before = &self.in_service;
        let problems = emptied::at_reload(&reading, &Written::of(&reading), &before.written);
        if !problems.is_empty() {
            return Err(reading.refusal(Exit::Config, problems));
        }
        let before = Before {
            states: &before.states,
            data: &before.data,
            brokers: &before.brokers,
            discovery: &self.discovery,
            snapshot: Some(&self.snapshot),
        };
        let Built { draft, snapshot, kept } = build(&self.library, &reading, &self.force, before)?;
        let next = if self.changes_nothing(&reading, &draft) {
            Next::Same
        } else {
            Next::New(Arc::new(snapshot), preflight::check(&reading)?)
        };
        let undeclared = reading.undeclared();
        let in_service = InService::of(&reading, kept);
        Ok(Ready { reading, in_service, draft, next, undeclared })
    }

    /// Whether everything is the same as in service: settings, files and plugins.
    fn changes_nothing(&self, reading: &ConfigReading, draft: &PluginDraft) -> bool {
        let plugins = draft.plugins();
        let before = &self.snapshot.plugins;
        let same_plugins = plugins.len() == before.len()
            && plugins.iter().zip(before).all(|((_, new), (_, old))| Arc::ptr_eq(new, old));
        let config = &reading.config;
        // What changes in these files shows in the plugins.
        let mut of_plugins = library::source::watched(config);
        of_plugins.extend(data::watched(config));
        same_plugins
            && **config == *self.in_service.config
            && reading.fingerprint.agrees(&self.in_service.fingerprint, &of_plugins)
    }
}

impl InService {
    /// What a version is built from.
    pub(super) fn of(reading: &ConfigReading, kept: Kept) -> InService {
        let Kept { states, data, brokers } = kept;
        InService {
            config: reading.config.clone(),
            fingerprint: reading.fingerprint.clone(),
            written: Arc::new(Written::of(reading)),
            states,
            data,
            brokers,
        }
    }

    /// What a draft is made for whose plugins serve in this version.
    pub(super) fn plan(&self) -> Plan<'_> {
        Plan { config: &self.config, states: &self.states, data: &self.data }
    }
}

/// What was built from a configuration and is not in service yet.
pub(super) struct Built {
    pub(super) draft: PluginDraft,
    pub(super) snapshot: Snapshot,
    pub(super) kept: Kept,
}

/// What is carried over from one version to the next.
pub(super) struct Kept {
    pub(super) states: States,
    pub(super) data: DataFiles,
    pub(super) brokers: Brokers,
}

/// What of the version in service must survive a reload.
#[derive(Clone, Copy)]
pub(super) struct Before<'b> {
    pub(super) states: &'b States,
    pub(super) data: &'b DataFiles,
    pub(super) brokers: &'b Brokers,
    pub(super) discovery: &'b Discovery,
    /// `None`: there is no version in service.
    pub(super) snapshot: Option<&'b Snapshot>,
}

/// Drafts the plugins and builds the snapshot.
///
/// # Errors
/// All problems at once: the snapshot is built even if plugins were refused.
pub(super) fn build(
    library: &Library<Components>,
    reading: &ConfigReading,
    force: &Force,
    before: Before<'_>,
) -> Result<Built, Refusal> {
    let config = &reading.config;
    let (states, mut problems) = before.states.next(config);
    let (data, more) = before.data.next(config, &reading.fingerprint);
    problems.extend(more);
    let (brokers, more) = before.brokers.next(config);
    problems.extend(more);
    let draft = library.draft(Plan { config, states: &states, data: &data }, force);
    let plugins = draft.as_ref().map_or_else(|_| library::stand_ins(config), Draft::plugins);
    let counter = states.counter(&config.gateway);
    let (wrappers, more) = transcoders::of(config);
    problems.extend(more);
    let discovery = before.discovery.clone();
    let services = Services { plugins, counter, discovery, wrappers, brokers: brokers.in_service() };
    let snapshot = Snapshot::build(config.clone(), services, before.snapshot);
    match (draft, snapshot) {
        (Ok(draft), Ok(snapshot)) if problems.is_empty() => {
            Ok(Built { draft, snapshot, kept: Kept { states, data, brokers } })
        }
        (draft, snapshot) => {
            let objections = draft.err().unwrap_or_default();
            problems.extend(objections.configuration);
            problems.extend(snapshot.err().unwrap_or_default());
            let exit = if problems.is_empty() { Exit::PluginRefused } else { Exit::Config };
            problems.extend(objections.plugins);
            Err(reading.refusal(exit, problems))
        }
    }
}
