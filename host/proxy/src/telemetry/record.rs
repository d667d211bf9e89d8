//! What is noted about one request while it passes.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use crate::contracts::CallFailure;
use crate::fault::FaultKind;

/// Notes about one request, for the access log, the metrics and the span.
#[derive(Debug, Default)]
pub struct Record {
    /// The fault that made the response, and what only the log is told.
    pub fault: Option<(FaultKind, Option<String>)>,
    /// The upstream and endpoint that answered.
    pub endpoint: Option<(Arc<str>, Arc<str>)>,
    /// Times the request was sent.
    pub attempts: u32,
    /// From the first byte upstream to the response head.
    pub upstream_time: Option<Duration>,
    /// Why it was sent more than once, in order.
    pub repeats: Vec<Repeat>,
    /// Plugin calls in order.
    pub plugins: PluginCalls,
    /// Counts the bytes of the request body; none: the request has no body.
    pub received: Option<Received>,
    /// Whether and how this request is written to the access log.
    pub access_log: AccessLog,
    /// Whether it is counted as in flight on its route.
    pub(crate) in_flight: bool,
    /// Whether an [`Ending`](crate::telemetry::request_guard::RequestGuard) has taken these notes over.
    pub(crate) taken: bool,
}

/// Why a request was sent once more, or was not although it should have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// Why.
    pub why: Why,
    /// The endpoint that failed; of a hedge, the one that was asked in addition.
    pub endpoint: Arc<str>,
}

/// Why a request was sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The attempt before failed.
    Fault(FaultKind),
    /// The answer before had this status.
    Status(StatusCode),
    /// The answer before had this status of gRPC.
    GrpcStatus(u8),
    /// It took long; the endpoint asked in addition answered first.
    HedgeWon,
    /// It took long; the endpoint asked in addition did not answer first.
    HedgeLost,
    /// It was not sent once more, because the upstream's budget was used up.
    BudgetExhausted,
}

impl fmt::Display for Repeat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Fault(kind) => formatter.write_str(kind.describe().code)?,
            Why::Status(status) => write!(formatter, "status-{}", status.as_u16())?,
            Why::GrpcStatus(code) => write!(formatter, "grpc-status-{code}")?,
            Why::HedgeWon => formatter.write_str("hedge-won")?,
            Why::HedgeLost => formatter.write_str("hedge-lost")?,
            Why::BudgetExhausted => formatter.write_str("budget-exhausted")?,
        }
        write!(formatter, " {}", self.endpoint)
    }
}

/// The plugin calls of one request, in order. Empty, it costs nothing; only a body that still calls plugins while it
/// streams makes others share it.
#[derive(Debug, Default)]
pub struct PluginCalls(Hand);

#[derive(Debug)]
enum Hand {
    Own(Vec<PluginCall>),
    Shared(Rc<RefCell<Vec<PluginCall>>>),
}

impl Default for Hand {
    fn default() -> Self {
        Hand::Own(Vec::new())
    }
}

/// Calls that a request with plugins has room for without growing: a chain of four makes five.
const ROOM: usize = 6;

impl PluginCalls {
    /// Whether any call was made.
    pub fn any(&mut self) -> bool {
        self.with(|calls| !calls.is_empty())
    }

    /// Notes a call of a head: one row each.
    pub fn push(&mut self, call: PluginCall) {
        self.with(|calls| {
            if calls.capacity() == 0 {
                calls.reserve_exact(ROOM);
            }
            calls.push(call);
        });
    }

    /// Notes a call of a body: all chunks of a binding and phase are one row, whose time is their sum.
    pub fn add(&mut self, call: PluginCall) {
        self.with(|calls| {
            match calls.iter_mut().find(|known| known.phase == call.phase && known.binding == call.binding) {
                Some(known) => {
                    known.time += call.time;
                    known.failure = known.failure.or(call.failure);
                }
                None => calls.push(call),
            }
        });
    }

    /// Another hand on the same notes, for a body that outlives the exchange.
    pub fn share(&mut self) -> PluginCalls {
        let shared = match std::mem::take(&mut self.0) {
            Hand::Own(calls) => Rc::new(RefCell::new(calls)),
            Hand::Shared(shared) => shared,
        };
        self.0 = Hand::Shared(Rc::clone(&shared));
        PluginCalls(Hand::Shared(shared))
    }

    /// What was noted so far, taken out.
    pub fn take(&mut self) -> Vec<PluginCall> {
        self.with(std::mem::take)
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Vec<PluginCall>) -> T) -> T {
        match &mut self.0 {
            Hand::Own(calls) => act(calls),
            Hand::Shared(shared) => act(&mut shared.borrow_mut()),
        }
    }
}

/// One plugin call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginCall {
    /// The binding.
    pub binding: Arc<str>,
    /// Phase: `authentication`, `rate-limiting`, `routing`, `request`, `request-body`, `response`, `response-body`.
    pub phase: &'static str,
    /// When it began; of a body's calls, the first.
    pub begun: Instant,
    /// How long it took.
    pub time: Duration,
    /// Why it gave no answer.
    pub failure: Option<CallFailure>,
}

/// Bytes of a request body so far: the body that streams through adds, the ending reads.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// More bytes came.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What the `access-log` filter decided for one request.
#[derive(Debug, Default)]
pub struct AccessLog {
    /// Which requests are written.
    pub share: Share,
    /// The query string is written too. Off by default: it often carries secrets.
    pub query: bool,
    /// Request headers the route wants in the line.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which requests are written to the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Share {
    /// This one.
    #[default]
    Everything,
    /// This one only if it goes wrong: a fault, a status from 500, a response that is cut short.
    Failures,
    /// Not this one.
    Nothing,
}
