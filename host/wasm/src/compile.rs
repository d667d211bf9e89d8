//! Compilation, on one thread of low priority: a plugin that takes seconds to compile takes them from nobody.
//!
//! Where all cores are busy, the thread has its slice of some milliseconds in turn, and whoever waits for the core meanwhile
//! waits for that. How much that is could not be told on two shared cores that serve, ask and answer as well, where the p99
//! moves by several times by itself: swapped each half second, 2.3 ms without swaps, 2.1 with swaps to code that was compiled
//! before, 2.3 with swaps that compile (four rounds of three seconds, four clients in closed loops); under half load in an
//! open loop 0.6 to 5.5 times the time before, and 1.2 to 12 times on another day. Tried without a difference that could be told:
//! `SCHED_BATCH`, a short slice, and `SCHED_IDLE`, whose weight is a fifth, so that a swap takes five times as long where no
//! core is idle. Untried: to compile only the functions that have changed since the last version (wasmtime's incremental
//! cache), which would keep their code in memory for that.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use wasmtime::component::Component;

use crate::cache::Cache;
use crate::engine::Engine;

/// Niceness of the thread: it gets what the others leave.
const NICE: i32 = 19;

/// Compiled code, shared by all bindings of a file and gone with the last of them.
pub(crate) struct Compiled(pub(crate) Component);

/// The thread that compiles.
pub(crate) struct Compiler(SyncSender<Job>);

/// Components that may wait for the thread; whoever brings one more waits with it.
const QUEUE: usize = 16;

struct Job {
    digest: [u8; 32],
    bytes: Vec<u8>,
    reply: SyncSender<wasmtime::Result<Arc<Compiled>>>,
}

impl Compiler {
    /// Starts the thread. It ends with this handle.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub(crate) fn start(engine: Arc<Engine>, cache: Option<Cache>) -> std::io::Result<Self> {
        let (sender, jobs) = sync_channel(QUEUE);
        let bench = Bench { engine, cache, known: Mutex::default() };
        thread::Builder::new().name("witgate-compile".into()).spawn(move || bench.work(&jobs))?;
        Ok(Compiler(sender))
    }

    /// Compiles a component, unless its code is in use or in the cache. Waits for it: never on the data path.
    ///
    /// # Errors
    /// The component cannot be compiled.
    pub(crate) fn compile(&self, digest: [u8; 32], bytes: &[u8]) -> wasmtime::Result<Arc<Compiled>> {
        let gone = || wasmtime::Error::msg("the compiler has stopped");
        let (reply, answer) = sync_channel(1);
        self.0.send(Job { digest, bytes: bytes.to_vec(), reply }).map_err(|_| gone())?;
        answer.recv().map_err(|_| gone())?
    }
}

struct Bench {
    engine: Arc<Engine>,
    cache: Option<Cache>,
    known: Mutex<HashMap<[u8; 32], Weak<Compiled>>>,
}

impl Bench {
    fn work(&self, jobs: &Receiver<Job>) {
        // A system that refuses keeps the usual priority, which is slower for others but not wrong.
        let _refused = rustix::process::nice(NICE);
        for Job { digest, bytes, reply } in jobs {
            // Who asked may have given up.
            let _unheard = reply.send(self.compile(digest, &bytes));
        }
    }

    fn compile(&self, digest: [u8; 32], bytes: &[u8]) -> wasmtime::Result<Arc<Compiled>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, code| code.strong_count() > 0);
        if let Some(code) = known.get(&digest).and_then(Weak::upgrade) {
            return Ok(code);
        }
        let engine = &self.engine.wasmtime;
        let component = match self.cache.as_ref().and_then(|cache| cache.load(engine, &digest)) {
            Some(component) => component,
            None => {
                let component = Component::new(engine, bytes)?;
                if let Some(cache) = &self.cache {
                    cache.store(engine, &digest, &component);
                }
                component
            }
        };
        let code = Arc::new(Compiled(component));
        known.insert(digest, Arc::downgrade(&code));
        Ok(code)
    }
}
