//! What a guest waits for, on its way to its caller.
//!
//! A guest that waits runs on a stack of its own, but what it waits for belongs to the core: it uses that core's connections,
//! and is not sent to another thread. So a host function only puts a job into the mailbox of its instance and waits for the
//! reply; the caller of the guest takes the job out and drives it beside the guest. Dropping the call drops both.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::LocalBoxFuture;
use witgate_proxy::contracts::Fetch;

/// Begins what a guest waits for, on the core that drives it. The reply goes to the guest by a channel of the job's own.
pub(crate) type Job = Box<dyn for<'a> FnOnce(&'a dyn Fetch) -> LocalBoxFuture<'a, ()> + Send>;

/// Where the guest leaves a job for its caller. A guest has one at a time, because it waits for the reply.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Option<Job>>>);

impl Mailbox {
    /// Leaves a job.
    pub(crate) fn put(&self, job: Job) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }

    /// Takes the job out, or drops one that nobody took.
    pub(crate) fn take(&self) -> Option<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
