//! Compilation: once for each file, one file at a time, in a child process with limits.
//!
//! A thread that compiles can neither be stopped nor be limited, and a component comes from a third party: a few
//! kilobytes can take minutes of CPU time and gigabytes of memory. So the gateway compiles in a child process of
//! its own binary, with limits on CPU time and memory, at the lowest priority, and kills it when it takes too
//! long. The child also validates the component, which can be as expensive. The gateway itself reads only the
//! outline of a file, in linear time, and starts no child for code that is in use or in its cache. Tests and
//! benches may compile in their own process.

mod answer;
mod child;
mod parent;
mod refused;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;

use wasmtime::component::Component;
use witgate_config::model::CompileLimits;

use crate::cache::Cache;
use crate::deserialize::deserialize;
use crate::engine::Engine;
use crate::inspect;
use crate::load::text;
use crate::refusal::{Reason, Refusal};
pub use child::{ChildArguments, compile_component};
use refused::{Failed, Refused};

/// The hidden command of the gateway's binary that runs [`compile_component`].
pub const CHILD_COMMAND: &str = "compile-component";

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiling {
    /// In this process, without limits: for tests and benches, whose components are trusted.
    Here,
    /// In this process, without limits, for an engine that counts the instructions that guests execute: for measuring
    /// a plugin, whose calls are slower then. The count is in [`Binding::measured`].
    ///
    /// [`Binding::measured`]: witgate_exchange::contracts::Binding::measured
    Counting,
    /// In a child process with limits.
    Child {
        /// A binary whose command [`CHILD_COMMAND`] is [`compile_component`].
        program: PathBuf,
    },
}

impl Compiling {
    /// In a child process that runs this process's own binary, even if the file of the binary has been replaced
    /// since.
    pub fn in_own_binary() -> Self {
        Compiling::Child { program: PathBuf::from("/proc/self/exe") }
    }
}

/// Niceness of the compiling thread, inherited by the child: it gets the CPU time that nothing else needs.
const NICE: i32 = 19;

/// Compiled code, shared by all bindings of a file and dropped with the last of them.
pub(crate) struct Compiled(pub(crate) Component);

/// The thread that compiles.
pub(crate) struct Compiler {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

/// What the compiling thread and its callers share.
#[derive(Default)]
struct Shared {
    refused: Mutex<Refused>,
    limits: Mutex<CompileLimits>,
}

/// Number of components that may be queued for the thread; a caller that brings one more blocks.
const QUEUE: usize = 16;

struct Job {
    digest: [u8; 32],
    bytes: Vec<u8>,
    reply: SyncSender<Result<Arc<Compiled>, Refusal>>,
}

impl Compiler {
    /// Starts the thread. The thread ends when this handle is dropped.
    ///
    /// # Errors
    /// The operating system refuses to start a thread.
    pub(crate) fn start(
        engine: Arc<Engine>,
        cache: Option<Cache>,
        compiling: Compiling,
    ) -> std::io::Result<Self> {
        let (jobs, received) = sync_channel(QUEUE);
        let shared = Arc::<Shared>::default();
        let bench = Bench { engine, cache, compiling, shared: Arc::clone(&shared), known: Mutex::default() };
        thread::Builder::new().name("witgate-compile".into()).spawn(move || bench.work(&received))?;
        Ok(Compiler { jobs, shared })
    }

    /// Compiles a component, unless its code is in use or in the cache, or the component was refused before.
    /// Blocks until the code is there; never called on the data path.
    ///
    /// # Errors
    /// The component is damaged, or cannot be compiled, or exceeds a limit.
    pub(crate) fn compile(&self, digest: [u8; 32], bytes: &[u8]) -> Result<Arc<Compiled>, Refusal> {
        let stopped = || Refusal::new(Reason::Compile, "the compiler has stopped", "restart the gateway");
        if let Some(refusal) = locked(&self.shared.refused).find(&digest) {
            return Err(refusal);
        }
        let (reply, answer) = sync_channel(1);
        self.jobs.send(Job { digest, bytes: bytes.to_vec(), reply }).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Forgets all remembered refusals.
    pub(crate) fn forget_refused(&self) {
        locked(&self.shared.refused).clear();
    }

    /// Sets the limits for children that are started from now on. If the limits change, remembered refusals are
    /// forgotten.
    pub(crate) fn set_limits(&self, limits: CompileLimits) {
        if std::mem::replace(&mut *locked(&self.shared.limits), limits) != limits {
            self.forget_refused();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Bench {
    engine: Arc<Engine>,
    cache: Option<Cache>,
    compiling: Compiling,
    shared: Arc<Shared>,
    known: Mutex<HashMap<[u8; 32], Weak<Compiled>>>,
}

impl Bench {
    fn work(&self, jobs: &Receiver<Job>) {
        // If the system refuses, compilation runs at normal priority, which is correct, too.
        let _refused = rustix::process::nice(NICE);
        for Job { digest, bytes, reply } in jobs {
            let outcome = self.compile(digest, &bytes).map_err(|failed| {
                locked(&self.shared.refused).remember(digest, &failed);
                failed.refusal
            });
            // The caller may have stopped waiting.
            let _unheard = reply.send(outcome);
        }
    }

    fn compile(&self, digest: [u8; 32], bytes: &[u8]) -> Result<Arc<Compiled>, Failed> {
        let mut known = locked(&self.known);
        known.retain(|_, code| code.strong_count() > 0);
        if let Some(code) = known.get(&digest).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let engine = &self.engine.wasmtime;
        let component = match self.cache.as_ref().and_then(|cache| cache.load(engine, &digest)) {
            Some(component) => component,
            None => self.compile_anew(&digest, bytes)?,
        };
        let code = Arc::new(Compiled(component));
        known.insert(digest, Arc::downgrade(&code));
        Ok(code)
    }

    fn compile_anew(&self, digest: &[u8; 32], bytes: &[u8]) -> Result<Component, Failed> {
        let engine = &self.engine.wasmtime;
        let unusable = |error: &wasmtime::Error| Failed::always(uncompiled(&text(error)));
        let (component, code) = match &self.compiling {
            Compiling::Here | Compiling::Counting => {
                inspect::check_validity(bytes).map_err(|reason| Failed::always(inspect::damaged(&reason)))?;
                let component = Component::new(engine, bytes).map_err(|error| unusable(&error))?;
                let code = component.serialize().map_err(|error| unusable(&error))?;
                (component, code)
            }
            Compiling::Child { program } => {
                let limits = *locked(&self.shared.limits);
                let code = parent::compile(program, bytes, limits)?;
                (deserialize(engine, &code).map_err(|error| unusable(&error))?, code)
            }
        };
        if let Some(cache) = &self.cache {
            cache.store(engine, digest, &code);
        }
        Ok(component)
    }
}

/// The refusal of a component that the compiler rejects.
fn uncompiled(reason: &str) -> Refusal {
    Refusal::new(
        Reason::Compile,
        format!("it cannot be compiled: {reason}"),
        "build it again with a current toolchain",
    )
}
