//! The control plane: the only owner of what is in service.
//!
//! The control thread binds, swaps and keeps; it never reads a configuration, compiles, or runs a plugin's code. A
//! start is a reload that begins with nothing, and every reload takes the same steps: a [`load`] on a thread of
//! its own reads the configuration, drafts the plugins and builds the snapshot; [`Control::put_in_service`] puts
//! the result in service. A failure before the swap changes nothing. At most one load runs and one waits
//! ([`wanted`]); draining, reverts and rollbacks ([`put_back`]) wait for neither.

pub(crate) mod broker_status;
mod brokers;
mod cache_metrics;
mod components;
mod data;
mod discovery;
mod drain;
mod emptied;
pub(crate) mod handle;
pub(crate) mod library;
mod load;
mod preflight;
mod put_back;
pub(crate) mod rehearsal;
pub(crate) mod source;
mod standin;
mod state_metrics;
pub(crate) mod states;
pub(crate) mod status;
mod transcoders;
mod wanted;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use witgate_config::model::LogLevel;
use witgate_proxy::listener::DataPlane;
use witgate_proxy::snapshot::{Services, Snapshot};
use witgate_telemetry::Telemetry;
use witgate_upstream::adjust;
use witgate_upstream::discovery::Discovery;
use witgate_wasm::{Compiling, Inspection};

use crate::admin::AdminThread;
use crate::admin::sockets::AdminSockets;
use crate::allocator;
use crate::exit::{Exit, ExitResult, Failure};
use crate::process::{self, Notice};
use crate::watch::FileWatch;
use brokers::Brokers;
use components::Components;
use data::DataFiles;
use handle::{Handle, Message, Request};
use library::Library;
use library::source::{Fetches, SOURCES, SourceKind};
use load::{Before, Finished, InService, Job, LoadThread, Next, PluginDraft, Ready};
use put_back::PutBack;
use source::{ChangeProblem, ConfigReading, Refusal, Source};
use states::States;
use status::{Busy, Change, GatewayPhase, ListenerStatus, Status};
use wanted::{Force, Wanted};

/// The owner of what is in service.
pub(crate) struct Control {
    source: Source,
    handle: Handle,
    messages: Receiver<Message>,
    telemetry: Arc<Telemetry>,
    library: Library<Components>,
    /// Increases whenever a draft is kept. A draft that began with an earlier generation must not be kept: it
    /// would undo the change in between.
    generation: u64,
    status: Status,
    data_plane: DataPlane,
    in_service: InService,
    discovery: Discovery,
    admin: AdminThread,
    watch: FileWatch,
    loads: LoadThread,
    /// The load in progress.
    loading: Option<Loading>,
}

/// A load in progress.
struct Loading {
    /// The requests for it.
    wanted: Wanted,
}

/// A configuration that was built, but not put in service.
pub(crate) struct Built {
    /// The snapshot that requests would use.
    pub(crate) snapshot: Snapshot,
    /// Plugins that could not be loaded, which does not prevent a start (`start = "degraded"`).
    pub(crate) reservations: Vec<String>,
    /// Has the log, which plugins write to.
    pub(crate) telemetry: Arc<Telemetry>,
}

/// Builds a configuration with its plugins, for commands that inspect the result.
///
/// # Errors
/// All problems at once.
pub(crate) fn build_once(source: &Source) -> Result<Built, Refusal> {
    build_for(source, Compiling::in_own_binary())
}

/// As [`build_once`], with a runtime that counts the instructions of plugins.
///
/// # Errors
/// As [`build_once`].
pub(crate) fn build_counting(source: &Source) -> Result<Built, Refusal> {
    build_for(source, Compiling::Counting)
}

fn build_for(source: &Source, compiling: Compiling) -> Result<Built, Refusal> {
    let reading = source.read()?;
    refuse_empty(&reading)?;
    let telemetry = Telemetry::new();
    let components = Components::with(&reading.config, &telemetry, None, Arc::new(|| None), compiling);
    let library = Library::new(components, SOURCES, Fetches::new(|_| {}));
    let (states, data) = (States::for_checking(), DataFiles::default());
    let (discovery, brokers) = (discovery::of_this_build(), Brokers::for_checking());
    let before =
        Before { states: &states, data: &data, brokers: &brokers, discovery: &discovery, snapshot: None };
    let built = load::build(&library, &reading, &Force::default(), before)?;
    preflight::check(&reading)?;
    Ok(Built { snapshot: built.snapshot, reservations: built.draft.reservations(), telemetry })
}

/// Builds a configuration without loading its plugins, for commands about routes.
///
/// # Errors
/// All problems at once.
pub(crate) fn build_without_plugins(source: &Source) -> Result<Snapshot, Refusal> {
    let reading = source.read()?;
    let (plugins, discovery) = (library::stand_ins(&reading.config), discovery::of_this_build());
    let (brokers, problems) = Brokers::for_checking().next(&reading.config);
    if !problems.is_empty() {
        return Err(reading.refusal(Exit::Config, problems));
    }
    let services = Services { plugins, discovery, brokers: brokers.in_service(), ..Services::default() };
    Snapshot::build(reading.config.clone(), services, None)
        .map_err(|problems| reading.refusal(Exit::Config, problems))
}

/// Inspects a component as a gateway would, without a configuration.
///
/// # Errors
/// The inspection was not possible; the inner error says why every gateway would refuse the component.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Result<Inspection, witgate_wasm::Refusal>, Failure> {
    let config = witgate_config::proxy_config("127.0.0.1:0", "127.0.0.1:1")
        .map_err(|_| Failure::new(Exit::Failure, "the empty configuration is refused"))?;
    Ok(Components::new(&config, &Telemetry::new(), None).inspect(bytes))
}

/// Runs a gateway until it has drained.
///
/// # Errors
/// It could not start, or requests in flight had to be cut when it ended.
pub(crate) fn run(source: Source) -> ExitResult {
    Control::start(source, SOURCES)?.serve()
}

/// Refuses to start with a configuration that serves no request.
fn refuse_empty(reading: &ConfigReading) -> Result<(), Refusal> {
    let problems = emptied::at_start(reading);
    if problems.is_empty() { Ok(()) } else { Err(reading.refusal(Exit::Config, problems)) }
}

impl Control {
    /// Starts all threads, with the first version in service. Signals are followed before files are read and
    /// plugins are compiled, which can take minutes: a HUP then requests a reload after the start, a TERM ends the
    /// process at once ([`Handle::begin_service`]).
    fn start(source: Source, sources: &'static [SourceKind]) -> Result<Control, Failure> {
        let (sender, messages) = sync_channel(handle::MESSAGES);
        let telemetry = Telemetry::new();
        let handle = Handle::new(sender, telemetry.clone());
        let admin = AdminThread::start(handle.clone()).map_err(anyhow::Error::from)?;
        let reading = source.read()?;
        refuse_empty(&reading)?;
        let components = Components::new(&reading.config, &telemetry, Some(handle.clone()));
        let late = handle.clone();
        let fetches = Fetches::new(move |source| {
            // A gateway that drains loads nothing any more.
            let _ = late.reload(format!("{source} has answered late"), false, None);
        });
        let mut library = Library::new(components, sources, fetches);
        let (states, data, brokers) = (States::default(), DataFiles::default(), Brokers::default());
        let discovery = discovery::serving(&reading.config);
        let before =
            Before { states: &states, data: &data, brokers: &brokers, discovery: &discovery, snapshot: None };
        let load::Built { draft, snapshot, kept } =
            load::build(&library, &reading, &Force::default(), before)?;
        preflight::check(&reading)?;
        let admin_settings = Arc::new(reading.config.admin.clone());
        let sockets = AdminSockets::bind(&admin_settings, None, process::inherits_sockets())
            .map_err(|problem| Failure::from(reading.refusal(Exit::Failure, vec![problem])))?;
        // Before the first request; the addresses of the listeners follow when they are bound.
        let written = reading.config.listeners.iter().map(|listener| listener.address);
        discovery.own.replace(written.chain(sockets.bound_address()).collect());
        let snapshot = Arc::new(snapshot);
        handle.follow(snapshot.clone());
        telemetry.metrics().register(handle.collector_of_states());
        telemetry.metrics().register(handle.collector_of_cache());
        handle.follow_states(kept.states.clone());
        let unbound = |problems| Failure::from(reading.refusal(Exit::Failure, problems));
        handle.begin_service();
        let data_plane = DataPlane::start(snapshot, telemetry.clone()).map_err(unbound)?;
        let watch = FileWatch::start(handle.clone()).map_err(anyhow::Error::from)?;
        let loads = LoadThread::start(handle.clone()).map_err(anyhow::Error::from)?;
        let reservations = reading.reservations(draft.reservations());
        library.keep(draft);
        let mut status = status::at_start(&source.describe(), &sockets);
        status.phase = GatewayPhase::Running;
        let mut control = Control {
            source,
            handle,
            messages,
            telemetry,
            library,
            generation: 0,
            status,
            data_plane,
            in_service: InService::of(&reading, kept),
            discovery,
            admin,
            watch,
            loads,
            loading: None,
        };
        control.status.undeclared = reading.undeclared();
        control.watch.watch(reading.watch.clone(), reading.fingerprint.clone());
        control.note("start".to_owned(), true, reservations);
        control.admin.replace(sockets);
        process::notify(Notice::Ready);
        Ok(control)
    }

    /// Handles messages until the gateway is to drain.
    fn serve(mut self) -> ExitResult {
        // Building the configuration took more memory than keeping it.
        allocator::give_back();
        while !self.handle.is_draining() {
            self.begin_load();
            // Cannot fail: this thread's own handle is a sender.
            let Ok(message) = self.messages.recv() else { break };
            self.carry_out(message);
            allocator::give_back();
        }
        self.drain()
    }

    fn carry_out(&mut self, message: Message) {
        match message {
            Message::Look => {}
            Message::Request(Request::Rollback { binding, reply }, pending) => {
                self.put_back(PutBack::by_hand(binding, reply, pending));
            }
            Message::Request(Request::Adjust { upstream, address, change, reply }, _ticket) => {
                // The requester may be gone.
                let _ =
                    reply.send(adjust(&self.data_plane.snapshot().upstreams, &upstream, &address, &change));
            }
            Message::Revert { binding, version } => self.put_back(PutBack::failed(binding, version)),
            Message::Redrafted(redrafted) => {
                let (order, redrafted) = *redrafted;
                self.take_redrafted(order, redrafted);
            }
            Message::Loaded(finished) => self.end_load(*finished),
        }
    }

    /// Begins the waiting load, if none is in progress.
    fn begin_load(&mut self) {
        if self.loading.is_some() {
            // A requested load does not wait until a source of the load under way answers.
            if self.handle.wanted().is_some() {
                self.library.fetches().interrupt();
            }
            return;
        }
        let Some(wanted) = self.handle.wanted().take() else { return };
        process::notify(Notice::Reloading);
        self.status.busy = Some(Busy {
            since: status::now(),
            reason: wanted.reason(),
            asked: wanted.requests(),
            waiting: 0,
        });
        self.publish();
        self.library.fetches().begin_load();
        let job = Job {
            source: self.source.clone(),
            library: self.library.clone(),
            force: wanted.force.clone(),
            snapshot: self.data_plane.snapshot(),
            in_service: self.in_service.clone(),
            discovery: self.discovery.clone(),
            generation: self.generation,
        };
        self.loading = Some(Loading { wanted });
        if self.loads.begin(job).is_err() {
            let refusal = Refusal::by_panic();
            self.end_load(Finished {
                generation: self.generation,
                outcome: Err(refusal),
                interrupted: false,
            });
        }
    }

    /// Uses the result of a load. The load is repeated if a plugin was put back meanwhile, which the result would undo,
    /// or if it stopped waiting for a plugin's source because another load was requested; its components are compiled
    /// by then.
    fn end_load(&mut self, finished: Finished) {
        let Some(Loading { mut wanted }) = self.loading.take() else { return };
        if finished.generation != self.generation || finished.interrupted {
            let mut place = self.handle.wanted();
            if let Some(later) = place.take() {
                wanted.merge(later);
            }
            *place = Some(wanted);
            return;
        }
        self.status.busy = None;
        let reason = wanted.reason();
        let outcome = finished.outcome.and_then(|ready| self.put_in_service(ready));
        let whole = outcome.as_ref().is_ok_and(Vec::is_empty);
        self.telemetry.metrics().reload(whole);
        match outcome {
            Ok(reservations) => self.note(reason, true, reservations),
            Err(refusal) => {
                let troubles = refusal.troubles();
                let (watch, fingerprint) = *refusal.watch;
                self.watch.watch_also(watch, fingerprint);
                self.note(reason, false, troubles);
            }
        }
        process::notify(Notice::Ready);
        wanted.answer(&self.status.last_change);
    }

    /// Puts the result of a load in service. Returns the plugin files that could not be used.
    fn put_in_service(&mut self, ready: Ready) -> Result<Vec<ChangeProblem>, Refusal> {
        let Ready { reading, in_service, draft, next, undeclared } = ready;
        match next {
            Next::Same => {
                self.handle.follow(self.data_plane.snapshot());
                self.in_service = in_service;
            }
            Next::New(snapshot, tls) => {
                let admin = Arc::new(reading.config.admin.clone());
                let refused = |problems| reading.refusal(Exit::Failure, problems);
                // Both steps that may fail come first, and a failure of either changes nothing.
                let sockets = AdminSockets::bind(&admin, Some(&self.in_service.config.admin), false)
                    .map_err(|problem| refused(vec![problem]))?;
                self.data_plane.put_in_service(snapshot.clone(), tls).map_err(refused)?;
                self.handle.follow(snapshot);
                self.status.admin =
                    sockets.bound_address().map(|address| address.to_string()).or(self.status.admin.take());
                self.admin.replace(sockets);
                self.handle.follow_states(in_service.states.clone());
                self.in_service = in_service;
            }
        }
        let mut reservations = reading.reservations(draft.reservations());
        reservations.extend(reading.data_reservations(&self.in_service.data));
        self.keep(draft);
        self.status.undeclared = undeclared;
        self.watch.watch(reading.watch, reading.fingerprint);
        Ok(reservations)
    }

    /// Keeps a draft that is in service. Drafts of earlier generations must not be kept from now on.
    fn keep(&mut self, draft: PluginDraft) {
        self.library.keep(draft);
        self.generation += 1;
    }

    /// Writes the result of a change to the log and to the status.
    fn note(&mut self, reason: String, applied: bool, troubles: Vec<ChangeProblem>) {
        let version = self.data_plane.snapshot().version;
        let (level, message) = match (applied, troubles.is_empty()) {
            (true, true) => (LogLevel::Info, "in service"),
            (true, false) => (LogLevel::Error, "in service, but not every plugin could be loaded"),
            (false, _) => (LogLevel::Error, "refused, nothing has changed"),
        };
        self.telemetry.log(level, message, &[("reason", &reason), ("version", &version)]);
        for trouble in &troubles {
            self.telemetry.log(LogLevel::Error, trouble.message.clone(), &[("at", &trouble.place)]);
        }
        let problems = troubles.into_iter().map(|trouble| trouble.rendered).collect();
        self.status.last_change = Change { at: status::now(), reason, applied, problems };
        self.publish();
    }

    fn publish(&mut self) {
        self.status.version = self.data_plane.snapshot().version;
        let addresses = self.data_plane.addresses().into_iter();
        self.status.listeners =
            addresses.map(|(name, address)| ListenerStatus { name, address: address.to_string() }).collect();
        self.protect_own_addresses();
        self.status.bindings = self.library.status();
        self.handle.publish(self.status.clone());
    }
}

#[cfg(test)]
mod tests;
