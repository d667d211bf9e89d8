//! Permits for requests in flight, over all cores, and the queue of requests that wait for one.
//!
//! An available permit is taken without a lock. The lock protects the queue, and is taken only while requests
//! wait.
//!
//! The queue considers deadlines: a request is refused as soon as there can be no response in time any more, that
//! is, when its deadline minus the expected latency has passed. Waiting requests hold no endpoint.
//!
//! Usually the oldest waiter is served first. Once the queue has not been empty for [`STANDING`], there is more
//! work than can be done, and the newest waiter is served first: it has the most time left, whereas the oldest,
//! and everyone after it, would get its response after its client has given up (adaptive LIFO; B. Maurer, "Fail at
//! Scale", ACM Queue 13(8), 2015).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use witgate_config::model;

use super::concurrency::{Concurrency, LimitChange};
use crate::time::{Clock, millis};

/// How long the queue may be non-empty before the newest waiter is served first.
const STANDING: Duration = Duration::from_millis(100);

/// The permits of one upstream. Carried over every reload by the upstream's name.
#[derive(Debug, Default)]
pub(crate) struct Permits {
    taken: AtomicUsize,
    waiting: AtomicUsize,
    /// The expected latency of a response in microseconds: a moving average.
    expected: AtomicU64,
    concurrency: Concurrency,
    clock: Clock,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    line: VecDeque<QueueEntry>,
    next: u64,
    /// Since when the queue has not been empty, in milliseconds of the clock.
    stands_since: u64,
}

#[derive(Debug)]
struct QueueEntry {
    id: u64,
    cap: Cap,
    grant: oneshot::Sender<Permit>,
}

/// The limits, according to the version of the configuration that the request uses.
#[derive(Debug, Clone, Copy)]
struct Cap {
    /// 0: unlimited.
    max_requests: usize,
    concurrency: Option<model::Concurrency>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acquire {
    /// The most requests in flight; 0: unlimited.
    pub(crate) max_requests: usize,
    /// Settings of the adaptive limit, if there is one.
    pub(crate) concurrency: Option<model::Concurrency>,
    pub(crate) max_pending: usize,
    pub(crate) deadline: Option<Instant>,
}

/// The result for a request.
#[derive(Debug)]
pub(crate) enum Acquired {
    /// A permit was available.
    Permit(Permit),
    /// The request must wait.
    Queued(Waiter),
    /// Too many requests wait already.
    Full,
    /// The request would have to wait, but its deadline is too near.
    Late,
}

/// The right to have one request in flight. Dropping it makes it available again.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Permits>);

/// A request that waits in the queue.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) grant: oneshot::Receiver<Permit>,
    id: u64,
    permits: Arc<Permits>,
}

impl Permits {
    /// The number of requests in flight, over all cores.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// The number of waiters, over all cores.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    /// The current adaptive limit.
    pub(crate) fn limit(&self, settings: &model::Concurrency) -> usize {
        self.concurrency.limit(settings)
    }

    /// Asks for a permit.
    pub(crate) fn ask(self: &Arc<Self>, acquire: &Acquire) -> Acquired {
        let cap = Cap { max_requests: acquire.max_requests, concurrency: acquire.concurrency };
        // Earlier waiters come first, or a stream of new requests could starve them.
        if self.waiting.load(Ordering::SeqCst) == 0 && self.take(cap) {
            return Acquired::Permit(Permit(self.clone()));
        }
        if self.is_late(acquire.deadline) {
            return Acquired::Late;
        }
        let mut queue = self.lock();
        if queue.line.len() >= acquire.max_pending {
            return Acquired::Full;
        }
        if queue.line.is_empty() {
            queue.stands_since = self.clock.now();
        }
        let id = queue.next;
        queue.next += 1;
        let (sender, grant) = oneshot::channel();
        queue.line.push_back(QueueEntry { id, cap, grant: sender });
        self.count(&queue);
        // A permit may have become available before this waiter was visible.
        self.serve(queue);
        Acquired::Queued(Waiter { grant, id, permits: self.clone() })
    }

    /// The latest time at which to send a request so that its response is expected before its deadline.
    pub(crate) fn latest_start(&self, deadline: Option<Instant>) -> Option<Instant> {
        let expected = Duration::from_micros(self.expected.load(Ordering::Acquire));
        deadline.map(|deadline| deadline.checked_sub(expected).unwrap_or(deadline))
    }

    /// Whether it is too late to send a request with this deadline.
    pub(crate) fn is_late(&self, deadline: Option<Instant>) -> bool {
        self.latest_start(deadline).is_some_and(|latest| latest <= Instant::now())
    }

    /// Records the latency of an attempt. `Some` if the adaptive limit has changed much by it.
    pub(crate) fn observe(
        self: &Arc<Self>,
        took: Duration,
        settings: Option<&model::Concurrency>,
    ) -> Option<LimitChange> {
        let took_micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / 8);
        let _ = self.expected.fetch_update(Ordering::AcqRel, Ordering::Acquire, |expected| {
            Some(if expected == 0 { took_micros } else { expected - expected / 8 + took_micros / 8 })
        });
        let settings = settings?;
        let before = self.limit(settings);
        let told = self.concurrency.observe(took, self.taken(), settings);
        if self.limit(settings) > before && self.waiting() > 0 {
            self.serve(self.lock());
        }
        told
    }

    fn take(&self, cap: Cap) -> bool {
        let unlimited = |limit: usize| if limit == 0 { usize::MAX } else { limit };
        let adaptive = cap.concurrency.map_or(usize::MAX, |settings| self.limit(&settings));
        let cap = unlimited(cap.max_requests).min(adaptive);
        let more = |taken| (taken < cap).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Gives the available permits to waiters.
    fn serve(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let mut served = Vec::new();
        let overdue = self.clock.now() >= queue.stands_since + millis(STANDING);
        while let Some(next) = if overdue { queue.line.back() } else { queue.line.front() } {
            if !self.take(next.cap) {
                break;
            }
            served.extend(if overdue { queue.line.pop_back() } else { queue.line.pop_front() });
        }
        self.count(&queue);
        drop(queue);
        for waiting in served {
            // If the request has just been dropped, its permit is dropped and goes to the next waiter.
            let _ = waiting.grant.send(Permit(self.clone()));
        }
    }

    fn count(&self, queue: &Queue) {
        self.waiting.store(queue.line.len(), Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::SeqCst);
        if self.0.waiting.load(Ordering::SeqCst) > 0 {
            self.0.serve(self.0.lock());
        }
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut queue = self.permits.lock();
        if let Some(index) = queue.line.iter().position(|waiting| waiting.id == self.id) {
            queue.line.remove(index);
            self.permits.count(&queue);
            // It may have been the next waiter, and the one after it may have a larger limit.
            self.permits.serve(queue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    fn permits() -> Arc<Permits> {
        Arc::new(Permits { clock: Clock::still(), ..Permits::default() })
    }

    fn acquire(max_requests: usize) -> Acquire {
        Acquire { max_requests, concurrency: None, max_pending: 100, deadline: None }
    }

    fn place(asked: Acquired) -> Permit {
        match asked {
            Acquired::Permit(place) => place,
            asked => panic!("{asked:?}"),
        }
    }

    fn wait(asked: Acquired) -> Waiter {
        match asked {
            Acquired::Queued(waiter) => waiter,
            asked => panic!("{asked:?}"),
        }
    }

    #[test]
    fn the_oldest_goes_first_until_the_queue_has_stood_for_long() {
        let permits = permits();
        let held = place(permits.ask(&acquire(1)));
        let mut waiters: Vec<Waiter> = (0..4).map(|_| wait(permits.ask(&acquire(1)))).collect();
        drop(held);
        let oldest = waiters[0].grant.try_recv().unwrap();
        permits.clock.pass(STANDING);
        drop(oldest);
        let newest = waiters[3].grant.try_recv().unwrap();
        drop(waiters.remove(1));
        assert_eq!((permits.taken(), permits.waiting()), (1, 1));
        drop(newest);
        drop(waiters[1].grant.try_recv().unwrap());
        assert_eq!((permits.taken(), permits.waiting()), (0, 0));
        let held = place(permits.ask(&acquire(1)));
        let mut waiters: Vec<Waiter> = (0..2).map(|_| wait(permits.ask(&acquire(1)))).collect();
        drop(held);
        assert!(waiters[0].grant.try_recv().is_ok(), "a new queue begins with the oldest again");
    }

    #[test]
    fn who_has_no_time_to_wait_is_told_so_but_takes_a_free_place() {
        let permits = permits();
        permits.observe(Duration::from_secs(60), None);
        let soon = Acquire { deadline: Some(Instant::now() + Duration::from_secs(30)), ..acquire(1) };
        let _held = place(permits.ask(&soon));
        assert!(matches!(permits.ask(&soon), Acquired::Late));
        let late = Acquire { deadline: Some(Instant::now() + Duration::from_secs(90)), ..acquire(1) };
        let _ticket = wait(permits.ask(&late));
        assert!(matches!(permits.ask(&Acquire { max_pending: 1, ..late }), Acquired::Full));
    }

    #[test]
    fn a_place_granted_to_one_who_is_gone_goes_to_the_next() {
        let permits = permits();
        let held = place(permits.ask(&acquire(1)));
        let granted = wait(permits.ask(&acquire(1)));
        let mut next = wait(permits.ask(&acquire(1)));
        drop(held);
        drop(granted);
        assert!(next.grant.try_recv().is_ok());
        assert_eq!((permits.taken(), permits.waiting()), (0, 0));
    }

    #[test]
    fn a_limit_that_grows_lets_those_in_who_wait() {
        let permits = permits();
        let settings = model::Concurrency {
            min: 1,
            max: 10,
            initial: 1,
            tolerance: 1.5,
            window: Duration::from_nanos(1),
        };
        let adaptive = Acquire { concurrency: Some(settings), ..acquire(0) };
        let _held = place(permits.ask(&adaptive));
        let mut waits = wait(permits.ask(&adaptive));
        for _ in 0..200 {
            permits.observe(Duration::from_millis(1), Some(&settings));
        }
        assert!(waits.grant.try_recv().is_ok());
    }

    #[test]
    fn the_cap_holds_whatever_threads_do() {
        let permits = permits();
        let (over, open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (permits, over, open) = (permits.clone(), over.clone(), open.clone());
                std::thread::spawn(move || {
                    for _ in 0..2000 {
                        let place = match permits.ask(&acquire(2)) {
                            Acquired::Permit(place) => place,
                            Acquired::Queued(mut waiter) => crate::testing::run(&mut waiter.grant).unwrap(),
                            asked => panic!("there is room for four: {asked:?}"),
                        };
                        over.fetch_or(open.fetch_add(1, Ordering::SeqCst) >= 2, Ordering::SeqCst);
                        open.fetch_sub(1, Ordering::SeqCst);
                        drop(place);
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        assert!(!over.load(Ordering::SeqCst));
        assert_eq!((permits.taken(), permits.waiting()), (0, 0));
    }
}
