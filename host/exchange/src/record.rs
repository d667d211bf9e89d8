//! What is recorded about one request while it is served.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, StatusCode};

use crate::call_cost::CallCost;
use crate::contracts::{CallFailure, Observers};
use crate::fault::FaultKind;
use crate::grpc::BridgedCall;

/// The record of one request, for the access log, the metrics and the span.
#[derive(Debug, Default)]
pub struct Record {
    /// The fault that made the response, and its cause for the log.
    pub fault: Option<(FaultKind, Option<String>)>,
    /// The upstream and endpoint that responded, or else that were asked last.
    pub endpoint: Option<(Arc<str>, Arc<str>)>,
    /// How often the request was sent.
    pub attempts: u32,
    /// From the first byte sent upstream to the response head, or to the end of an attempt that got none; of the last
    /// attempt.
    pub upstream_time: Option<Duration>,
    /// What the cache of the route did; `None`: it has none, or the request did not come to it.
    pub cache: Option<CacheResult>,
    /// What the filter `fault` did to the request on purpose.
    pub injected: Injected,
    /// Why the request was sent more than once, in order.
    pub repeats: Vec<Repeat>,
    /// Why the route's `allow` or `deny` would have refused the caller, were it not a dry run.
    pub dry_run_refusal: Option<&'static str>,
    /// The gRPC call that the gateway made for a caller who speaks another protocol.
    pub bridged: Option<BridgedCall>,
    /// The status of a refusal that the caller was told of in a dialect of gRPC.
    pub refused: Option<StatusCode>,
    /// Plugin calls in order.
    pub plugins: PluginCalls,
    /// Remembered results that were used in place of calls.
    pub recalled: Vec<Recalled>,
    /// Counts the bytes of the request body; `None`: the request has no body.
    pub received: Option<Received>,
    /// Whether and how this request is written to the access log.
    pub access_log: AccessLog,
    /// Who observes the request although it has no route; `None`: nobody, or it has a route.
    pub observers: Option<Observers>,
    /// Whether it is counted as in flight on its route.
    pub in_flight: bool,
    /// Whether a guard of telemetry has taken over this record.
    pub taken: bool,
}

/// What a cache did with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheResult {
    /// The response is a stored one that is fresh.
    Hit,
    /// The response is a stored one that is stale.
    Stale,
    /// The response is a stored one that the upstream has validated.
    Revalidated,
    /// The response is that to the same request of another client, for which this one waited.
    Collapsed,
    /// The response is that of the upstream.
    Miss,
    /// The request could share no response.
    Bypass,
}

impl CacheResult {
    /// Every result, in the order of the declaration.
    pub const ALL: [CacheResult; 6] = [
        CacheResult::Hit,
        CacheResult::Stale,
        CacheResult::Revalidated,
        CacheResult::Collapsed,
        CacheResult::Miss,
        CacheResult::Bypass,
    ];

    /// Its name in the access log and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            CacheResult::Hit => "hit",
            CacheResult::Stale => "stale",
            CacheResult::Revalidated => "revalidated",
            CacheResult::Collapsed => "collapsed",
            CacheResult::Miss => "miss",
            CacheResult::Bypass => "bypass",
        }
    }
}

/// What the filter `fault` did to a request. Such a request is told apart from one that failed by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injected {
    /// The request was delayed.
    pub delay: bool,
    /// The request got the configured refusal.
    pub abort: bool,
}

impl Injected {
    /// What was done, by name: `delay`, `abort`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [("delay", self.delay), ("abort", self.abort)]
            .into_iter()
            .filter_map(|(name, done)| done.then_some(name))
    }
}

/// Why a request was sent once more, or was not although it should have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The reason.
    pub why: Why,
    /// The endpoint that failed; for a hedge, the additional one.
    pub endpoint: Arc<str>,
}

/// Why a request was sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The previous attempt failed.
    Fault(FaultKind),
    /// The health checks of the previous endpoint failed while the request waited there.
    Unhealthy,
    /// The previous response had this status.
    Status(StatusCode),
    /// The previous response had this gRPC status.
    GrpcStatus(u8),
    /// The first endpoint was slow, and the additional one responded first.
    HedgeWon,
    /// The first endpoint was slow, but the additional one did not respond first.
    HedgeLost,
    /// The request was not sent again, because the upstream's retry budget was used up.
    BudgetExhausted,
}

impl fmt::Display for Repeat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::Fault(kind) => formatter.write_str(kind.describe().code)?,
            Why::Unhealthy => formatter.write_str("unhealthy")?,
            Why::Status(status) => write!(formatter, "status-{}", status.as_u16())?,
            Why::GrpcStatus(code) => write!(formatter, "grpc-status-{code}")?,
            Why::HedgeWon => formatter.write_str("hedge-won")?,
            Why::HedgeLost => formatter.write_str("hedge-lost")?,
            Why::BudgetExhausted => formatter.write_str("budget-exhausted")?,
        }
        write!(formatter, " {}", self.endpoint)
    }
}

/// The plugin calls of one request, in order. An empty list allocates nothing. The list is shared only with a body
/// that calls plugins while it streams.
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

/// Initial capacity, in calls: a chain of four plugins makes five.
const ROOM: usize = 6;

impl PluginCalls {
    /// Whether any call was made.
    pub fn any(&mut self) -> bool {
        self.with(|calls| !calls.is_empty())
    }

    /// Adds a call with a head, which has a row of its own.
    pub fn push(&mut self, call: PluginCall) {
        self.with(|calls| {
            if calls.capacity() == 0 {
                calls.reserve_exact(ROOM);
            }
            calls.push(call);
        });
    }

    /// Adds a call with a piece of a body. All pieces of one binding and phase share one row, whose time is their
    /// sum.
    pub fn add(&mut self, call: PluginCall) {
        self.with(|calls| {
            match calls.iter_mut().find(|known| known.phase == call.phase && known.binding == call.binding) {
                Some(known) => {
                    known.time += call.time;
                    known.decision = call.decision;
                    if let (Some(known), Some(more)) = (&mut known.cost, call.cost) {
                        known.cpu += more.cpu;
                        known.waited += more.waited;
                    }
                    known.attributes.extend(call.attributes);
                    known.attributes.truncate(ATTRIBUTES);
                    known.failure = known.failure.or(call.failure);
                }
                None => calls.push(call),
            }
        });
    }

    /// A second handle on the same calls, for a body that outlives the exchange.
    pub fn share(&mut self) -> PluginCalls {
        let shared = match std::mem::take(&mut self.0) {
            Hand::Own(calls) => Rc::new(RefCell::new(calls)),
            Hand::Shared(shared) => shared,
        };
        self.0 = Hand::Shared(Rc::clone(&shared));
        PluginCalls(Hand::Shared(shared))
    }

    /// Takes the calls recorded so far.
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
    /// Name of the binding.
    pub binding: Arc<str>,
    /// The phase, by its name in [`Phase`](crate::contracts::Phase).
    pub phase: &'static str,
    /// When the call began; for calls with a body, the first one.
    pub begun: Instant,
    /// How long it took in total.
    pub time: Duration,
    /// Why it failed; `None` if it has a result.
    pub failure: Option<CallFailure>,
    /// What the plugin decided, in words; empty if it failed.
    pub decision: &'static str,
    /// What it cost; measured only if the trace is sampled.
    pub cost: Option<CallCost>,
    /// Attributes that the plugin added to the span, by their names; none unless the trace is sampled.
    pub attributes: Vec<(Box<str>, Box<str>)>,
}

/// The most attributes that a plugin may add to one span.
pub const ATTRIBUTES: usize = 16;

/// A remembered result that was used in place of a call. Noted only if the trace is sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// Name of the binding.
    pub binding: Arc<str>,
    /// The phase of the call that was not made.
    pub phase: &'static str,
    /// When it was used.
    pub at: Instant,
}

/// The number of bytes of a request body so far: written by the body, read at the end of the request.
#[derive(Debug, Clone, Default)]
pub struct Received(Arc<AtomicU64>);

impl Received {
    /// Adds bytes.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All bytes so far.
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The decision of the `access-log` filter for one request.
#[derive(Debug, Default)]
pub struct AccessLog {
    /// Whether the request is written.
    pub share: Share,
    /// Whether the query string is written too. Off by default, because it often contains secrets.
    pub query: bool,
    /// Request headers that are written too.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Whether a request is written to the access log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Share {
    /// It is written.
    #[default]
    Everything,
    /// It is written only if it failed: a fault, a status from 500, a gRPC status that is an error of the server, an incomplete response.
    Failures,
    /// It is not written.
    Nothing,
}
