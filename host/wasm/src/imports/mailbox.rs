//! The mailbox by which a guest hands what it waits for to its caller.
//!
//! A guest that waits runs on a stack of its own, but an outbound exchange or an operation of a store uses the connections of
//! the core and must run on it. So the host function only puts a job into the mailbox and waits for the reply; the caller of the
//! guest takes the job out and polls it together with the guest. Dropping the call drops both.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::LocalBoxFuture;
use witgate_exchange::contracts::Fetch;

/// Starts what a guest waits for, on the core of the caller. The job sends its reply by a channel of its own.
pub(crate) type Job = Box<dyn for<'a> FnOnce(&'a dyn Fetch) -> LocalBoxFuture<'a, ()> + Send>;

/// Where the guest leaves a job for its caller. It holds at most one job, because the guest waits for the reply.
#[derive(Clone, Default)]
pub(crate) struct Mailbox(Arc<Mutex<Option<Job>>>);

impl Mailbox {
    /// Leaves a job.
    pub(crate) fn put(&self, job: Job) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(job);
    }

    /// Takes the job out.
    pub(crate) fn take(&self) -> Option<Job> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
