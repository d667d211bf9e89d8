//! Threads for calls that no request waits for: `observe` and `tick`.
//!
//! Each binding in service that exports one of them has a thread for it, with a runtime of its own, over which its fetches go, and
//! with instances of its own, so that requests never wait for it. Its priority is low: on a busy machine, requests go first.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::task::LocalSet;
use witgate_exchange::contracts::{Fetch, Observer};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::trace::TraceContext;

use crate::observing::{Observed, Queues};
use crate::plugin::Loaded;
use crate::runtime::CurrentUpstreams;
use crate::ticking::Ticking;

/// What is added to the niceness of a thread: it gets about a tenth of the time of one that serves requests, if both want all.
const NICENESS: i32 = 10;

thread_local! {
    static IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread makes calls that no request waits for.
pub(crate) fn is_background() -> bool {
    IN_BACKGROUND.get()
}

/// Gives the calling thread a low priority. On Linux, priorities belong to threads.
pub(crate) fn lower_priority() {
    // Without it, the thread only takes more time from others.
    let _same_as_before = setpriority_process(Some(gettid()), NICENESS);
}

/// Runs some work to its end on a thread of its own.
///
/// # Errors
/// The operating system gives no thread, or no epoll descriptor.
pub(crate) fn start<F: Future<Output = ()>>(
    name: &str,
    work: impl FnOnce() -> F + Send + 'static,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        lower_priority();
        IN_BACKGROUND.set(true);
        LocalSet::new().block_on(&runtime, work());
    })?;
    Ok(())
}

/// What a binding in service needs for its calls in the background.
pub(crate) struct Background {
    /// Time between two calls of `tick`.
    pub(crate) interval: Duration,
    /// The queues of all bindings.
    pub(crate) queues: Arc<Queues>,
    current: CurrentUpstreams,
    /// The queue of finished exchanges, while somebody keeps it.
    observed: Mutex<Weak<Observed>>,
    ticking: Mutex<Option<Ticking>>,
}

impl Background {
    pub(crate) fn new(interval: Duration, queues: Arc<Queues>, current: CurrentUpstreams) -> Background {
        Background { interval, queues, current, observed: Mutex::default(), ticking: Mutex::default() }
    }

    /// Where outbound requests of a call go that begins now.
    pub(crate) fn upstreams(&self) -> Arc<dyn Fetch> {
        (self.current)().unwrap_or_else(|| Arc::new(NoUpstreams))
    }

    /// The queue of finished exchanges: the one that is kept already, or a new one with its thread.
    pub(crate) fn observer(&self, loaded: &Arc<Loaded>) -> Option<Arc<dyn Observer>> {
        let mut kept = self.observed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(observed) = kept.upgrade() {
            return Some(observed);
        }
        let observed = Observed::start(loaded)?;
        *kept = Arc::downgrade(&observed);
        Some(observed)
    }

    /// Starts or stops the clock of `tick`.
    pub(crate) fn tick(&self, loaded: &Arc<Loaded>, is_in_service: bool) {
        let mut ticking = self.ticking.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_in_service {
            *ticking = None;
        } else if ticking.is_none() {
            *ticking = Ticking::start(loaded);
        }
    }
}

/// Where requests go while nothing is in service: nowhere.
struct NoUpstreams;

impl Fetch for NoUpstreams {
    fn fetch<'a>(
        &'a self,
        _upstream: &'a str,
        _request: Request<Bytes>,
        _trace: Option<&'a TraceContext>,
        _timeout: Option<Duration>,
        _limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        Box::pin(async { Err(Fault::new(FaultKind::NoEndpoint)) })
    }
}
