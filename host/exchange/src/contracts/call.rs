//! What every call of a contract is given, and how it may fail.

use std::sync::Arc;

use super::{Fetch, Function, MaybeReady};
use crate::head::RequestHead;

/// A call, made or under way.
pub type CallResult<'a, T> = MaybeReady<'a, Result<T, CallFailure>>;

/// What every call is given.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request. Whoever is called may keep a clone of the `Arc` for the length of the call only.
    pub head: &'a Arc<RequestHead>,
    /// Where outbound requests of the call go.
    pub fetch: &'a dyn Fetch,
}

/// The answer of a function that may be declared pure.
#[derive(Debug, Clone)]
pub struct Answer<T> {
    /// What it answered.
    pub content: T,
    /// Whether the function is declared pure, and the call did nothing that speaks against it.
    pub pure: bool,
}

impl<T> Answer<T> {
    /// An answer that is good for this one request.
    pub fn once(content: T) -> Self {
        Answer { content, pure: false }
    }
}

/// Which function of which contract is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts' functions")]
pub enum Phase {
    Authentication,
    RateLimiting,
    Routing,
    Request,
    RequestBody,
    Response,
    ResponseBody,
}

impl Phase {
    /// Every phase, each at the index `phase as usize`.
    pub const ALL: [Phase; 7] = [
        Phase::Authentication,
        Phase::RateLimiting,
        Phase::Routing,
        Phase::Request,
        Phase::RequestBody,
        Phase::Response,
        Phase::ResponseBody,
    ];

    /// The word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Authentication => "authentication",
            Phase::RateLimiting => "rate-limiting",
            Phase::Routing => "routing",
            Phase::Request => "request",
            Phase::RequestBody => "request-body",
            Phase::Response => "response",
            Phase::ResponseBody => "response-body",
        }
    }

    /// The phase in which a function is called that may be declared pure.
    pub fn of(function: Function) -> Self {
        match function {
            Function::Draw => Phase::RateLimiting,
            Function::Route => Phase::Routing,
            Function::OnRequest => Phase::Request,
            Function::OnResponse => Phase::Response,
        }
    }

    /// Whether it is about a body, so that one request may make many such calls.
    pub fn is_of_body(self) -> bool {
        matches!(self, Phase::RequestBody | Phase::ResponseBody)
    }
}

/// Why a call gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallFailure {
    /// The guest trapped (panic, unreachable, out-of-bounds…).
    Trap,
    /// It used up its CPU budget.
    Cpu,
    /// It used up its wall budget.
    Wall,
    /// It used up its memory or table budget.
    Memory,
    /// It made more host calls than it may.
    HostCalls,
    /// Its answer is larger than it may be, or malformed.
    Output,
    /// No instance was free in time.
    Queue,
    /// The binding is quarantined; no call was made.
    Quarantined,
    /// The plugin could not be loaded (`start = "degraded"`), or an instance could not be made.
    Unavailable,
}

impl CallFailure {
    /// The word for metrics and logs.
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
