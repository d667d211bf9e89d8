//! Fetching the bytes of plugins, each on a thread of its own.
//!
//! A load waits for what it has begun to fetch until a deadline, and stops waiting when another load is asked for. A fetch that
//! nobody waits for any more goes on; while it does, the same source is not asked again, so that a source that hangs takes one
//! thread however many loads come. A load that has a version in service does not wait for a fetch that an earlier load gave
//! up. When such a fetch ends, another load is asked for, and what came late is for that load.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::PluginSource;

/// How long a load waits for a source.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a source brought.
type Fetched = Result<Arc<Vec<u8>>, String>;

/// Told the name of a source that has answered after it was given up.
type OnLate = Box<dyn Fn(&str) + Send + Sync>;

/// The fetches under way. A clone is the same ones.
#[derive(Clone)]
pub(crate) struct Fetches {
    shared: Arc<Shared>,
    deadline: Duration,
}

struct Shared {
    state: Mutex<State>,
    /// A fetch has ended, or a load is to hurry.
    changed: Condvar,
    on_late: OnLate,
}

#[derive(Default)]
struct State {
    /// By name of the source.
    under_way: HashMap<String, UnderWay>,
    /// Which load is under way; counts up.
    load: u64,
    /// Whether it is to wait for no source any more.
    hurries: bool,
    /// Whether it has stopped waiting for a source for that reason.
    was_cut: bool,
}

/// One fetch.
struct UnderWay {
    begun: Instant,
    /// The load that began it.
    load: u64,
    /// Those who wait for it, or will.
    tickets: usize,
    /// Whether anybody has given it up. Then what it brings is kept for the next load.
    late: bool,
    /// Whether what it brought is for the load under way, and for none after it.
    offered: bool,
    fetched: Option<Fetched>,
}

impl Fetches {
    /// None yet.
    pub(crate) fn new(on_late: impl Fn(&str) + Send + Sync + 'static) -> Fetches {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new(), on_late: Box::new(on_late) };
        Fetches { shared: Arc::new(shared), deadline: DEADLINE }
    }

    /// The same with another deadline.
    #[cfg(test)]
    pub(crate) fn with_deadline(self, deadline: Duration) -> Fetches {
        Fetches { deadline, ..self }
    }

    /// Another load begins.
    pub(crate) fn begin_load(&self) {
        let mut state = self.shared.lock();
        state.load += 1;
        state.hurries = false;
        state.was_cut = false;
        state.under_way.retain(|_, fetch| {
            let ended = fetch.fetched.is_some() && fetch.tickets == 0;
            !(ended && std::mem::replace(&mut fetch.offered, true))
        });
    }

    /// Another load waits for the one under way, which is to wait for no source any more.
    pub(crate) fn hurry(&self) {
        self.shared.lock().hurries = true;
        self.shared.changed.notify_all();
    }

    /// Whether the load under way has stopped waiting because it was to hurry: what it came to is not what it was asked for.
    pub(crate) fn was_cut(&self) -> bool {
        self.shared.lock().was_cut
    }

    /// Begins to fetch, if the source is not being asked already.
    pub(crate) fn begin(&self, source: &Arc<dyn PluginSource>) -> Ticket {
        let name = source.name();
        let mut state = self.shared.lock();
        let load = state.load;
        let known = state.under_way.get_mut(&name).map(|known| known.tickets += 1).is_some();
        if !known {
            let begun = Instant::now();
            let fetch = UnderWay { begun, load, tickets: 1, late: false, offered: false, fetched: None };
            state.under_way.insert(name.clone(), fetch);
        }
        drop(state);
        let ticket = Ticket { fetches: self.clone(), name };
        if !known {
            let (source, shared, name) = (Arc::clone(source), Arc::clone(&self.shared), ticket.name.clone());
            let fetch = move || {
                // A fault of the gateway itself, of which standard error has told, is no answer.
                let fetched = catch_unwind(AssertUnwindSafe(|| source.fetch())).unwrap_or_else(|_| {
                    Err("could not be fetched by a fault of the gateway itself".to_owned())
                });
                shared.end(&name, fetched.map(Arc::new));
            };
            if let Err(error) = std::thread::Builder::new().name("witgate-fetch".to_owned()).spawn(fetch) {
                self.shared.end(&ticket.name, Err(format!("cannot be fetched: {error}")));
            }
        }
        ticket
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, name: &str, fetched: Fetched) {
        let mut state = self.lock();
        let Some(fetch) = state.under_way.get_mut(name) else { return };
        let late = fetch.late;
        if late || fetch.tickets > 0 {
            fetch.fetched = Some(fetched);
        } else {
            state.under_way.remove(name);
        }
        drop(state);
        self.changed.notify_all();
        if late {
            (self.on_late)(name);
        }
    }
}

/// A place to wait for a fetch.
pub(crate) struct Ticket {
    fetches: Fetches,
    name: String,
}

impl Ticket {
    /// What the source brought. If it is not `needed` because there is an earlier version to go on with, a fetch of an earlier
    /// load is not waited for.
    ///
    /// # Errors
    /// Why there is nothing, as the end of a sentence that begins with the name of the source.
    pub(crate) fn wait(&self, needed: bool) -> Fetched {
        let Fetches { shared, deadline } = &self.fetches;
        let mut state = shared.lock();
        loop {
            let (load, hurries) = (state.load, state.hurries);
            let Some(fetch) = state.under_way.get_mut(&self.name) else {
                return Err("has not answered".to_owned());
            };
            if let Some(fetched) = &fetch.fetched {
                return fetched.clone();
            }
            let waited = fetch.begun.elapsed();
            let left = deadline.saturating_sub(waited);
            let is_of_earlier_load = fetch.load < load && !needed;
            if left.is_zero() || hurries || is_of_earlier_load {
                fetch.late = true;
                state.was_cut |= hurries && !left.is_zero() && !is_of_earlier_load;
                return Err(format!(
                    "has not answered for {waited:.1?}; a reload waits at most {deadline:?}"
                ));
            }
            state = shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut state = self.fetches.shared.lock();
        let Some(fetch) = state.under_way.get_mut(&self.name) else { return };
        fetch.tickets -= 1;
        if fetch.tickets == 0 && fetch.fetched.is_some() {
            state.under_way.remove(&self.name);
        }
    }
}
