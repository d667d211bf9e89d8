//! The control plane: the one owner of what is in service.
//!
//! It is one thread that takes requests from a channel, one after the other: reload, roll back, revert, drain. Start-up
//! is a reload from nothing, and every reload is the same walk, [`Control::take`]: read the configuration, draft the
//! plugins, build the snapshot, bind what is new, swap, keep. Whatever fails before the swap changes nothing.

mod components;
mod drain;
pub(crate) mod handle;
pub(crate) mod library;
pub(crate) mod source;
mod standin;
pub(crate) mod status;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use witgate_config::model::LogLevel;
use witgate_config::{Config, Problems};
use witgate_proxy::listener::DataPlane;
use witgate_proxy::snapshot::Snapshot;
use witgate_proxy::telemetry::Telemetry;
use witgate_proxy::upstream::adjust;
use witgate_wasm::Inspection;

use crate::admin::AdminThread;
use crate::admin::doors::Doors;
use crate::allocator;
use crate::exit::{Exit, Failure, Outcome};
use crate::process::{self, Notice};
use crate::watch::{FileWatch, Fingerprint};
use components::Components;
use handle::{Handle, Request};
use library::{Draft, Library, Loader};
use source::{Reading, Refusal, Source, Trouble};
use status::{BindingState, Change, ListenerStatus, Phase, Status};

/// How often snapshots that were replaced are looked at: those that no request uses any more are dropped here, not on
/// the core of the last one that did.
const SWEEP: Duration = Duration::from_secs(1);

type PluginDraft = Draft<<Components as Loader>::Component>;

/// The owner of what is in service.
pub(crate) struct Control {
    source: Source,
    handle: Handle,
    requests: Receiver<Request>,
    telemetry: Arc<Telemetry>,
    library: Library<Components>,
    status: Status,
    service: Service,
    watch: FileWatch,
    retired: Vec<Arc<Snapshot>>,
}

/// What runs.
struct Service {
    data_plane: DataPlane,
    admin: AdminThread,
    config: Arc<Config>,
    /// What the files looked like from which it was built.
    fingerprint: Fingerprint,
}

/// A configuration that was built, but not put in service.
pub(crate) struct Built {
    /// What a request would see.
    pub(crate) snapshot: Snapshot,
    /// Plugins that could not be loaded although that keeps nothing from starting (`start = "degraded"`).
    pub(crate) reservations: Vec<String>,
}

/// Builds a configuration with its plugins, for commands that look at what came of it.
///
/// # Errors
/// All problems at once.
pub(crate) fn build_once(source: &Source) -> Result<Built, Refusal> {
    let reading = source.read()?;
    let telemetry = Telemetry::new();
    let components = Components::new(&reading.config, &telemetry, None);
    let (draft, snapshot) = build(&Library::new(components), &reading, false, None)?;
    Ok(Built { snapshot, reservations: draft.reservations() })
}

/// Builds a configuration without loading its plugins, for commands that ask about routes.
///
/// # Errors
/// All problems at once.
pub(crate) fn build_without_plugins(source: &Source) -> Result<Snapshot, Refusal> {
    let reading = source.read()?;
    let plugins = library::stand_ins(&reading.config);
    Snapshot::build(reading.config.clone(), plugins, None)
        .map_err(|problems| reading.refusal(Exit::Config, problems))
}

/// Looks at a component as a gateway would, without any configuration.
///
/// # Errors
/// Nothing was looked at; inside, why no gateway would take the component.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Result<Inspection, witgate_wasm::Refusal>, Failure> {
    let config = witgate_config::proxy_config("127.0.0.1:0", "127.0.0.1:1")
        .map_err(|_| Failure::new(Exit::Failure, "the empty configuration is refused"))?;
    Ok(Components::new(&config, &Telemetry::new(), None).inspect(bytes))
}

/// Runs a gateway until it has drained.
///
/// # Errors
/// It could not start, or requests in flight had to be cut when it ended.
pub(crate) fn run(source: Source) -> Outcome {
    Control::start(source)?.serve()
}

/// Drafts the plugins and builds the snapshot; nothing is in service by that.
fn build(
    library: &Library<Components>,
    reading: &Reading,
    force: bool,
    previous: Option<&Snapshot>,
) -> Result<(PluginDraft, Snapshot), Refusal> {
    let draft = library.draft(&reading.config, force);
    let plugins = draft.as_ref().map_or_else(|_| library::stand_ins(&reading.config), Draft::plugins);
    // Built although plugins were refused: what else is wrong is to be told in the same go.
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

impl Control {
    /// Starts everything that runs, with the first version in service.
    fn start(source: Source) -> Result<Control, Failure> {
        let (sender, requests) = sync_channel(handle::QUEUE);
        let telemetry = Telemetry::new();
        let handle = Handle::new(sender, telemetry.clone());
        let reading = source.read()?;
        let components = Components::new(&reading.config, &telemetry, Some(handle.clone()));
        let mut library = Library::new(components);
        let (draft, snapshot) = build(&library, &reading, false, None)?;
        let admin_settings = Arc::new(reading.config.admin.clone());
        let doors = Doors::bind(&admin_settings, None)
            .map_err(|problem| Failure::from(reading.refusal(Exit::Failure, vec![problem])))?;
        let snapshot = Arc::new(snapshot);
        telemetry.follow(snapshot.clone());
        let unbound = |problems| Failure::from(reading.refusal(Exit::Failure, problems));
        // Signals are followed before the first request is served: a TERM that comes at once drains all the same.
        let admin = AdminThread::start(handle.clone(), admin_settings).map_err(anyhow::Error::from)?;
        let data_plane = DataPlane::start(snapshot, telemetry.clone()).map_err(unbound)?;
        let watch = FileWatch::start(handle.clone()).map_err(anyhow::Error::from)?;
        let reservations = draft.reservations();
        library.keep(draft);
        let fingerprint = reading.fingerprint.clone();
        let service = Service { data_plane, admin, config: reading.config.clone(), fingerprint };
        let status = status::at_start(&source.describe(), &doors);
        let retired = Vec::new();
        let mut control =
            Control { source, handle, requests, telemetry, library, status, service, watch, retired };
        control.status.phase = Phase::Running;
        control.in_service(&reading, "start", reservations);
        control.service.admin.replace(doors);
        process::notify(Notice::Ready);
        Ok(control)
    }

    /// Takes requests until one of them is to drain.
    fn serve(mut self) -> Outcome {
        // What is in service takes less than it took to build.
        allocator::give_back();
        loop {
            self.retired.retain(|snapshot| Arc::strong_count(snapshot) > 1);
            match self.requests.recv_timeout(SWEEP) {
                Ok(Request::Reload { reason, force, reply }) => {
                    process::notify(Notice::Reloading);
                    let change = self.reload(reason, force);
                    process::notify(Notice::Ready);
                    // Whoever asked may have gone away.
                    reply.map(|reply| reply.send(change));
                }
                Ok(Request::Rollback { binding, reply }) => {
                    let change =
                        self.put_back(&binding, BindingState::RolledBack, "rolled back by hand".to_owned());
                    let _ = reply.send(change);
                }
                Ok(Request::Revert { binding, version }) => self.revert(&binding, version),
                Ok(Request::Adjust { upstream, address, change, reply }) => {
                    let snapshot = self.service.data_plane.snapshot();
                    let _ = reply.send(adjust(&snapshot, &upstream, &address, &change));
                }
                Ok(Request::Drain { reason }) => return self.drain(&reason),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => {
                    return self.drain("nobody is left to ask for anything");
                }
            }
            allocator::give_back();
        }
    }

    fn reload(&mut self, reason: String, force: bool) -> Change {
        let outcome = self.source.read().and_then(|reading| match self.take(&reading, force) {
            Ok(reservations) => Ok((reading, reservations)),
            Err(refusal) => Err(refusal),
        });
        self.telemetry
            .metrics()
            .reload(outcome.as_ref().is_ok_and(|(_, reservations)| reservations.is_empty()));
        match outcome {
            Ok((reading, reservations)) => self.in_service(&reading, &reason, reservations),
            Err(refusal) => self.refused(&reason, &refusal),
        }
        self.status.last_change.clone()
    }

    /// The walk of a reload. Returns what of the plugins' files could not be taken.
    fn take(&mut self, reading: &Reading, force: bool) -> Result<Vec<String>, Refusal> {
        let previous = self.service.data_plane.snapshot();
        let (draft, snapshot) = build(&self.library, reading, force, Some(&previous))?;
        let reservations = draft.reservations();
        if self.changes_nothing(reading, &draft, &previous) {
            self.library.keep(draft);
            self.telemetry.follow(previous);
            return Ok(reservations);
        }
        let admin = Arc::new(reading.config.admin.clone());
        let refused = |problems| reading.refusal(Exit::Failure, problems);
        let doors = Doors::bind(&admin, Some(&self.service.config.admin))
            .map_err(|problem| refused(vec![problem]))?;
        self.swap(snapshot, previous).map_err(refused)?;
        self.status.admin =
            doors.bound_address().map(|address| address.to_string()).or(self.status.admin.take());
        self.service.admin.replace(doors);
        self.service.config = reading.config.clone();
        self.service.fingerprint = reading.fingerprint.clone();
        self.library.keep(draft);
        Ok(reservations)
    }

    /// Whether a reload found everything as it is in service: the same settings, the same files, the same plugins.
    fn changes_nothing(&self, reading: &Reading, draft: &PluginDraft, previous: &Snapshot) -> bool {
        let plugins = draft.plugins();
        let same_plugins = plugins.len() == previous.plugins.len()
            && plugins.iter().zip(&previous.plugins).all(|((_, new), (_, old))| Arc::ptr_eq(new, old));
        let plugin_files: Vec<_> = reading
            .config
            .plugins
            .values()
            .map(|plugin| library::file(&reading.config, &plugin.file))
            .collect();
        same_plugins
            && *reading.config == *self.service.config
            && reading.fingerprint.agrees(&self.service.fingerprint, &plugin_files)
    }

    fn swap(&mut self, snapshot: Snapshot, previous: Arc<Snapshot>) -> Result<(), Problems> {
        let snapshot = Arc::new(snapshot);
        self.service.data_plane.swap(snapshot.clone())?;
        self.telemetry.follow(snapshot);
        self.retired.push(previous);
        Ok(())
    }

    /// Puts the previous version of one binding's plugin back in service.
    fn put_back(&mut self, binding: &str, state: BindingState, reason: String) -> Change {
        let config = self.service.config.clone();
        let outcome =
            self.library.draft_previous(binding, &config, state, reason.clone()).and_then(|draft| {
                let previous = self.service.data_plane.snapshot();
                let told = |problems: Problems| {
                    problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>().join("; ")
                };
                let snapshot = Snapshot::build(config, draft.plugins(), Some(&previous)).map_err(told)?;
                self.swap(snapshot, previous).map_err(told)?;
                self.library.keep(draft);
                Ok(())
            });
        let applied = outcome.is_ok();
        self.note(
            format!("{binding}: {reason}"),
            applied,
            outcome.err().into_iter().map(Trouble::from).collect(),
        );
        self.status.last_change.clone()
    }

    /// Takes a version back whose first calls failed, unless something else serves by now or nothing served before: then
    /// quarantine and `on_failure` are what is left.
    fn revert(&mut self, binding: &str, version: u64) {
        if self.library.can_revert(binding, version) {
            let reason = "reverted: too many of the first calls of the new version failed".to_owned();
            self.put_back(binding, BindingState::Reverted, reason);
        }
    }

    fn in_service(&mut self, reading: &Reading, reason: &str, reservations: Vec<String>) {
        self.status.undeclared = reading.undeclared();
        self.watch.watch(reading.watch.clone(), reading.fingerprint.clone());
        self.note(reason.to_owned(), true, reservations.into_iter().map(Trouble::from).collect());
    }

    fn refused(&mut self, reason: &str, refusal: &Refusal) {
        self.watch.watch_also(self.source.watch_list(&refusal.files));
        self.note(reason.to_owned(), false, refusal.troubles());
    }

    /// Tells the log and the status what became of a change.
    fn note(&mut self, reason: String, applied: bool, troubles: Vec<Trouble>) {
        let version = self.service.data_plane.snapshot().version;
        let (level, message) = match (applied, troubles.is_empty()) {
            (true, true) => (LogLevel::Info, "in service"),
            (true, false) => (LogLevel::Error, "in service, but not every plugin could be taken"),
            (false, _) => (LogLevel::Error, "refused, everything is as before"),
        };
        self.telemetry.log(level, message, &[("reason", &reason), ("version", &version)]);
        for trouble in &troubles {
            self.telemetry.log(LogLevel::Error, trouble.message.clone(), &[("at", &trouble.place)]);
        }
        let problems = troubles.into_iter().map(|trouble| trouble.rendered).collect();
        self.status.last_change = Change { at: status::now(), reason, applied, problems };
        self.publish(version);
    }

    fn publish(&mut self, version: u64) {
        self.status.version = version;
        let addresses = self.service.data_plane.addresses().into_iter();
        self.status.listeners =
            addresses.map(|(name, address)| ListenerStatus { name, address: address.to_string() }).collect();
        self.status.bindings = self.library.status();
        self.handle.publish(self.status.clone());
    }
}
