//! Calls: what they have in common. One file for each contract beside.
//!
//! # What was tried to make them cheap
//!
//! By `benches/plugins.rs`, as ratios of the time before: a call that does nothing, and the chain of jwt, rate-limit,
//! canary and headers (five calls).
//!
//! | change | nothing | chain |
//! |---|---|---|
//! | a call that need not wait is over at once, without a boxed future; instances are moved as pointers; one reading of the clock fewer; keys and messages of the crypto import are not copied out of the guest | 0.81 | 0.91 |
//! | guests compiled for speed instead of size: 1.13 times as large | | 0.86 |
//!
//! Under load, four plugins with fresh tokens took 1.70 times the CPU of nginx, which knows of no plugins, in the same round
//! (5 rounds, not the trained build), and 1.58 times after these changes, most of it by the first: the plugin headers
//! answers with composed values, so that its answer is remembered for all callers; what a function does not look at is
//! none instead of an empty string, for which wasmtime asks the guest's allocator; jwt names the one header it looks at,
//! and keeps its claims in a list; the HMAC key is prepared once; the identity is shared; a question that was never asked
//! is looked for in one cache line.
//!
//! Later, with the trained gateway, not arranged, as ratios to nginx in interleaved rounds of a second:
//!
//! | change | fresh tokens | tokens seen before |
//! |---|---|---|
//! | the first call of a request stands behind all requests that are ready | 2.02 became 1.87 (13 rounds) | |
//! | an allocator in the guest that keeps freed blocks by size, names and the token's header compared by words, fewer searches in a token; answers found by a faster hash, response headers of stages in a list | 1.88 became 1.79 (11 rounds; with the guest alone: within noise) | 1.59 became 1.55 (9 rounds, within noise) |
//! | requests are forwarded behind all that are ready also where no call was made | | 1.49 became 1.40 (13 rounds) |
//! | a turn is given up by a task that wakes itself, and nothing else is looked at in it ([`witgate_proxy::turn`]) | 1.82 became 1.75 (15 rounds) | 1.43 became 1.37 (11 rounds) |
//!
//! By callgrind, the call that verifies a token took 18,700 instructions in the guest and 13,200 after that: a quarter had
//! been the standard library's allocator (it has neither the sizes nor the ends of a call in view, and none of it is inlined),
//! 1,200 a `memcmp` that goes byte by byte. It takes 11,600 since jwt takes a token apart as bytes, by the lengths of the last
//! one, and its steps are functions of their own: in one of 48 KB every value lived on the stack; and 10,900, with some 500
//! less in the host, since an acceptance is based on the inputs that were declared once, and does not name them each time. Of
//! these 2,500 look whether the call has used up its time, on each entry of a function and each turn of a loop (counted by
//! leaving them out).
//!
//! Tried in vain: letting other requests go first before the response is sent (no gain); before all of a request's answers
//! are looked for, in place of before its first call (0.96 with tokens seen before, but 1.04 with fresh ones); giving up no
//! turn before forwarding once calls stand together (1.10); another allocator in the guest (TLSF) and guests compiled with
//! SIMD (1.01 of the time before each, 9 rounds); another decoder of base64 (`data-encoding`, `base64-simd`: no fewer
//! instructions; 1,400 fewer only if guests were compiled with SIMD, too); functions of guests inlined by wasmtime (0.93 of
//! the guest's instructions; 0.97 of the ratio in one comparison, 1.00 and 1.05 in others).
//!
//! Of what remains of the one call that is made, half is the guest (base64 2,000 instructions, JSON 3,300, the rest
//! nothing large), the rest is spread over wasmtime's way in and out, the host's HMAC (1,400 beside the hash itself, since a
//! prepared key is copied whole for each use), and the bookkeeping of a call. Of wasmtime's part nothing can be left out
//! from here: it makes the reference to the function anew for each call (900 instructions), lends the request as a handle
//! and takes it back (600), asks the guest for room for each list (two calls of the guest, 900).
//!
//! # Where it stands, and what the rest would take
//!
//! It depends on how dear the kernel is. On two shared AMD cores, where nginx takes 31 us for a plain request, the trained
//! gateway takes 1.29 times that with four plugins and fresh tokens (61 rounds of two seconds; 1.33 in 41 others, 1.30 to
//! 1.41 in three comparisons of 7 to 15 rounds of one), and 1.05 with tokens that were seen before. On two Intel cores, where
//! nginx takes 10 us, of them 7.5 in the kernel, it took 1.47 to 1.58 and 1.24 to 1.27: 6.7 us in user space and 8.0 to 8.6
//! in the kernel, 1.9 more than 1.35 times.
//!
//! By instructions (callgrind, not the trained build, without SHA-256, which it does not run as the processor does) a plain
//! request takes 26,900, one with four answers remembered 39,400, one with a fresh token some 61,000: guest 10,900, wasmtime
//! 6,000, all else of a call 5,000. Since 1,000 took about 0.13 us there, a guest that costs nothing would not quite do for
//! 1.35 on Intel. What could go, and at what price: perhaps 4,000, if one call took the tokens of all requests that stand in
//! the queue (which needs a function more in the contract, and a trap or an overrun would have to be sorted out one request
//! at a time); most of the guest's, if the host decoded tokens and read their claims (then the plugin is a name for something
//! native); the looks at the time, if there were another way to end a loop.

pub(crate) mod authentication;
pub(crate) mod rate_limiting;
pub(crate) mod routing;
pub(crate) mod transformation;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName};
use wasmtime::component::{ComponentNamedList, Lift, Lower, TypedFunc};
use wasmtime::{Trap, WasmBacktrace};
use witgate_proxy::contracts::{self, Call, CallFailure, Fetch, Function, Input, Interest, Phase};
use witgate_proxy::head::RequestHead;
use witgate_proxy::turn;

use crate::bindings::witgate::plugin::types;
use crate::budget::{FIRST_LOOK, Killed, Stopwatch};
use crate::imports::mailbox::Mailbox;
use crate::instance::Instance;
use crate::plugin::Loaded;
use crate::pool::{Lease, NoInstance};
use crate::quarantine::Admission;

/// One call under way: leave to make it, and an instance to make it with.
pub(crate) struct Running<'a> {
    binding: &'a Loaded,
    phase: Phase,
    admission: Option<Admission<'a>>,
    lease: Option<Lease<'a>>,
    begun: Instant,
    fetch: &'a dyn Fetch,
}

/// What a call looks at.
pub(crate) struct CallInputs<'a> {
    /// The request, and where outbound requests go.
    pub(crate) call: Call<'a>,
    /// The response, in the phases that have one.
    pub(crate) response: Option<Arc<contracts::ResponseHead>>,
}

impl<'a> Running<'a> {
    /// Takes an instance, if it has none yet, and hands it the request.
    ///
    /// # Errors
    /// `Quarantined`, `Queue`, or why an instance could not be made; counted.
    pub(crate) async fn begin(
        binding: &'a Loaded,
        lease: Option<Lease<'a>>,
        phase: Phase,
        given: CallInputs<'a>,
    ) -> Result<Self, CallFailure> {
        let fetch = given.call.fetch;
        let begun = turn::now();
        let Some(admission) = binding.quarantine.admit(begun) else {
            binding.not_called(CallFailure::Quarantined);
            return Err(CallFailure::Quarantined);
        };
        let mut running = Running { binding, phase, admission: Some(admission), lease: None, begun, fetch };
        let leased = match lease {
            Some(lease) => Ok((lease, begun)),
            // The time in the queue is not the guest's.
            None => {
                let leased = binding.pool.lease().await;
                let now = turn::read();
                leased.map(|lease| (lease, now))
            }
        };
        match leased {
            Ok((lease, now)) => {
                let lease = running.lease.insert(lease);
                let instance = lease.call()?;
                instance.store.data_mut().begin(now, Arc::clone(given.call.head), given.response);
                Ok(running)
            }
            Err(NoInstance { failure, burnt }) => {
                // A call that was not made because too many others wait, or no room is left, says nothing about the plugin.
                if is_fault(failure) {
                    running.settle(Some(burnt), turn::now());
                }
                binding.not_called(failure);
                Err(failure)
            }
        }
    }

    /// Calls a function of the contract: `find` takes it from the instance.
    ///
    /// # Errors
    /// Why there is no answer. The instance is not used again.
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
            // Boxed, so that calls that do not wait do not carry its state around.
            let call = Box::pin(function.call_async(store, parameters));
            let driven = drive(call, stopwatch, mailbox, fetch);
            tokio::time::timeout(wall, driven).await.unwrap_or_else(|_| Err(Killed(CallFailure::Wall).into()))
        } else {
            function.call(store, parameters)
        };
        answer.map_err(|error| {
            self.binding.explain(self.phase, &error);
            failure_of(&error)
        })
    }

    /// The instance the call runs in.
    ///
    /// # Errors
    /// `Unavailable` if it is gone, which [`Running::begin`] rules out.
    pub(crate) fn instance(&mut self) -> Result<&mut Instance, CallFailure> {
        self.lease.as_mut().ok_or(CallFailure::Unavailable)?.call()
    }

    /// Whether the answer may be used again: the function is declared pure, and the call kept to what that means. If it
    /// did not, the log is told.
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

    /// Ends the call: checks the size of the answer, counts, and gives the instance back. The answer stays where it is,
    /// for it may be large.
    ///
    /// # Errors
    /// The failure of the call, or `Output` if the answer is larger than it may be.
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
                let state = instance.store.data_mut();
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

    /// Bytes the answer may have: a body that is handed back may be as large as one that was handed in.
    fn limit(&self) -> usize {
        let budget = &self.binding.pool.rights().budget;
        match self.phase {
            Phase::RequestBody | Phase::ResponseBody => {
                budget.output.max(budget.body_limit.saturating_add(budget.context_limit))
            }
            _ => budget.output,
        }
    }

    /// The call says something about the plugin: it was answered, or failed after so much CPU time.
    fn settle(&mut self, failed: Option<Duration>, now: Instant) {
        if let Some(admission) = self.admission.take() {
            self.binding.judge(self.phase, admission, failed, now);
        }
    }
}

/// A call that is dropped before its end counts as abandoned; its lease takes the instance along.
impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.binding.meter().abandoned();
        }
    }
}

/// Runs a guest that may wait, and beside it what it waits for: an outbound exchange, or a store.
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
                // The reply is there: the guest goes on at once.
                Some(Poll::Ready(())) => waited = None,
                _ => return Poll::Pending,
            }
        }
    })
    .await
}

/// Which failure an error of wasmtime is.
pub(crate) fn failure_of(error: &wasmtime::Error) -> CallFailure {
    if let Some(Killed(failure)) = error.downcast_ref::<Killed>() {
        return *failure;
    }
    // What goes wrong while the guest runs carries a backtrace of it; what is wrong with its answer does not.
    if error.is::<Trap>() || error.is::<WasmBacktrace>() { CallFailure::Trap } else { CallFailure::Output }
}

/// Whether a failure is the plugin's own doing, so that it counts for quarantine and trial.
fn is_fault(failure: CallFailure) -> bool {
    !matches!(failure, CallFailure::Queue | CallFailure::Quarantined | CallFailure::Unavailable)
}

/// What comes in with the calls of one function: everything, or only what it named.
#[derive(Clone, Copy)]
pub(crate) struct DeclaredInputs {
    method: bool,
    path: bool,
    query: bool,
    authority: bool,
    /// By position among the declared request headers, of which there are at most 64.
    headers: u64,
}

impl DeclaredInputs {
    const ALL: DeclaredInputs =
        DeclaredInputs { method: true, path: true, query: true, authority: true, headers: u64::MAX };

    /// To a function that named these inputs; none: everything.
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

/// The values of the declared headers that are shown, in the order of declaration.
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

/// The head as it comes in with a call.
fn request_head<'a>(
    head: &'a RequestHead,
    headers: &'a [types::DeclaredHeader<'a>],
    shown: DeclaredInputs,
) -> types::RequestHead<'a> {
    types::RequestHead {
        method: shown.method.then(|| head.method.as_str()),
        path: shown.path.then(|| head.path()),
        query: head.query().filter(|_| shown.query),
        authority: shown.authority.then_some(&*head.authority),
        headers,
    }
}

/// An input as a plugin names it; none if no request can have it.
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

/// What a list item costs beside its bytes, so that a list of nothing is not free.
const ITEM: usize = 16;

fn size_of_headers(list: &[types::Header]) -> usize {
    list.iter().map(|header| header.name.len() + header.value.len() + ITEM).sum()
}

fn size_of_response(response: &types::Response) -> usize {
    size_of_headers(&response.headers) + response.body.len()
}
