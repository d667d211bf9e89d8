//! The data of one store: the call under way, and what remains of its budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_proxy::contracts::{CallFailure, ResponseHead};
use witgate_proxy::head::RequestHead;

use crate::budget::{Killed, Space, Stopwatch};
use crate::imports::crypto::LastKey;
use crate::imports::mailbox::Mailbox;
use crate::imports::wasi::Output;
use crate::input_tracker::{InputTracker, Mark};
use crate::rights::Rights;

/// What host functions see while a guest runs.
pub(crate) struct HostState {
    /// What the binding may do.
    pub(crate) rights: Arc<Rights>,
    /// Memory and tables.
    pub(crate) space: Space,
    /// CPU and wall time.
    pub(crate) stopwatch: Stopwatch,
    /// What the call did.
    pub(crate) tracker: InputTracker,
    /// Host calls the call may still make.
    host_calls: u32,
    /// The request of the call under way.
    request: Option<Arc<RequestHead>>,
    /// The response of the call under way.
    response: Option<Arc<ResponseHead>>,
    /// Where the caller takes up what the guest waits for.
    pub(crate) mailbox: Mailbox,
    /// What the guest has printed of a line.
    pub(crate) output: Output,
    /// The HMAC key that it used last.
    pub(crate) last_key: Option<Box<LastKey>>,
}

impl HostState {
    /// The state of a new instance.
    pub(crate) fn new(rights: Arc<Rights>, stopwatch: Stopwatch, mailbox: Mailbox) -> Self {
        HostState {
            space: Space::new(&rights.budget),
            stopwatch,
            tracker: InputTracker::default(),
            host_calls: 0,
            request: None,
            response: None,
            mailbox,
            output: Output::default(),
            last_key: None,
            rights,
        }
    }

    /// A call begins now: its budget is whole, its request is the one the guest may look at.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        request: Arc<RequestHead>,
        response: Option<Arc<ResponseHead>>,
    ) {
        self.tracker.begin();
        self.host_calls = self.rights.budget.host_calls;
        self.request = Some(request);
        self.response = response;
        self.stopwatch.begin(now, self.rights.budget.cpu, self.rights.budget.wall);
    }

    /// The instance is being set up, without a request and with time of its own.
    pub(crate) fn begin_setup(&mut self, time: Duration) {
        self.host_calls = self.rights.budget.host_calls;
        self.stopwatch.begin(Instant::now(), time, time);
    }

    /// A call is over: nothing of its request stays.
    pub(crate) fn end(&mut self) {
        self.request = None;
        self.response = None;
        // Only `fetch` and a store that waits leave a job there, and emptying it takes a lock.
        if self.tracker.is_marked(Mark::Fetch)
            || self.tracker.is_marked(Mark::Store) && self.rights.store_waits()
        {
            drop(self.mailbox.take());
        }
    }

    /// Writes what the guest has printed of a line it will not end.
    pub(crate) fn flush_output(&mut self) {
        self.output.flush(&self.rights);
    }

    /// Counts a host call that leaves a mark.
    ///
    /// # Errors
    /// As [`HostState::charge`].
    pub(crate) fn marked(&mut self, mark: Mark) -> wasmtime::Result<()> {
        self.tracker.mark(mark);
        self.charge()
    }

    /// Counts a host call.
    ///
    /// # Errors
    /// The call has made as many as it may.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        match self.host_calls.checked_sub(1) {
            Some(left) => {
                self.host_calls = left;
                Ok(())
            }
            None => Err(wasmtime::Error::new(Killed(CallFailure::HostCalls))),
        }
    }

    /// The request of the call, of which a part is looked at; charged as a host call.
    ///
    /// # Errors
    /// No host calls are left, or there is no request (the plugin is being configured).
    pub(crate) fn look(&mut self, part: Mark) -> wasmtime::Result<&Arc<RequestHead>> {
        self.tracker.mark(part);
        self.request()
    }

    /// The request of the call, charged as a host call. The caller says what is looked at.
    ///
    /// # Errors
    /// As [`HostState::look`].
    pub(crate) fn request(&mut self) -> wasmtime::Result<&Arc<RequestHead>> {
        self.charge()?;
        self.request.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no request outside of a call"))
    }

    /// The head of the request of the call under way, free of charge; none while the plugin is being set up.
    pub(crate) fn head(&self) -> Option<&Arc<RequestHead>> {
        self.request.as_ref()
    }

    /// The response of the call, charged as a host call.
    ///
    /// # Errors
    /// As [`HostState::look`].
    pub(crate) fn response(&mut self) -> wasmtime::Result<&Arc<ResponseHead>> {
        self.charge()?;
        self.response.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no response in this call"))
    }
}
