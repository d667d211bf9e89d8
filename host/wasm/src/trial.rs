//! Test programs in the sandbox: programs (`wasi:cli/run`) that run in the engine and with the imports of plugins.
//!
//! Unlike a plugin, a program gets arguments, an exit, and output that is kept instead of logged. The file system
//! exists only because the test harness of Rust imports it: it has no folders.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::StoreContextMut;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Instance, Linker, Resource, ResourceType};
use witgate_config::model::{Budget, Grants, LogLevel};
use witgate_exchange::credentials::Credentials;

use crate::engine::Engine;
use crate::imports::log::Pace;
use crate::imports::wasi::{OutputStream, VERSION, Written};
use crate::imports::{self, Waits};
use crate::instance::fresh_store;
use crate::journal::Journal;
use crate::load::text;
use crate::meter::Meter;
use crate::password::worker::PasswordWorkers;
use crate::rights::Rights;
use crate::sealing::Sealer;
use crate::state::HostState;

/// Time limit of one run: tests may compute for long, but an endless loop has to end.
const TIME: Duration = Duration::from_secs(60);

/// The budget of one run. Memory is that of the inspection of plugins; the other limits only end endless loops.
const BUDGET: Budget = Budget {
    cpu: TIME,
    wall: TIME,
    memory: 256 << 20,
    table_elements: 100_000,
    host_calls: 10_000_000,
    log_lines: 1_000_000,
    output: 16 << 20,
    body_limit: 0,
    context_limit: 0,
    fetch_limit: 0,
};

/// Bytes of output that are kept of one run.
const KEPT: usize = 1 << 20;

/// Maximum number of instances of the engine. Programs run one at a time, but have more core modules than a
/// plugin.
const ROOM: u32 = 8;

/// A compiled program. Each run uses a new instance.
pub struct Trial {
    engine: Engine,
    component: Component,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// Whether the program ended by itself and reported success.
    pub succeeded: bool,
    /// Standard output and standard error in the order of printing, truncated after 1 MiB.
    pub output: String,
    /// Why the program was ended, if it did not end by itself: a trap (which includes a panic), or an exceeded
    /// budget.
    pub trap: Option<String>,
}

/// A program cannot be run at all.
#[derive(Debug)]
pub struct TrialError(String);

impl fmt::Display for TrialError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "it cannot be run in the sandbox: {}", self.0)
    }
}

impl std::error::Error for TrialError {}

impl From<wasmtime::Error> for TrialError {
    fn from(error: wasmtime::Error) -> Self {
        TrialError(text(&error))
    }
}

impl Trial {
    /// Compiles a program. Takes seconds for a large one.
    ///
    /// # Errors
    /// The bytes are not a component, or the engine cannot start.
    pub fn new(bytes: &[u8]) -> Result<Trial, TrialError> {
        let engine = Engine::new(ROOM)?;
        let component = Component::new(&engine.wasmtime, bytes)?;
        Ok(Trial { engine, component })
    }

    /// Runs the program in a new instance. `arguments` do not include the name of the program.
    ///
    /// # Errors
    /// The program imports what a plugin may not, does not export `wasi:cli/run`, or needs more memory at its
    /// start than there is.
    pub fn run(&self, arguments: &[&str]) -> Result<RunOutcome, TrialError> {
        let printed = Arc::new(Printed::default());
        let linked = self.linker(arguments, &printed)?.instantiate_pre(&self.component)?;
        let (mut store, _, _) = fresh_store(&self.engine, &Arc::new(rights(&printed)))?;
        store.data_mut().begin_setup(TIME);
        let instance: Instance = linked.instantiate(&mut store)?;
        let interface = self.component.get_export_index(None, format!("wasi:cli/run@{VERSION}"));
        let function =
            interface.and_then(|interface| self.component.get_export_index(Some(&interface), "run"));
        let function = function.ok_or_else(|| TrialError("it does not export wasi:cli/run".to_owned()))?;
        let run = instance.get_typed_func::<(), (Result<(), ()>,)>(&mut store, function)?;
        let (succeeded, trap) = match run.call(&mut store, ()) {
            Ok((status,)) => (status.is_ok(), None),
            Err(error) => match error.downcast_ref::<ProgramExit>() {
                Some(ProgramExit(succeeded)) => (*succeeded, None),
                None => (false, Some(text(&error))),
            },
        };
        Ok(RunOutcome { succeeded, output: printed.text(), trap })
    }

    /// The imports of plugins, and those that a program needs in addition.
    fn linker(&self, arguments: &[&str], printed: &Arc<Printed>) -> wasmtime::Result<Linker<HostState>> {
        let mut linker = imports::linker(&self.engine.wasmtime, Waits::default())?;
        linker.allow_shadowing(true);
        let arguments: Vec<String> = ["test"].iter().chain(arguments).map(ToString::to_string).collect();
        linker
            .instance(&format!("wasi:cli/environment@{VERSION}"))?
            .func_wrap("get-arguments", move |_, ()| Ok((arguments.clone(),)))?;
        linker.instance(&format!("wasi:cli/exit@{VERSION}"))?.func_wrap(
            "exit",
            |_, (status,): (Result<(), ()>,)| -> wasmtime::Result<()> {
                Err(wasmtime::Error::new(ProgramExit(status.is_ok())))
            },
        )?;
        let mut streams = linker.instance(&format!("wasi:io/streams@{VERSION}"))?;
        for name in ["[method]output-stream.write", "[method]output-stream.blocking-write-and-flush"] {
            let printed = Arc::clone(printed);
            let write = move |mut store: StoreContextMut<'_, HostState>,
                              (_stream, bytes): (Resource<OutputStream>, Vec<u8>)|
                  -> wasmtime::Result<Written> {
                store.data_mut().charge()?;
                printed.keep(&bytes);
                Ok((Ok(()),))
            };
            streams.func_wrap(name, write)?;
        }
        self.without_files(&mut linker)?;
        Ok(linker)
    }

    /// The file system, if the program imports one: it has no folders, and every other function traps.
    fn without_files(&self, linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
        let engine = &self.engine.wasmtime;
        let component = self.component.component_type();
        for (interface, import) in component.imports(engine) {
            let (true, ComponentItem::ComponentInstance(import)) =
                (interface.starts_with("wasi:filesystem/"), import.ty)
            else {
                continue;
            };
            let mut instance = linker.instance(interface)?;
            for (name, item) in import.exports(engine) {
                match item.ty {
                    ComponentItem::ComponentFunc(_) if name == "get-directories" => {
                        instance
                            .func_wrap(name, |_, ()| Ok((Vec::<(Resource<Descriptor>, String)>::new(),)))?;
                    }
                    ComponentItem::ComponentFunc(_) => instance.func_new(name, |_, _, _, _| {
                        Err(wasmtime::Error::msg("the test uses the file system; a plugin has none"))
                    })?,
                    // Resources that belong to other interfaces, and are only used by this one, are defined there.
                    ComponentItem::Resource(_) if name == "descriptor" && interface.contains("/types@") => {
                        instance.resource(name, ResourceType::host::<Descriptor>(), |_, _| Ok(()))?;
                    }
                    ComponentItem::Resource(_) if name == "directory-entry-stream" => {
                        instance.resource(name, ResourceType::host::<Entries>(), |_, _| Ok(()))?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// A file or folder. None is ever created.
enum Descriptor {}

/// The entries of a folder. None is ever created.
enum Entries {}

/// The program called `exit`, with success or not. Passed on as an error, because the program must not run on.
#[derive(Debug)]
struct ProgramExit(bool);

impl fmt::Display for ProgramExit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the program has ended")
    }
}

impl std::error::Error for ProgramExit {}

/// What a run has printed.
#[derive(Default)]
struct Printed(Mutex<Vec<u8>>);

impl Printed {
    fn keep(&self, bytes: &[u8]) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT.saturating_sub(kept.len()).min(bytes.len());
        kept.extend_from_slice(&bytes[..room]);
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Log lines of a test that does not use the mocks go into its own output.
impl Journal for Printed {
    fn enabled(&self, _level: LogLevel) -> bool {
        true
    }

    fn write(&self, _level: LogLevel, _binding: &str, message: &str) {
        self.keep(format!("{message}\n").as_bytes());
    }
}

/// A test has no objects of a gateway; the mocks stand in for them.
fn rights(printed: &Arc<Printed>) -> Rights {
    let meter = Arc::<Meter>::default();
    Rights {
        binding: Arc::from("test"),
        response_headers: Vec::new(),
        grants: Grants::default(),
        credentials: Credentials::VISIBLE,
        budget: BUDGET,
        store: None,
        data: Vec::new(),
        sealer: Sealer::derive(&[], "test"),
        passwords: Arc::new(PasswordWorkers::new(1)),
        journal: Arc::clone(printed) as Arc<dyn Journal>,
        pace: Pace::new(BUDGET.log_lines),
        metrics: Arc::clone(&meter.names),
        meter,
    }
}
