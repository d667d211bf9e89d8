//! The seam between the pipeline and whatever runs plugins.
//!
//! The types mirror the WIT package `witgate:plugin`; whatever comes back is untrusted until
//! [`crate::pipeline`] has validated it.

use std::future::{Ready, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{HeaderMap, HeaderName};
use witgate_config::model::OnFailure;

use crate::head::RequestHead;
use crate::snapshot::Snapshot;

/// One binding in service: a plugin with its settings, rights and budgets.
///
/// Calls run on the core that makes them: one that has nothing to wait for is over when its outcome is handed out, any
/// other may be dropped at any await, e.g. because the client went away. Where a call took time, the clock is read at its
/// end ([`crate::turn::read`]): that is how the pipeline knows how long it took.
pub trait Plugin: Send + Sync {
    /// Name of the binding.
    fn binding(&self) -> &Arc<str>;

    /// A number that no other version of any binding has in this process: from a counter, taken anew whenever code,
    /// settings or grants change. What was remembered of one version is never used for another.
    fn version(&self) -> u64;

    /// Which contracts it implements.
    fn contracts(&self) -> Contracts;

    /// What it looks at.
    fn interest(&self) -> &Interest;

    /// What becomes of a request whose call failed.
    fn on_failure(&self) -> OnFailure;

    /// What the pipeline itself must hold the binding to.
    fn limits(&self) -> PluginLimits;

    /// Whether its answers may be remembered at all.
    fn remembers(&self) -> bool;

    /// An answer of an earlier call was used again in place of a call.
    fn answered_again(&self);

    /// Upstreams the routing contract may choose.
    fn may_route_to(&self, upstream: &str) -> bool;

    /// The answer of an earlier call broke a rule that only the pipeline could check; counts as a failed call.
    fn reject_answer(&self, reason: &str);

    /// Why and since when no calls are made of it but probes; none: it is in service.
    fn quarantine(&self) -> Option<Quarantined> {
        None
    }

    /// Contract `authentication`. An acceptance need not name its inputs if it is not to be remembered.
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision>;

    /// Contract `rate-limiting`.
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>>;

    /// Contract `routing`.
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>>;

    /// Contract `transformation`, head of a request.
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>>;

    /// Contract `transformation`, body of a request.
    fn transform_request_body<'a>(&'a self, call: Call<'a>, piece: Piece) -> CallResult<'a, BodyResult>;

    /// Contract `transformation`, head of a response.
    fn transform_response<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>>;

    /// Contract `transformation`, body of a response.
    fn transform_response_body<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        piece: Piece,
    ) -> CallResult<'a, BodyResult>;
}

/// A binding in quarantine: its calls fail without being made, but for one probe at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    /// For how long it has been.
    pub lasted: Duration,
    /// Whether the next call probes it; else it still rests.
    pub probing: bool,
    /// Why, with figures, e.g. `20 of 20 calls within 10s failed`.
    pub cause: String,
}

/// A call, made or under way.
pub type CallResult<'a, T> = MaybeReady<'a, Result<T, CallFailure>>;

/// What is there, or is waited for.
///
/// Most calls are over before there is anything to wait for. Their answers come as they are: a boxed future for each
/// was the dearest allocation of a call.
pub enum MaybeReady<'a, T> {
    /// It is there.
    Ready(Ready<T>),
    /// It waits for something: an import, or an instance.
    Pending(LocalBoxFuture<'a, T>),
}

impl<'a, T> MaybeReady<'a, T> {
    /// What is there.
    pub fn over(answer: T) -> Self {
        MaybeReady::Ready(ready(answer))
    }

    /// What is waited for.
    pub fn waiting(call: impl Future<Output = T> + 'a) -> Self {
        MaybeReady::Pending(Box::pin(call))
    }
}

impl<T> Future for MaybeReady<'_, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            MaybeReady::Ready(answer) => Pin::new(answer).poll(context),
            MaybeReady::Pending(call) => call.as_mut().poll(context),
        }
    }
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

/// What every call is given.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The request. The runtime may keep a clone of the `Arc` for the length of the call only.
    pub head: &'a Arc<RequestHead>,
    /// The snapshot of the request: where `fetch` finds its upstreams.
    pub snapshot: &'a Arc<Snapshot>,
}

/// Which contracts a plugin exports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts")]
pub struct Contracts {
    pub authentication: bool,
    pub rate_limiting: bool,
    pub routing: bool,
    pub transformation: bool,
}

/// What a plugin looks at, as `lifecycle.configure` answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Lower-case names of request headers.
    pub request_headers: Vec<HeaderName>,
    /// Lower-case names of response headers.
    pub response_headers: Vec<HeaderName>,
    /// Access to the request body.
    pub request_body: BodyAccess,
    /// Access to the response body.
    pub response_body: BodyAccess,
    /// Whether it wants to see response heads.
    pub response: bool,
    /// What comes in with `authenticate`; none: everything. Also what an acceptance is based on that names nothing itself.
    pub authenticates_by: Option<Box<[Input]>>,
    /// The inputs of functions that answer by nothing else, by [`Function::ALL`]; none: it made no such promise.
    pub pure: [Option<Box<[Input]>>; Function::ALL.len()],
}

impl Interest {
    /// What a function depends on, if it is declared pure.
    pub fn inputs(&self, function: Function) -> Option<&[Input]> {
        self.pure[function as usize].as_deref()
    }
}

/// The functions that may be declared pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of the contracts' functions")]
pub enum Function {
    Draw,
    Route,
    OnRequest,
    OnResponse,
}

impl Function {
    /// Every function.
    pub const ALL: [Function; 4] =
        [Function::Draw, Function::Route, Function::OnRequest, Function::OnResponse];

    /// The name in the contract.
    pub fn as_str(self) -> &'static str {
        match self {
            Function::Draw => "draw",
            Function::Route => "route",
            Function::OnRequest => "on-request",
            Function::OnResponse => "on-response",
        }
    }
}

/// Something of a request that an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names of parts of a request")]
pub enum Input {
    Header(HeaderName),
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    ClientCertificate,
    Identity,
    Route,
    PathParameter(Box<str>),
}

/// Inputs one answer may depend on.
pub const INPUTS: usize = 32;

/// How a plugin sees a body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BodyAccess {
    /// Not at all.
    #[default]
    None,
    /// Whole.
    Buffered,
    /// Chunk by chunk.
    Streamed,
}

/// Budgets of a binding that the pipeline enforces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PluginLimits {
    /// Bytes of a buffered body, as it came and decoded. Streamed bodies are bounded by their ratio to what came.
    pub body: usize,
    /// Bytes of context.
    pub context: usize,
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

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The principal.
    pub subject: String,
    /// Facts about it.
    pub claims: Vec<(String, String)>,
    /// Name of the binding that recognised it; set by the pipeline.
    pub binding: Arc<str>,
}

impl Identity {
    /// A fact by its name.
    pub fn claim(&self, wanted: &str) -> Option<&str> {
        self.claims.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }
}

/// A header as a plugin writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Untrusted name.
    pub name: String,
    /// Untrusted value.
    pub value: Bytes,
}

/// An edit of a header section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Replaces all values.
    Set(Header),
    /// Adds a value.
    Append(Header),
    /// Removes all values.
    Remove(String),
    /// Replaces all values.
    SetComposed(ComposedHeader),
    /// Adds a value.
    AppendComposed(ComposedHeader),
}

/// A header whose value is put together for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedHeader {
    /// Untrusted name.
    pub name: String,
    /// Untrusted parts of the value.
    pub value: Vec<ValuePart>,
}

/// A part of a composed value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of parts of a request, and of a response")]
pub enum ValuePart {
    Text(Bytes),
    Method,
    Path,
    Query,
    Authority,
    Scheme,
    OriginalPath,
    ClientAddress,
    Route,
    PathParameter(String),
    RequestHeader(String),
    RequestId,
    TraceParent,
    Subject,
    Claim(String),
    Status,
    ResponseHeader(String),
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    /// Untrusted status.
    pub status: u16,
    /// Untrusted headers.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}

/// Answer of `authentication`.
#[derive(Debug, Clone)]
pub enum Decision {
    /// The caller is known.
    Accepted(Acceptance),
    /// The credentials are not good.
    Refused(LocalResponse),
    /// No credentials of this kind; challenges for a 401.
    NotMine(Vec<String>),
}

/// A recognised caller.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// The principal.
    pub subject: String,
    /// Facts about it.
    pub claims: Vec<(String, String)>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
    /// How long the decision may be remembered; zero: never.
    pub cacheable_for: Duration,
    /// What the decision looked at; empty, or more than [`INPUTS`]: not to be remembered.
    pub inputs: Vec<Input>,
}

/// One limit a request draws on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Name shown in `RateLimit-Policy`.
    pub policy: String,
    /// Whose bucket.
    pub key: String,
    /// What this request costs; 0 only asks.
    pub cost: u32,
    /// Allowed in each window.
    pub limit: u32,
    /// The window.
    pub window: Duration,
    /// Allowed at once; none: `limit`.
    pub burst: Option<u32>,
}

/// Answer of `routing`.
#[derive(Debug, Clone, Default)]
pub struct Destination {
    /// A granted upstream.
    pub upstream: Option<String>,
    /// Path and query.
    pub path: Option<String>,
    /// Key for hashing balancers.
    pub hash_key: Option<Bytes>,
    /// Time for the whole request.
    pub timeout: Option<Duration>,
    /// Headers for the response.
    pub response_headers: Vec<Header>,
}

/// Answer of `transformation.on-request`.
#[derive(Debug, Clone)]
pub enum RequestOutcome {
    /// Go on with changes.
    Proceed(RequestChanges),
    /// Answer at once.
    Respond(LocalResponse),
}

/// Changes to a request's head.
#[derive(Debug, Clone, Default)]
pub struct RequestChanges {
    /// Header edits in order.
    pub headers: Vec<HeaderChange>,
    /// Path and query.
    pub path: Option<String>,
    /// Method.
    pub method: Option<String>,
    /// Handed to the later calls.
    pub context: Bytes,
}

/// A response's head as plugins see it.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Trailers, in the last body call.
    pub trailers: Option<HeaderMap>,
    /// Whether the gateway made it.
    pub local: bool,
}

/// Answer of `transformation.on-response`.
#[derive(Debug, Clone)]
pub enum ResponseOutcome {
    /// Go on with changes.
    Proceed(ResponseChanges),
    /// Send this instead.
    Respond(LocalResponse),
}

/// Changes to a response's head.
#[derive(Debug, Clone, Default)]
pub struct ResponseChanges {
    /// Header edits in order.
    pub headers: Vec<HeaderChange>,
    /// Status.
    pub status: Option<u16>,
    /// New context.
    pub context: Option<Bytes>,
}

/// A piece of a body on its way to a plugin.
#[derive(Debug, Clone)]
pub struct Piece {
    /// Decoded bytes.
    pub content: Bytes,
    /// Whether it is the last.
    pub end: bool,
    /// The context.
    pub context: Bytes,
}

/// Answer of a body call.
#[derive(Debug, Clone, Default)]
pub struct BodyResult {
    /// Bytes to pass on; none: those given.
    pub output: Option<Bytes>,
    /// New context.
    pub context: Option<Bytes>,
}
