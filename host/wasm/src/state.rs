//! The data of one store: the call in progress, and the rest of its budget.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use witgate_exchange::contracts::{CallFailure, ResponseHead};
use witgate_exchange::head::RequestHead;
use witgate_exchange::log_entry::LogEntry;
use witgate_exchange::notes::Left;

use crate::bindings::witgate::plugin::types::Response;
use crate::budget::{Killed, Space, Stopwatch};
use crate::imports::crypto::LastKey;
use crate::imports::mailbox::Mailbox;
use crate::imports::wasi::Output;
use crate::input_tracker::{InputTracker, Mark};
use crate::rights::Rights;

/// What a guest has printed must not be lost with its instance: the message of a panic while it is set up.
impl Drop for HostState {
    fn drop(&mut self) {
        self.flush_output();
    }
}

/// The state that host functions use while a guest runs.
pub(crate) struct HostState {
    /// The rights of the binding.
    pub(crate) rights: Arc<Rights>,
    /// Limits on memory and tables.
    pub(crate) space: Space,
    /// CPU time and wall time.
    pub(crate) stopwatch: Stopwatch,
    /// What the call did so far.
    pub(crate) tracker: InputTracker,
    /// Host calls the call may still make.
    host_calls: u32,
    /// The request of the call in progress.
    request: Option<Arc<RequestHead>>,
    /// Whether the call in progress may wait: it is no step of the set-up.
    may_wait: bool,
    /// The response of the call in progress.
    response: Option<Arc<ResponseHead>>,
    /// The exchanges of a call of `observe`.
    pub(crate) batch: Vec<Arc<LogEntry>>,
    /// Where the caller finds what the guest waits for.
    pub(crate) mailbox: Mailbox,
    /// Printed text of a line that has not ended.
    pub(crate) output: Output,
    /// The time zone that was used last.
    pub(crate) last_zone: Option<(String, TimeZone)>,
    /// Whether the call declines the body of the response.
    pub(crate) declines_body: bool,
    /// Whether the call may end the exchange with a response, and the response that does.
    pub(crate) may_respond: bool,
    pub(crate) responds: Option<Response>,
    /// What the call leaves beside its result; `None` for most calls.
    pub(crate) left: Option<Box<Left>>,
    /// The HMAC key that was used last.
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
            may_wait: false,
            response: None,
            batch: Vec::new(),
            mailbox,
            output: Output::default(),
            last_zone: None,
            declines_body: false,
            may_respond: false,
            responds: None,
            left: None,
            last_key: None,
            rights,
        }
    }

    /// Begins a call: restores its budget and sets the request that the guest may read.
    pub(crate) fn begin(
        &mut self,
        now: Instant,
        request: Arc<RequestHead>,
        response: Option<Arc<ResponseHead>>,
    ) {
        self.tracker.begin();
        self.host_calls = self.rights.budget.host_calls;
        self.request = Some(request);
        self.may_wait = true;
        self.declines_body = false;
        self.response = response;
        self.stopwatch.begin(now, self.rights.budget.cpu, self.rights.budget.wall);
    }

    /// Begins a call that belongs to no request: restores its budget.
    pub(crate) fn begin_in_background(&mut self, now: Instant) {
        self.tracker.begin();
        self.host_calls = self.rights.budget.host_calls;
        self.may_wait = true;
        self.stopwatch.begin(now, self.rights.budget.cpu, self.rights.budget.wall);
    }

    /// Begins a step of the set-up, without a request and with this much time.
    pub(crate) fn begin_setup(&mut self, time: Duration) {
        self.host_calls = self.rights.budget.host_calls;
        self.stopwatch.begin(Instant::now(), time, time);
    }

    /// Ends a call: releases its request and response.
    pub(crate) fn end(&mut self) {
        self.request = None;
        self.may_wait = false;
        self.response = None;
        self.may_respond = false;
        self.responds = None;
        self.left = None;
        self.batch.clear();
        // Only `fetch` and a store that waits leave a job there, and emptying the mailbox takes a lock.
        if self.tracker.is_marked(Mark::Fetch)
            || self.tracker.is_marked(Mark::Store) && self.rights.store_waits()
        {
            drop(self.mailbox.take());
        }
    }

    /// Writes the printed text of an unfinished line to the log.
    pub(crate) fn flush_output(&mut self) {
        self.output.flush(&self.rights);
    }

    /// Counts a host call and records its mark.
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
    /// The call has made as many host calls as its budget allows.
    pub(crate) fn charge(&mut self) -> wasmtime::Result<()> {
        match self.host_calls.checked_sub(1) {
            Some(left) => {
                self.host_calls = left;
                Ok(())
            }
            None => Err(wasmtime::Error::new(Killed(CallFailure::HostCalls))),
        }
    }

    /// The request of the call, of which the guest reads `part`; counted as a host call.
    ///
    /// # Errors
    /// No host calls are left, or there is no request (the plugin is being configured).
    pub(crate) fn look(&mut self, part: Mark) -> wasmtime::Result<&Arc<RequestHead>> {
        self.tracker.mark(part);
        self.request()
    }

    /// The request of the call, counted as a host call. The caller records which part is read.
    ///
    /// # Errors
    /// As [`HostState::look`].
    pub(crate) fn request(&mut self) -> wasmtime::Result<&Arc<RequestHead>> {
        self.charge()?;
        self.request.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no request outside of a call"))
    }

    /// Whether the call may wait for the host. During the set-up there is nobody who could.
    pub(crate) fn may_wait(&self) -> bool {
        self.may_wait
    }

    /// The head of the request of the call in progress, not counted as a host call; `None` if it belongs to no request.
    pub(crate) fn head(&self) -> Option<&Arc<RequestHead>> {
        self.request.as_ref()
    }

    /// The response of the call in progress, not counted as a host call.
    pub(crate) fn response_head(&self) -> Option<&Arc<ResponseHead>> {
        self.response.as_ref()
    }

    /// The response of the call, counted as a host call.
    ///
    /// # Errors
    /// As [`HostState::look`].
    pub(crate) fn response(&mut self) -> wasmtime::Result<&Arc<ResponseHead>> {
        self.charge()?;
        self.response.as_ref().ok_or_else(|| wasmtime::Error::msg("there is no response in this call"))
    }
}
