//! Calls of plugin functions: what all contracts have in common. Each contract has a file of its own beside this
//! one.
//!
//! A call that need not wait runs without a boxed future, because the future cost more than a small call. Parts of
//! the head that a function does not declare are passed as `none` instead of an empty string, because lowering a
//! string calls the allocator of the guest. Measurements are in `tests/bench/NOTES.md`.

pub(crate) mod authentication;
pub(crate) mod by_body;
pub(crate) mod gate;
pub(crate) mod observe;
pub(crate) mod rate_limiting;
pub(crate) mod routing;
pub(crate) mod tick;
pub(crate) mod transformation;

use std::borrow::Cow;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName};
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};
use wasmtime::{Trap, WasmBacktrace};
use witgate_exchange::call_cost::{self, CallCost};
use witgate_exchange::contracts::{self, Call, CallFailure, Fetch, Function, Input, Interest, Phase};
use witgate_exchange::head::RequestHead;
use witgate_exchange::turn;

use crate::bindings::witgate::plugin::types;
use crate::budget::{FIRST_LOOK, Killed, Stopwatch};
use crate::imports::mailbox::Mailbox;
use crate::instance::Instance;
use crate::plugin::Loaded;
use crate::pool::{Lease, NoInstance};
use crate::quarantine::Admission;
use crate::state::HostState;

/// One call in progress: the permission of the quarantine to make it, and the instance that it runs in.
pub(crate) struct Running<'a> {
    binding: &'a Loaded,
    phase: Phase,
    admission: Option<Admission<'a>>,
    lease: Option<Lease<'a>>,
    begun: Instant,
    fetch: &'a dyn Fetch,
    /// The cost of the call so far; `None` if its trace is not sampled.
    cost: Option<CallCost>,
}

/// The request, and in some phases the response, that a call may read.
pub(crate) struct CallInputs<'a> {
    /// The request, and where outbound requests go.
    pub(crate) call: Call<'a>,
    /// The head of the response, in the phases that have one.
    pub(crate) response: Option<Arc<contracts::ResponseHead>>,
}

impl<'a> Running<'a> {
    /// Takes an instance, unless the caller brings one, and gives it the request.
    ///
    /// # Errors
    /// `Quarantined`, `Queue`, or the reason why an instance could not be made. The failure has been counted.
    pub(crate) async fn begin(
        binding: &'a Loaded,
        lease: Option<Lease<'a>>,
        phase: Phase,
        given: CallInputs<'a>,
    ) -> Result<Self, CallFailure> {
        let sampled = given.call.head.trace.as_ref().is_some_and(|trace| trace.sampled);
        Self::begin_with(binding, lease, (phase, sampled), given.call.fetch, |state, now| {
            state.begin(now, Arc::clone(given.call.head), given.response);
        })
        .await
    }

    /// Takes an instance for a call that belongs to no request.
    ///
    /// # Errors
    /// As [`Running::begin`].
    pub(crate) async fn begin_in_background(
        binding: &'a Loaded,
        phase: Phase,
        fetch: &'a dyn Fetch,
    ) -> Result<Self, CallFailure> {
        Self::begin_with(binding, None, (phase, false), fetch, HostState::begin_in_background).await
    }

    /// Takes an instance, unless the caller brings one, and has `prepare` begin the call in its state. `sampled`: whether
    /// the cost of the call is measured for its span.
    async fn begin_with(
        binding: &'a Loaded,
        lease: Option<Lease<'a>>,
        (phase, sampled): (Phase, bool),
        fetch: &'a dyn Fetch,
        prepare: impl FnOnce(&mut HostState, Instant),
    ) -> Result<Self, CallFailure> {
        let begun = turn::now();
        let Some(admission) = binding.quarantine.admit(begun) else {
            binding.not_called(CallFailure::Quarantined);
            return Err(CallFailure::Quarantined);
        };
        let mut running =
            Running { binding, phase, admission: Some(admission), lease: None, begun, fetch, cost: None };
        let leased = match lease {
            Some(lease) => Ok((lease, begun)),
            // Time in the queue does not count against the budget of the guest.
            None => {
                let leased = binding.pool.lease().await;
                let now = turn::read();
                leased.map(|lease| (lease, now))
            }
        };
        match leased {
            Ok((lease, now)) => {
                running.cost = sampled.then(|| CallCost { waited: now - begun, ..CallCost::default() });
                let lease = running.lease.insert(lease);
                let instance = lease.call()?;
                prepare(instance.store.data_mut(), now);
                Ok(running)
            }
            Err(NoInstance { failure, burnt }) => {
                if sampled {
                    call_cost::note(CallCost { waited: begun.elapsed(), cpu: Duration::ZERO });
                }
                // A call that was not made because the queue is full or no memory is left says nothing about the
                // plugin.
                if is_fault(failure) {
                    running.settle(Some(burnt), turn::now());
                }
                binding.not_called(failure);
                Err(failure)
            }
        }
    }

    /// Calls a function of the contract.
    ///
    /// # Errors
    /// The reason why there is no result. The instance is not used again.
    pub(crate) async fn invoke<P, R>(
        &mut self,
        function: TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, CallFailure>
    where
        P: ComponentNamedList + Lower,
        R: ComponentNamedList + Lift + 'static,
    {
        let waits = self.binding.pool.waits();
        let wall = self.binding.pool.rights().budget.wall;
        let fetch = self.fetch;
        let Instance { store, stopwatch, mailbox, .. } = self.instance()?;
        store.set_epoch_deadline(FIRST_LOOK);
        let answer = if waits {
            // Boxed, so that the future of calls that do not wait stays small.
            let call = Box::pin(function.call_async(store, parameters));
            let driven = drive(call, stopwatch, mailbox, fetch);
            tokio::time::timeout(wall, driven).await.unwrap_or_else(|_| Err(Killed(CallFailure::Wall).into()))
        } else {
            function.call(store, parameters)
        };
        answer.map_err(|error| {
            let failure = failure_of(&error);
            // Only a trap follows from a panic; a call that was ended may have printed one before.
            let panic =
                self.instance().ok().and_then(|instance| instance.store.data_mut().output.take_panic());
            let panic = panic.filter(|_| failure == CallFailure::Trap);
            self.binding.explain(self.phase, panic, &error);
            failure
        })
    }

    /// The instance that the call runs in.
    ///
    /// # Errors
    /// `Unavailable` if there is none, which cannot happen after [`Running::begin`].
    pub(crate) fn instance(&mut self) -> Result<&mut Instance, CallFailure> {
        self.lease.as_mut().ok_or(CallFailure::Unavailable)?.call()
    }

    /// Whether the result may be remembered: the function is declared pure, and the call did nothing that
    /// contradicts the declaration. If it did, a line is written to the log.
    ///
    /// # Errors
    /// As [`Running::instance`].
    pub(crate) fn is_pure(&mut self, function: Function) -> Result<bool, CallFailure> {
        let (binding, phase) = (self.binding, self.phase);
        let Some(inputs) = binding.interest.inputs(function) else { return Ok(false) };
        let beyond = self.instance()?.store.data().tracker.beyond(inputs);
        if let Some(beyond) = &beyond {
            binding.not_pure(phase, function.as_str(), beyond);
        }
        Ok(beyond.is_none())
    }

    /// Ends the call: checks the size of the result, counts the call, and gives the instance back. The result is
    /// borrowed, because it may be large to move.
    ///
    /// # Errors
    /// The failure of the call, or `Output` if the result is larger than the budget allows.
    pub(crate) fn end<R>(
        mut self,
        answer: &Result<R, CallFailure>,
        size: impl FnOnce(&R) -> usize,
    ) -> Result<(), CallFailure> {
        let failure = match answer {
            Ok(answer) if size(answer) > self.limit() => Some(CallFailure::Output),
            Ok(_) => None,
            Err(failure) => Some(*failure),
        };
        let mut burnt = None;
        if let Some(mut lease) = self.lease.take() {
            if let Ok(instance) = lease.call() {
                if let Some(cost) = self.cost {
                    call_cost::note(CallCost { cpu: instance.stopwatch.burnt(), ..cost });
                }
                let state = instance.store.data_mut();
                if let Some(left) = state.left.take() {
                    call_cost::leave(left);
                }
                if failure.is_some() {
                    burnt = Some(instance.stopwatch.burnt());
                    state.flush_output();
                }
                state.end();
                self.binding.meter().memory(state.space.memory());
            }
            lease.end(failure.is_none());
            let now = turn::read();
            self.binding.called(self.phase, now - self.begun, failure);
            self.settle(burnt, now);
        }
        failure.map_or(Ok(()), Err)
    }

    /// The most bytes that the result may have: a body that is returned may be as large as the body that was
    /// passed in.
    fn limit(&self) -> usize {
        let budget = &self.binding.pool.rights().budget;
        match self.phase {
            Phase::RequestBody | Phase::ResponseBody => {
                budget.output.max(budget.body_limit.saturating_add(budget.context_limit))
            }
            _ => budget.output,
        }
    }

    /// Counts the call for quarantine and trial: it returned a result, or it failed after this much CPU time.
    fn settle(&mut self, failed: Option<Duration>, now: Instant) {
        if let Some(admission) = self.admission.take() {
            self.binding.judge(self.phase, admission, failed, now);
        }
    }
}

/// A call that is dropped before its end counts as abandoned. Its lease drops the instance.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.binding.meter().abandoned();
        }
    }
}

/// Runs a guest that may wait, together with what it waits for: an outbound exchange, or a store.
async fn drive<R>(
    call: impl Future<Output = wasmtime::Result<R>>,
    stopwatch: &Stopwatch,
    mailbox: &Mailbox,
    fetch: &dyn Fetch,
) -> wasmtime::Result<R> {
    let mut call = pin!(call);
    let mut waited: Option<LocalBoxFuture<'_, ()>> = None;
    std::future::poll_fn(move |context: &mut Context<'_>| {
        loop {
            stopwatch.resume();
            let polled = call.as_mut().poll(context);
            stopwatch.pause();
            if polled.is_ready() {
                return polled;
            }
            if let Some(job) = mailbox.take() {
                waited = Some(job(fetch));
            }
            match waited.as_mut().map(|waited| waited.as_mut().poll(context)) {
                // The reply has arrived: poll the guest again immediately.
                Some(Poll::Ready(())) => waited = None,
                _ => return Poll::Pending,
            }
        }
    })
    .await
}

/// The call failure that an error of wasmtime stands for.
pub(crate) fn failure_of(error: &wasmtime::Error) -> CallFailure {
    if let Some(Killed(failure)) = error.downcast_ref::<Killed>() {
        return *failure;
    }
    // Errors that occur while the guest runs carry a backtrace; errors in lifting its result do not.
    if error.is::<Trap>() || error.is::<WasmBacktrace>() { CallFailure::Trap } else { CallFailure::Output }
}

/// Whether a failure is caused by the plugin, so that it counts for quarantine and trial.
fn is_fault(failure: CallFailure) -> bool {
    !matches!(failure, CallFailure::Queue | CallFailure::Quarantined | CallFailure::Unavailable)
}

/// Which parts of the head are passed to a function: all of them, or only its declared inputs.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredInputs {
    method: bool,
    path: bool,
    query: bool,
    authority: bool,
    /// One bit for each declared request header, in the order of declaration; at most 64.
    headers: u64,
}

impl DeclaredInputs {
    const ALL: DeclaredInputs =
        DeclaredInputs { method: true, path: true, query: true, authority: true, headers: u64::MAX };

    /// The parts for a function that declared these inputs; `None` means all parts.
    pub(crate) fn to(inputs: Option<&[Input]>, interest: &Interest) -> Self {
        let Some(inputs) = inputs else { return DeclaredInputs::ALL };
        let named = |wanted: &Input| inputs.contains(wanted);
        let mut headers = 0;
        for (index, name) in interest.request_headers.iter().enumerate() {
            headers |= u64::from(named(&Input::Header(name.clone()))) << index;
        }
        DeclaredInputs {
            method: named(&Input::Method),
            path: named(&Input::Path),
            query: named(&Input::Query),
            authority: named(&Input::Authority),
            headers,
        }
    }
}

/// The values of those declared headers that are passed to the function, in the order of declaration.
fn declared<'a>(headers: &'a HeaderMap, names: &[HeaderName], shown: u64) -> Vec<types::DeclaredHeader<'a>> {
    let mut declared = Vec::with_capacity(names.len());
    for (name, index) in names.iter().zip(0_u16..).filter(|(_, index)| shown >> index & 1 == 1) {
        declared.extend(
            headers
                .get_all(name)
                .iter()
                .map(|value| types::DeclaredHeader { index, value: value.as_bytes() }),
        );
    }
    declared
}

impl Loaded {
    /// The query for a function that declared these inputs, as the binding may see it.
    fn query<'a>(&self, head: &'a RequestHead, shown: DeclaredInputs) -> Option<Cow<'a, str>> {
        if shown.query { self.pool.rights().credentials.query(head) } else { None }
    }
}

/// The head of the request as a parameter of the call.
fn request_head<'a>(
    head: &'a RequestHead,
    headers: &'a [types::DeclaredHeader<'a>],
    query: Option<&'a str>,
    shown: DeclaredInputs,
) -> types::RequestHead<'a> {
    types::RequestHead {
        method: shown.method.then(|| head.method.as_str()),
        path: shown.path.then(|| head.path()),
        query,
        authority: shown.authority.then_some(&*head.authority),
        headers,
    }
}

/// An input as a plugin declares it; `None` if no request can have it.
pub(crate) fn input(input: &types::Input) -> Option<Input> {
    Some(match input {
        types::Input::Header(name) => Input::Header(HeaderName::from_bytes(name.as_bytes()).ok()?),
        types::Input::Method => Input::Method,
        types::Input::Path => Input::Path,
        types::Input::Query => Input::Query,
        types::Input::Authority => Input::Authority,
        types::Input::Scheme => Input::Scheme,
        types::Input::OriginalPath => Input::OriginalPath,
        types::Input::ClientAddress => Input::ClientAddress,
        types::Input::ClientCertificate => Input::ClientCertificate,
        types::Input::Identity => Input::Identity,
        types::Input::Route => Input::Route,
        types::Input::PathParameter(name) => Input::PathParameter(name.as_str().into()),
    })
}

fn header(header: types::Header) -> contracts::Header {
    contracts::Header { name: header.name, value: header.value.into() }
}

fn headers(list: Vec<types::Header>) -> Vec<contracts::Header> {
    list.into_iter().map(header).collect()
}

fn response(response: types::Response) -> contracts::LocalResponse {
    contracts::LocalResponse {
        status: response.status,
        headers: headers(response.headers),
        body: Bytes::from(response.body),
    }
}

/// Bytes that each list item counts for in addition to its content, so that a list of empty items is limited, too.
const ITEM: usize = 16;

fn size_of_headers(list: &[types::Header]) -> usize {
    list.iter().map(|header| header.name.len() + header.value.len() + ITEM).sum()
}

fn size_of_response(response: &types::Response) -> usize {
    size_of_headers(&response.headers) + response.body.len()
}
