//! The limit on connections of an upstream, and the queue of requests that wait for one, over all cores.
//!
//! A connection cannot move to another core, but the permit to have one can. When the limit is reached:
//!
//! - a request waits in one queue for all cores, oldest first, and asks every core to close an idle connection;
//! - a connection that becomes free goes to the oldest waiter of its own core and endpoint, or is closed so that
//!   the oldest waiter of all may open one.
//!
//! Closing a connection is expensive, so a waiter of the same core may overtake one of another core, but only
//! [`OVERTAKES`] times in a row and only while the other has waited for less than a quarter of its timeout. Thus
//! no core starves.
//!
//! The lock is taken when a connection is opened or closed, and while requests wait. A request that finds an idle
//! connection does not take it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::endpoint::Endpoint;

/// How often in a row a connection stays on its core while a request of another core waits.
const OVERTAKES: u32 = 16;

/// The next number of a waiter. Numbers are unique in the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The connections of one upstream. Carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Limit {
    state: Mutex<State>,
    waiting: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    open: usize,
    queue: VecDeque<QueueEntry>,
    /// Cores that have had connections, and therefore may have idle ones.
    cores: Vec<Arc<Core>>,
}

/// A core, as other cores see it.
#[derive(Debug, Default)]
pub(crate) struct Core {
    /// Notified when an idle connection should be closed.
    pub(crate) close_idle: Notify,
}

#[derive(Debug)]
struct QueueEntry {
    id: u64,
    core: Arc<Core>,
    endpoint: Arc<Endpoint>,
    cap: usize,
    since: Instant,
    patience: Duration,
    grant: oneshot::Sender<Grant>,
}

/// What a waiter gets.
#[derive(Debug)]
pub(crate) enum Grant {
    /// A permit to open a connection.
    Permit(Permit),
    /// A connection of its own core is reserved for it, under its number.
    Reserved,
}

/// The right to have one connection open. The socket holds it.
#[derive(Debug)]
pub(crate) struct Permit {
    limit: Arc<Limit>,
    endpoint: Arc<Endpoint>,
}

/// A request that waits in the queue.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) id: u64,
    pub(crate) grant: oneshot::Receiver<Grant>,
    limit: Arc<Limit>,
}

/// The result for a request that found no idle connection.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// A permit to open one.
    Permit(Permit),
    /// The request must wait.
    Queued(Waiter),
    /// Too many requests wait already.
    Full,
}

/// What a request asks for.
pub(crate) struct Acquire<'a> {
    pub(crate) endpoint: &'a Arc<Endpoint>,
    pub(crate) core: &'a Arc<Core>,
    /// The most connections at the same time; 0: unlimited.
    pub(crate) cap: usize,
    pub(crate) max_pending: usize,
    pub(crate) patience: Duration,
}

/// What happens to a connection that becomes free while requests wait.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// No request waits for it.
    Keep,
    /// It goes to the waiter with this number.
    HandOver(u64),
    /// A request of another core or endpoint needs its permit.
    Close,
}

impl Limit {
    /// The number of waiters, over all cores.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// Asks for a permit to open a connection.
    pub(crate) fn ask(self: &Arc<Self>, acquire: &Acquire<'_>) -> Acquired {
        let mut state = self.lock();
        if !state.cores.iter().any(|core| Arc::ptr_eq(core, acquire.core)) {
            state.cores.push(acquire.core.clone());
        }
        // Earlier waiters come first, or a stream of new requests could starve them.
        if acquire.cap == 0 || (state.open < acquire.cap && state.queue.is_empty()) {
            state.open += 1;
            return Acquired::Permit(self.permit(acquire.endpoint));
        }
        if state.queue.len() >= acquire.max_pending {
            return Acquired::Full;
        }
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let (sender, grant) = oneshot::channel();
        state.queue.push_back(QueueEntry {
            id,
            core: acquire.core.clone(),
            endpoint: acquire.endpoint.clone(),
            cap: acquire.cap,
            since: Instant::now(),
            patience: acquire.patience,
            grant: sender,
        });
        self.count(&state);
        let cores = state.cores.clone();
        drop(state);
        cores.iter().for_each(|core| core.close_idle.notify_one());
        Acquired::Queued(Waiter { id, grant, limit: self.clone() })
    }

    /// Decides what happens to a connection that is free. `overtakes` counts how often in a row it has stayed on
    /// its core.
    pub(crate) fn next(&self, core: &Arc<Core>, endpoint: u64, overtakes: &mut u32) -> Next {
        if self.waiting() == 0 {
            *overtakes = 0;
            return Next::Keep;
        }
        let mut state = self.lock();
        let Some(first) = state.queue.front() else { return Next::Keep };
        let fits = |waiting: &QueueEntry| Arc::ptr_eq(&waiting.core, core) && waiting.endpoint.id == endpoint;
        let overdue = first.since.elapsed() >= first.patience / 4 || *overtakes >= OVERTAKES;
        let index = match fits(first) {
            true => Some(0),
            false if overdue => None,
            false => state.queue.iter().position(fits),
        };
        let Some(waiting) = index.and_then(|index| state.queue.remove(index)) else { return Next::Close };
        *overtakes = if index == Some(0) { 0 } else { *overtakes + 1 };
        self.count(&state);
        drop(state);
        let id = waiting.id;
        // The receiver is on this core and leaves the queue before it is dropped, so it exists.
        match waiting.grant.send(Grant::Reserved) {
            Ok(()) => Next::HandOver(id),
            Err(_) => Next::Close,
        }
    }

    /// Wakes every core to close connections of endpoints that have left their set.
    pub(crate) fn ring_cores(&self) {
        let cores = self.lock().cores.clone();
        cores.iter().for_each(|core| core.close_idle.notify_one());
    }

    /// The number of open connections, over all cores.
    pub(crate) fn open(&self) -> usize {
        self.lock().open
    }

    /// Gives the available permits to the oldest waiters.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut served = Vec::new();
        loop {
            let open = state.open;
            let first = state.queue.pop_front_if(|first| first.cap == 0 || open < first.cap);
            let Some(first) = first else { break };
            state.open += 1;
            served.push(first);
        }
        self.count(&state);
        drop(state);
        for waiting in served {
            // If the request has just been dropped, its permit is dropped and goes to the next waiter.
            let _ = waiting.grant.send(Grant::Permit(self.permit(&waiting.endpoint)));
        }
    }

    fn permit(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> Permit {
        endpoint.connections.fetch_add(1, Ordering::Relaxed);
        Permit { limit: self.clone(), endpoint: endpoint.clone() }
    }

    fn count(&self, state: &State) {
        self.waiting.store(state.queue.len(), Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.endpoint.connections.fetch_sub(1, Ordering::Relaxed);
        let mut state = self.limit.lock();
        state.open -= 1;
        self.limit.serve(state);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut state = self.limit.lock();
        if let Some(index) = state.queue.iter().position(|waiting| waiting.id == self.id) {
            state.queue.remove(index);
            // It may have been the first waiter, and the next may have a larger limit.
            self.limit.serve(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn endpoint() -> Arc<Endpoint> {
        Arc::new(Endpoint::new("a.example", 80, false, None).unwrap())
    }

    fn ask(limit: &Arc<Limit>, core: &Arc<Core>, endpoint: &Arc<Endpoint>, cap: usize) -> Acquired {
        limit.ask(&Acquire { endpoint, core, cap, max_pending: 100, patience: Duration::from_secs(60) })
    }

    fn permit(asked: Acquired) -> Permit {
        match asked {
            Acquired::Permit(permit) => permit,
            asked => panic!("{asked:?}"),
        }
    }

    fn wait(asked: Acquired) -> Waiter {
        match asked {
            Acquired::Queued(place) => place,
            asked => panic!("{asked:?}"),
        }
    }

    #[test]
    fn permits_go_to_the_oldest_and_those_of_the_gone_to_the_next() {
        let (limit, core, endpoint) = (Arc::<Limit>::default(), Arc::<Core>::default(), endpoint());
        let first = permit(ask(&limit, &core, &endpoint, 1));
        let gone = wait(ask(&limit, &core, &endpoint, 1));
        let mut granted_but_gone = wait(ask(&limit, &core, &endpoint, 1));
        let mut last = wait(ask(&limit, &core, &endpoint, 1));
        drop(gone);
        drop(first);
        assert_eq!((limit.open(), limit.waiting()), (1, 1));
        assert!(last.grant.try_recv().is_err());
        assert!(granted_but_gone.grant.try_recv().is_ok_and(|grant| matches!(grant, Grant::Permit(_))));
        let permit = last.grant.try_recv().unwrap();
        assert_eq!((limit.open(), limit.waiting()), (1, 0));
        drop(permit);
        assert_eq!(limit.open(), 0);
    }

    #[test]
    fn who_was_content_with_more_goes_on_when_the_first_gives_up() {
        let (limit, core, endpoint) = (Arc::<Limit>::default(), Arc::<Core>::default(), endpoint());
        let _open = permit(ask(&limit, &core, &endpoint, 1));
        let content_with_one = wait(ask(&limit, &core, &endpoint, 1));
        let mut content_with_two = wait(ask(&limit, &core, &endpoint, 2));
        drop(content_with_one);
        assert!(content_with_two.grant.try_recv().is_ok());
    }

    #[test]
    fn a_core_may_overtake_another_only_so_often() {
        let (limit, endpoint) = (Arc::<Limit>::default(), endpoint());
        let [here, there] = [Arc::<Core>::default(), Arc::default()];
        let _open = permit(ask(&limit, &here, &endpoint, 1));
        let _first = wait(ask(&limit, &there, &endpoint, 1));
        let mut overtakes = 0;
        let mut permits = Vec::new();
        for _ in 0..OVERTAKES {
            let place = wait(ask(&limit, &here, &endpoint, 1));
            assert_eq!(limit.next(&here, endpoint.id, &mut overtakes), Next::HandOver(place.id));
            permits.push(place);
        }
        let _next = wait(ask(&limit, &here, &endpoint, 1));
        assert_eq!(limit.next(&here, endpoint.id, &mut overtakes), Next::Close);
    }

    #[test]
    fn a_connection_of_another_endpoint_is_closed_for_those_who_wait() {
        let (limit, core) = (Arc::<Limit>::default(), Arc::<Core>::default());
        let [one, other] = [endpoint(), endpoint()];
        let _open = permit(ask(&limit, &core, &one, 1));
        let _waits = wait(ask(&limit, &core, &other, 1));
        assert_eq!(limit.next(&core, one.id, &mut 0), Next::Close);
    }

    #[test]
    fn the_cap_holds_whatever_threads_do() {
        let (limit, endpoint) = (Arc::<Limit>::default(), endpoint());
        let over = Arc::new(AtomicBool::new(false));
        let open = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (limit, endpoint, over, open) =
                    (limit.clone(), endpoint.clone(), over.clone(), open.clone());
                std::thread::spawn(move || {
                    let core = Arc::<Core>::default();
                    for _ in 0..2000 {
                        let permit = match ask(&limit, &core, &endpoint, 2) {
                            Acquired::Permit(permit) => Grant::Permit(permit),
                            Acquired::Queued(mut place) => crate::testing::run(&mut place.grant).unwrap(),
                            Acquired::Full => panic!("there is room for four"),
                        };
                        over.fetch_or(open.fetch_add(1, Ordering::SeqCst) >= 2, Ordering::SeqCst);
                        open.fetch_sub(1, Ordering::SeqCst);
                        drop(permit);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!over.load(Ordering::SeqCst));
        assert_eq!((limit.open(), limit.waiting()), (0, 0));
    }
}
