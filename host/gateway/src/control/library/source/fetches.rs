//! Fetching the bytes of plugins, each on a thread of its own.
//!
//! A load waits for its fetches until a deadline, or until another load is requested and the source has had a
//! second. A fetch that is abandoned in this way goes on. Until it ends, the same source is not fetched again, so
//! that a source that hangs occupies one thread however many loads follow. If a version of the plugin is in
//! service, a load does not wait for a fetch that an earlier load has begun. When an abandoned fetch ends, another
//! load is requested, which uses its result unless there was a load in between.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PluginSource;

/// The longest time, from the beginning of a fetch, for which a load waits.
const DEADLINE: Duration = Duration::from_secs(30);

/// Time that every fetch has, even if another load is requested. A source that responds within this time is never
/// abandoned, so a load then uses what the source had when the load was requested, or later.
const PATIENCE: Duration = Duration::from_secs(1);

/// The result of a fetch; the error is the end of a sentence that begins with the name of the source.
type Fetched = Result<Arc<Vec<u8>>, String>;

/// Called with the name of a source whose abandoned fetch has ended.
type OnLate = Box<dyn Fn(&str) + Send + Sync>;

/// The fetches in progress. Clones share them.
#[derive(Clone)]
pub(crate) struct Fetches {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// Notified when a fetch has ended, or when the load is to stop waiting.
    changed: Condvar,
    on_late: OnLate,
}

#[derive(Default)]
struct State {
    /// Fetches by the name of their source.
    under_way: HashMap<String, UnderWay>,
    /// The number of the load in progress.
    load: u64,
    /// Whether the load in progress is to stop waiting.
    interrupt: bool,
    /// Whether the load has stopped waiting for a fetch because of `interrupt`.
    was_interrupted: bool,
}

/// One fetch.
struct UnderWay {
    begun: Instant,
    /// The number of the load that began this fetch.
    load: u64,
    /// The number of its handles.
    handles: usize,
    /// Whether a load has stopped waiting for this fetch. If so, its result is kept for the next load.
    abandoned: bool,
    /// Whether a kept result is dropped when the next load begins.
    offered: bool,
    fetched: Option<Fetched>,
}

impl Fetches {
    /// No fetches yet.
    pub(crate) fn new(on_late: impl Fn(&str) + Send + Sync + 'static) -> Fetches {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), on_late: Box::new(on_late) };
        Fetches { shared: Arc::new(shared), deadline: DEADLINE }
    }

    /// As [`new`](Fetches::new), with another deadline.
    #[cfg(test)]
    pub(crate) fn with_deadline(self, deadline: Duration) -> Fetches {
        Fetches { deadline, ..self }
    }

    /// Notes that another load begins.
    pub(crate) fn begin_load(&self) {
        let mut state = self.shared.lock();
        state.load += 1;
        state.interrupt = false;
        state.was_interrupted = false;
        state.under_way.retain(|_, fetch| {
            let ended = fetch.fetched.is_some() && fetch.handles == 0;
            !(ended && std::mem::replace(&mut fetch.offered, true))
        });
    }

    /// Makes the load in progress stop waiting, because another load is requested.
    pub(crate) fn interrupt(&self) {
        self.shared.lock().interrupt = true;
        self.shared.changed.notify_all();
    }

    /// Whether the load in progress has stopped waiting for that reason, so that its result is incomplete.
    pub(crate) fn was_interrupted(&self) -> bool {
        self.shared.lock().was_interrupted
    }

    /// Begins a fetch, unless the same source is already being fetched.
    pub(crate) fn begin(&self, source: &Arc<dyn PluginSource>) -> FetchHandle {
        let name = source.name();
        let mut state = self.shared.lock();
        let load = state.load;
        // A kept result is used only by the load after the one that began its fetch: what changed at the source
        // since then may be the reason for this load.
        let is_current =
            |fetch: &UnderWay| fetch.fetched.is_none() || fetch.handles > 0 || fetch.load + 1 >= load;
        if !state.under_way.get(&name).is_none_or(is_current) {
            state.under_way.remove(&name);
        }
        let known = state.under_way.get_mut(&name).map(|known| known.handles += 1).is_some();
        if !known {
            let begun = Instant::now();
            let fetch = UnderWay { begun, load, handles: 1, abandoned: false, offered: false, fetched: None };
            state.under_way.insert(name.clone(), fetch);
        }
        drop(state);
        let handle = FetchHandle { fetches: self.clone(), name };
        if !known {
            let (source, shared, name) = (Arc::clone(source), Arc::clone(&self.shared), handle.name.clone());
            let fetch = move || {
                // The message of the panic was written to standard error.
                let fetched = catch_unwind(AssertUnwindSafe(|| source.fetch())).unwrap_or_else(|_| {
                    Err("could not be fetched because of a panic of the gateway".to_owned())
                });
                shared.end(&name, fetched.map(Arc::new));
            };
            if let Err(error) = std::thread::Builder::new().name("witgate-fetch".to_owned()).spawn(fetch) {
                self.shared.end(&handle.name, Err(format!("cannot be fetched: {error}")));
            }
        }
        handle
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, name: &str, fetched: Fetched) {
        let mut state = self.lock();
        let Some(fetch) = state.under_way.get_mut(name) else { return };
        let abandoned = fetch.abandoned;
        if abandoned || fetch.handles > 0 {
            fetch.fetched = Some(fetched);
        } else {
            state.under_way.remove(name);
        }
        drop(state);
        self.changed.notify_all();
        if abandoned {
            (self.on_late)(name);
        }
    }
}

/// The right to the result of one fetch.
pub(crate) struct FetchHandle {
    fetches: Fetches,
    name: String,
}

impl FetchHandle {
    /// Waits for the result. `needed` is false if a version of the plugin is in service; then a fetch that an
    /// earlier load has begun is not waited for.
    ///
    /// # Errors
    /// The error of the source, or a message that it has not responded in time.
    pub(crate) fn wait(&self, needed: bool) -> Fetched {
        let Fetches { shared, deadline } = &self.fetches;
        let mut state = shared.lock();
        loop {
            let (load, interrupt) = (state.load, state.interrupt);
            let Some(fetch) = state.under_way.get_mut(&self.name) else {
                return Err("has not answered".to_owned());
            };
            if let Some(fetched) = &fetch.fetched {
                return fetched.clone();
            }
            let waited = fetch.begun.elapsed();
            let left = deadline.saturating_sub(waited);
            let is_of_earlier_load = fetch.load < load && !needed;
            let patience = match interrupt || is_of_earlier_load {
                true => left.min(PATIENCE.saturating_sub(waited)),
                false => left,
            };
            if patience.is_zero() {
                fetch.abandoned = true;
                state.was_interrupted |= interrupt && !left.is_zero() && !is_of_earlier_load;
                return Err(format!(
                    "has not answered for {waited:.1?}; a reload waits at most {deadline:?}"
                ));
            }
            state = shared.changed.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for FetchHandle {
    fn drop(&mut self) {
        let mut state = self.fetches.shared.lock();
        let Some(fetch) = state.under_way.get_mut(&self.name) else { return };
        fetch.handles -= 1;
        if fetch.handles == 0 && fetch.fetched.is_some() {
            state.under_way.remove(&self.name);
        }
    }
}
