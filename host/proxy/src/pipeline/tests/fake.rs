//! A plugin whose results are made by closures.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use witgate_config::model::OnFailure;

use witgate_exchange::contracts::*;
use witgate_exchange::head::RequestHead;

static VERSIONS: AtomicU64 = AtomicU64::new(1);

type Closure<Argument, T> = Box<dyn Fn(Argument) -> Result<T, CallFailure> + Send + Sync>;

/// The inputs of a call with a piece of a body.
pub(super) struct RecordedCall {
    pub(super) content: Bytes,
    pub(super) end: bool,
    pub(super) context: Bytes,
    pub(super) head: Arc<RequestHead>,
    pub(super) response: Option<Arc<ResponseHead>>,
}

/// A native plugin.
pub(super) struct Fake {
    binding: Arc<str>,
    version: u64,
    contracts: Contracts,
    pub(super) interest: Interest,
    pub(super) on_failure: OnFailure,
    pub(super) limits: PluginLimits,
    pub(super) granted: Vec<&'static str>,
    rejected: Mutex<Vec<String>>,
    calls: AtomicU64,
    again: AtomicU64,
    to_remember: AtomicU64,
    pub(super) remembers: bool,
    /// Whether its calls are as pure as declared.
    pub(super) keeps_promises: bool,
    authenticate: Option<Closure<Arc<RequestHead>, Decision>>,
    admit: Option<Closure<Arc<RequestHead>, Option<LocalResponse>>>,
    authenticate_by_body: Option<Closure<BodyContent, Decision>>,
    refuse_by_body: Option<Closure<BodyContent, Option<LocalResponse>>>,
    route_by_body: Option<Closure<BodyContent, Option<Destination>>>,
    draw: Option<Closure<Arc<RequestHead>, Vec<Bucket>>>,
    route: Option<Closure<Arc<RequestHead>, Option<Destination>>>,
    request: Option<Closure<Arc<RequestHead>, RequestOutcome>>,
    response: Option<Closure<(Arc<ResponseHead>, Bytes), ResponseOutcome>>,
    body: Option<Closure<RecordedCall, BodyResult>>,
}

impl Fake {
    pub(super) fn new(binding: &str) -> Self {
        Fake {
            binding: binding.into(),
            version: VERSIONS.fetch_add(1, Ordering::Relaxed),
            contracts: Contracts::default(),
            interest: Interest::default(),
            on_failure: OnFailure::Deny,
            limits: PluginLimits { body: 1 << 20, context: 16 },
            granted: Vec::new(),
            rejected: Mutex::default(),
            calls: AtomicU64::new(0),
            again: AtomicU64::new(0),
            to_remember: AtomicU64::new(0),
            remembers: true,
            keeps_promises: true,
            authenticate: None,
            admit: None,
            authenticate_by_body: None,
            refuse_by_body: None,
            route_by_body: None,
            draw: None,
            route: None,
            request: None,
            response: None,
            body: None,
        }
    }

    pub(super) fn skip(mut self) -> Self {
        self.on_failure = OnFailure::Skip;
        self
    }

    pub(super) fn authenticate<F>(mut self, answer: F) -> Self
    where
        F: Fn(Arc<RequestHead>) -> Result<Decision, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.authentication = true;
        self.authenticate = Some(Box::new(answer));
        self
    }

    pub(super) fn admit<F>(mut self, answer: F) -> Self
    where
        F: Fn(Arc<RequestHead>) -> Result<Option<LocalResponse>, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.gate = true;
        self.admit = Some(Box::new(answer));
        self
    }

    pub(super) fn authenticate_by_body<F>(mut self, reading: Reading, answer: F) -> Self
    where
        F: Fn(BodyContent) -> Result<Decision, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.authentication_by_body = true;
        self.interest.authenticates_by_body = Some(reading);
        self.authenticate_by_body = Some(Box::new(answer));
        self
    }

    pub(super) fn refuse_by_body<F>(mut self, reading: Reading, answer: F) -> Self
    where
        F: Fn(BodyContent) -> Result<Option<LocalResponse>, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.refusal_by_body = true;
        self.interest.refuses_by_body = Some(reading);
        self.refuse_by_body = Some(Box::new(answer));
        self
    }

    pub(super) fn route_by_body<F>(mut self, reading: Reading, answer: F) -> Self
    where
        F: Fn(BodyContent) -> Result<Option<Destination>, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.routing_by_body = true;
        self.interest.routes_by_body = Some(reading);
        self.route_by_body = Some(Box::new(answer));
        self
    }

    pub(super) fn draw<F>(mut self, answer: F) -> Self
    where
        F: Fn(Arc<RequestHead>) -> Result<Vec<Bucket>, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.rate_limiting = true;
        self.draw = Some(Box::new(answer));
        self
    }

    pub(super) fn route<F>(mut self, answer: F) -> Self
    where
        F: Fn(Arc<RequestHead>) -> Result<Option<Destination>, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.routing = true;
        self.route = Some(Box::new(answer));
        self
    }

    pub(super) fn request<F>(mut self, answer: F) -> Self
    where
        F: Fn(Arc<RequestHead>) -> Result<RequestOutcome, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.transformation = true;
        self.request = Some(Box::new(answer));
        self
    }

    pub(super) fn response<F>(mut self, answer: F) -> Self
    where
        F: Fn((Arc<ResponseHead>, Bytes)) -> Result<ResponseOutcome, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.transformation = true;
        self.interest.response = true;
        self.response = Some(Box::new(answer));
        self
    }

    /// Declares access to bodies of requests, of responses or both, and sets the closure for the calls.
    pub(super) fn body<F>(mut self, request: BodyAccess, response: BodyAccess, answer: F) -> Self
    where
        F: Fn(RecordedCall) -> Result<BodyResult, CallFailure> + Send + Sync + 'static,
    {
        self.contracts.transformation = true;
        self.interest.request_body = request;
        self.interest.response_body = response;
        self.body = Some(Box::new(answer));
        self
    }

    /// Declares a function pure.
    pub(super) fn pure(mut self, function: Function, inputs: &[Input]) -> Self {
        self.interest.pure[function as usize] = Some(inputs.into());
        self
    }

    /// Number of calls of `authenticate` whose acceptance was to be remembered.
    pub(super) fn to_remember(&self) -> u64 {
        self.to_remember.load(Ordering::Relaxed)
    }

    /// Number of remembered results that were used again.
    pub(super) fn again(&self) -> u64 {
        self.again.load(Ordering::Relaxed)
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub(super) fn rejected(&self) -> Vec<String> {
        self.rejected.lock().expect("no panic").clone()
    }

    /// Every call waits once, as one that fetches does, so that nothing relies on calls being ready at once.
    fn answer<'a, Argument: 'a, T: 'a>(
        &'a self,
        answer: Option<&'a Closure<Argument, T>>,
        given: Argument,
        default: T,
    ) -> CallResult<'a, T> {
        CallResult::waiting(async move {
            tokio::task::yield_now().await;
            self.calls.fetch_add(1, Ordering::Relaxed);
            answer.map_or(Ok(default), |answer| answer(given))
        })
    }

    /// The result of a function that may be declared pure.
    fn pure_answer<'a, Argument: 'a, T: 'a>(
        &'a self,
        function: Function,
        answer: Option<&'a Closure<Argument, T>>,
        given: Argument,
        default: T,
    ) -> CallResult<'a, Answer<T>> {
        let pure = self.keeps_promises && self.interest.inputs(function).is_some();
        let outcome = self.answer(answer, given, default);
        CallResult::waiting(async move { outcome.await.map(|content| Answer { content, pure }) })
    }
}

impl Binding for Fake {
    fn name(&self) -> &Arc<str> {
        &self.binding
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn limits(&self) -> PluginLimits {
        self.limits
    }

    fn remembers(&self) -> bool {
        self.remembers
    }

    fn answered_again(&self) {
        self.again.fetch_add(1, Ordering::Relaxed);
    }

    fn may_route_to(&self, upstream: &str) -> bool {
        self.granted.contains(&upstream)
    }

    fn reject_answer(&self, reason: &str) {
        self.rejected.lock().expect("no panic").push(reason.to_owned());
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        self.contracts.gate.then_some(self as _)
    }

    fn authentication_by_body(self: Arc<Self>) -> Option<Arc<dyn AuthenticationByBody>> {
        self.contracts.authentication_by_body.then_some(self as _)
    }

    fn refusal_by_body(self: Arc<Self>) -> Option<Arc<dyn RefusalByBody>> {
        self.contracts.refusal_by_body.then_some(self as _)
    }

    fn routing_by_body(self: Arc<Self>) -> Option<Arc<dyn RoutingByBody>> {
        self.contracts.routing_by_body.then_some(self as _)
    }

    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        self.contracts.authentication.then_some(self as _)
    }

    fn rate_limiting(self: Arc<Self>) -> Option<Arc<dyn RateLimiting>> {
        self.contracts.rate_limiting.then_some(self as _)
    }

    fn routing(self: Arc<Self>) -> Option<Arc<dyn Routing>> {
        self.contracts.routing.then_some(self as _)
    }

    fn transformation(self: Arc<Self>) -> Option<Arc<dyn Transformation>> {
        self.contracts.transformation.then_some(self as _)
    }
}

impl Gate for Fake {
    fn admit<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<LocalResponse>>> {
        self.pure_answer(Function::Admit, self.admit.as_ref(), Arc::clone(call.head), None)
    }
}

impl AuthenticationByBody for Fake {
    fn authenticate_by_body<'a>(&'a self, _call: Call<'a>, content: BodyContent) -> CallResult<'a, Decision> {
        self.answer(self.authenticate_by_body.as_ref(), content, Decision::NotMine(Vec::new()))
    }
}

impl RefusalByBody for Fake {
    fn refuse_by_body<'a>(
        &'a self,
        _call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<LocalResponse>> {
        self.answer(self.refuse_by_body.as_ref(), content, None)
    }
}

impl RoutingByBody for Fake {
    fn route_by_body<'a>(
        &'a self,
        _call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<Destination>> {
        self.answer(self.route_by_body.as_ref(), content, None)
    }
}

impl Authentication for Fake {
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision> {
        self.to_remember.fetch_add(u64::from(remember), Ordering::Relaxed);
        self.answer(self.authenticate.as_ref(), Arc::clone(call.head), Decision::NotMine(Vec::new()))
    }
}

impl RateLimiting for Fake {
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>> {
        self.pure_answer(Function::Draw, self.draw.as_ref(), Arc::clone(call.head), Vec::new())
    }
}

impl Routing for Fake {
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>> {
        self.pure_answer(Function::Route, self.route.as_ref(), Arc::clone(call.head), None)
    }
}

impl Transformation for Fake {
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>> {
        let default = RequestOutcome::Proceed(RequestChanges::default());
        self.pure_answer(Function::OnRequest, self.request.as_ref(), Arc::clone(call.head), default)
    }

    fn transform_request_body<'a>(&'a self, call: Call<'a>, piece: Piece) -> CallResult<'a, BodyResult> {
        let Piece { content, end, context } = piece;
        let given = RecordedCall { content, end, context, head: Arc::clone(call.head), response: None };
        self.answer(self.body.as_ref(), given, BodyResult::default())
    }

    fn transform_response<'a>(
        &'a self,
        _call: Call<'a>,
        response: Arc<ResponseHead>,
        context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        let default = ResponseOutcome::Proceed(ResponseChanges::default());
        self.pure_answer(Function::OnResponse, self.response.as_ref(), (response, context), default)
    }

    fn transform_response_body<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        let Piece { content, end, context } = piece;
        let given =
            RecordedCall { content, end, context, head: Arc::clone(call.head), response: Some(response) };
        self.answer(self.body.as_ref(), given, BodyResult::default())
    }
}

/// A header as a plugin writes it.
pub(super) fn header(name: &str, value: &str) -> Header {
    Header { name: name.to_owned(), value: Bytes::copy_from_slice(value.as_bytes()) }
}

/// Changes of a request's head that set one header.
pub(super) fn set(name: &str, value: &str) -> RequestChanges {
    RequestChanges { headers: vec![HeaderChange::Set(header(name, value))], ..RequestChanges::default() }
}

/// A complete response.
pub(super) fn local(status: u16, headers: Vec<Header>, body: &'static str) -> LocalResponse {
    LocalResponse { status, headers, body: Bytes::from_static(body.as_bytes()) }
}
