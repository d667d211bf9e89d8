//! Compilation: once for each file, one file at a time, in a child process with limits.
//!
//! A thread in the compiler can be neither stopped nor bounded, and what it compiles comes from strangers: a component of
//! some kilobytes can ask for minutes and gigabytes. So the gateway compiles in a child process of its own binary that has
//! a limit on CPU time and on memory, is of the lowest priority, and is killed when it takes too long. Validation, which
//! can be as dear, is done there too. The gateway itself only reads the outline of a file, in linear time, and takes code
//! that it has in use or in its cache without starting a child. Tests and benches may compile in their own process.
//!
//! A plugin that takes seconds to compile takes them from nobody.
//! Where all cores are busy, the child has its slice of some milliseconds in turn, and whoever waits for the core meanwhile
//! waits for that. How much that is could not be told on two shared cores that serve, ask and answer as well, where the p99
//! moves by several times by itself: swapped each half second, 2.3 ms without swaps, 2.1 with swaps to code that was compiled
//! before, 2.3 with swaps that compile (four rounds of three seconds, four clients in closed loops); under half load in an
//! open loop 0.6 to 5.5 times the time before, and 1.2 to 12 times on another day. Tried without a difference that could be told:
//! `SCHED_BATCH`, a short slice, and `SCHED_IDLE`, whose weight is a fifth, so that a swap takes five times as long where no
//! core is idle. Untried: to compile only the functions that have changed since the last version (wasmtime's incremental
//! cache), which would keep their code in memory for that.

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

/// The hidden command of the gateway's binary that [`compile_component`] serves.
pub const CHILD_COMMAND: &str = "compile-component";

/// Where components are compiled.
#[derive(Debug, Clone)]
pub enum Compiling {
    /// In this process, without any bound: for tests and benches, whose components are their own.
    Here,
    /// In a child process with limits.
    Child {
        /// A binary whose command [`CHILD_COMMAND`] is [`compile_component`].
        program: PathBuf,
    },
}

impl Compiling {
    /// In a child process of this process's own binary, also when its file was replaced meanwhile.
    pub fn in_own_binary() -> Self {
        Compiling::Child { program: PathBuf::from("/proc/self/exe") }
    }
}

/// Niceness of the thread, which a child has from it: it gets what the others leave.
const NICE: i32 = 19;

/// Compiled code, shared by all bindings of a file and gone with the last of them.
pub(crate) struct Compiled(pub(crate) Component);

/// The thread that compiles.
pub(crate) struct Compiler {
    jobs: SyncSender<Job>,
    shared: Arc<Shared>,
}

/// What the thread and those who ask it both know.
#[derive(Default)]
struct Shared {
    refused: Mutex<Refused>,
    limits: Mutex<CompileLimits>,
}

/// Components that may wait for the thread; whoever brings one more waits with it.
const QUEUE: usize = 16;

struct Job {
    digest: [u8; 32],
    bytes: Vec<u8>,
    reply: SyncSender<Result<Arc<Compiled>, Refusal>>,
}

impl Compiler {
    /// Starts the thread. It ends with this handle.
    ///
    /// # Errors
    /// The system refuses a thread.
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

    /// Compiles a component, unless its code is in use or in the cache, or it was refused before. Waits for it: never on
    /// the data path.
    ///
    /// # Errors
    /// The component is damaged, cannot be compiled, or not within the limits.
    pub(crate) fn compile(&self, digest: [u8; 32], bytes: &[u8]) -> Result<Arc<Compiled>, Refusal> {
        let stopped = || Refusal::new(Reason::Compile, "the compiler has stopped", "restart the gateway");
        if let Some(refusal) = locked(&self.shared.refused).find(&digest) {
            return Err(refusal);
        }
        let (reply, answer) = sync_channel(1);
        self.jobs.send(Job { digest, bytes: bytes.to_vec(), reply }).map_err(|_| stopped())?;
        answer.recv().map_err(|_| stopped())?
    }

    /// Forgets what was refused.
    pub(crate) fn forget_refused(&self) {
        locked(&self.shared.refused).clear();
    }

    /// Sets the limits of the children that are started from now on. Where they differ, what was refused is tried again.
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
        // A system that refuses keeps the usual priority, which is slower for others but not wrong.
        let _refused = rustix::process::nice(NICE);
        for Job { digest, bytes, reply } in jobs {
            let outcome = self.compile(digest, &bytes).map_err(|failed| {
                locked(&self.shared.refused).remember(digest, &failed);
                failed.refusal
            });
            // Who asked may have given up.
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
            Compiling::Here => {
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

/// The refusal of a component that the compiler does not take.
fn uncompiled(reason: &str) -> Refusal {
    Refusal::new(
        Reason::Compile,
        format!("it cannot be compiled: {reason}"),
        "build it again with a current toolchain",
    )
}
