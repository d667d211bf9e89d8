//! The inputs of every call of a contract, and how a call may fail.

use std::sync::Arc;

use super::{Fetch, Function, MaybeReady};
use crate::head::RequestHead;

/// The result of a call, which may still be in progress.
pub type CallResult<'a, T> = MaybeReady<'a, Result<T, CallFailure>>;

/// The inputs of every call.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request. The called binding may keep a clone of the `Arc` only until the call ends.
    pub head: &'a Arc<RequestHead>,
    /// Sends the outbound requests of the call.
    pub fetch: &'a dyn Fetch,
}

/// The result of a function that may be declared pure.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// The result itself.
    pub content: T,
    /// Whether the function is declared pure and the call did nothing that contradicts this.
    pub pure: bool,
}

impl<T> Answer<T> {
    /// A result that is valid for this one request only.
    pub fn once(content: T) -> Self {
        Answer { content, pure: false }
    }
}

/// Which function of which contract is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts' functions")]
pub enum Phase {
    Gate,
    Authentication,
    AuthenticationByBody,
    RateLimiting,
    RefusalByBody,
    Routing,
    RoutingByBody,
    Request,
    RequestBody,
    Response,
    ResponseBody,
    Observe,
    Tick,
}

impl Phase {
    /// Every phase, each at the index `phase as usize`.
    pub const ALL: [Phase; 13] = [
        Phase::Gate,
        Phase::Authentication,
        Phase::AuthenticationByBody,
        Phase::RateLimiting,
        Phase::RefusalByBody,
        Phase::Routing,
        Phase::RoutingByBody,
        Phase::Request,
        Phase::RequestBody,
        Phase::Response,
        Phase::ResponseBody,
        Phase::Observe,
        Phase::Tick,
    ];

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Gate => "gate",
            Phase::Authentication => "authentication",
            Phase::AuthenticationByBody => "authentication-by-body",
            Phase::RateLimiting => "rate-limiting",
            Phase::RefusalByBody => "refusal-by-body",
            Phase::Routing => "routing",
            Phase::RoutingByBody => "routing-by-body",
            Phase::Request => "request",
            Phase::RequestBody => "request-body",
            Phase::Response => "response",
            Phase::ResponseBody => "response-body",
            Phase::Observe => "observe",
            Phase::Tick => "tick",
        }
    }

    /// The phase in which a function that may be declared pure is called.
    pub fn of(function: Function) -> Self {
        match function {
            Function::Admit => Phase::Gate,
            Function::Draw => Phase::RateLimiting,
            Function::Route => Phase::Routing,
            Function::OnRequest => Phase::Request,
            Function::OnResponse => Phase::Response,
        }
    }

    /// Whether the phase calls with pieces of a body, so that one request may make many such calls.
    pub fn is_of_body(self) -> bool {
        matches!(self, Phase::RequestBody | Phase::ResponseBody)
    }
}

/// Why a call has no result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// The guest trapped, for example by a panic, `unreachable` or an access out of bounds.
    Trap,
    /// It used up its CPU budget.
    Cpu,
    /// It used up its wall budget.
    Wall,
    /// It used up its memory or table budget.
    Memory,
    /// It made more host calls than its budget allows.
    HostCalls,
    /// Its result is malformed or larger than its budget allows.
    Output,
    /// No instance was free in time.
    Queue,
    /// The binding is quarantined; no call was made.
    Quarantined,
    /// The plugin could not be loaded (`start = "degraded"`), or no instance could be made.
    Unavailable,
}

impl CallFailure {
    /// The failure in words, for people.
    pub fn describe(self) -> &'static str {
        match self {
            CallFailure::Trap => "the plugin trapped",
            CallFailure::Cpu => "it used up its CPU budget",
            CallFailure::Wall => "it used up its wall time",
            CallFailure::Memory => "it used up its memory",
            CallFailure::HostCalls => "it made too many host calls",
            CallFailure::Output => "its result cannot be used",
            CallFailure::Queue => "no instance was free in time",
            CallFailure::Quarantined => "the binding is in quarantine, so no call was made",
            CallFailure::Unavailable => "there is no plugin or no instance to call",
        }
    }

    /// The name in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            CallFailure::Trap => "trap",
            CallFailure::Cpu => "cpu",
            CallFailure::Wall => "wall",
            CallFailure::Memory => "memory",
            CallFailure::HostCalls => "host-calls",
            CallFailure::Output => "output",
            CallFailure::Queue => "queue",
            CallFailure::Quarantined => "quarantined",
            CallFailure::Unavailable => "unavailable",
        }
    }
}
