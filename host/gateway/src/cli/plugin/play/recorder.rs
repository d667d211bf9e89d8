//! A binding around the plugin that notes what each call decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;
use witgate_config::model::OnFailure;
use witgate_exchange::contracts::{
    Acceptance, Answer, Authentication, AuthenticationByBody, Binding, BodyContent, BodyResult, Bucket, Call,
    CallFailure, CallResult, Contracts, Decision, Destination, Gate, Interest, LocalResponse, MaybeReady,
    Observer, Phase, Piece, PluginLimits, Quarantined, RateLimiting, RefusalByBody, RequestOutcome,
    ResponseHead, ResponseOutcome, Routing, RoutingByBody, Transformation,
};
use witgate_exchange::credentials::Credentials;

use super::journal::{Event, Journal};
use crate::cli::plugin::told;

/// A caller whom the file says, in place of an authentication plugin.
pub(super) struct Caller {
    pub(super) subject: String,
    pub(super) claims: Vec<(String, String)>,
}

/// The plugin, with a journal of its calls.
pub(super) struct Recorder {
    plugin: Arc<dyn Binding>,
    journal: Arc<Journal>,
    caller: Option<Caller>,
    gate: Option<Arc<dyn Gate>>,
    authentication: Option<Arc<dyn Authentication>>,
    authentication_by_body: Option<Arc<dyn AuthenticationByBody>>,
    rate_limiting: Option<Arc<dyn RateLimiting>>,
    refusal_by_body: Option<Arc<dyn RefusalByBody>>,
    routing: Option<Arc<dyn Routing>>,
    routing_by_body: Option<Arc<dyn RoutingByBody>>,
    transformation: Option<Arc<dyn Transformation>>,
}

impl Recorder {
    /// Puts a recorder around a plugin.
    pub(super) fn new(plugin: &Arc<dyn Binding>, journal: Arc<Journal>, caller: Option<Caller>) -> Recorder {
        let of = || Arc::clone(plugin);
        Recorder {
            plugin: of(),
            journal,
            caller,
            gate: of().gate(),
            authentication: of().authentication(),
            authentication_by_body: of().authentication_by_body(),
            rate_limiting: of().rate_limiting(),
            refusal_by_body: of().refusal_by_body(),
            routing: of().routing(),
            routing_by_body: of().routing_by_body(),
            transformation: of().transformation(),
        }
    }

    /// Makes a call and notes its result.
    fn note<'a, T: 'a>(
        &'a self,
        phase: Phase,
        call: impl FnOnce() -> CallResult<'a, T>,
        tell: impl Fn(&T) -> Value + 'a,
    ) -> CallResult<'a, T> {
        let begun = Instant::now();
        let note = move |result: &Result<T, CallFailure>, time: Duration| {
            let decision = result.as_ref().map(&tell).map_err(|failure| failure.describe().to_owned());
            self.journal.note(Event::Call {
                phase: phase.as_str(),
                decision,
                microseconds: time.as_secs_f64() * 1e6,
            });
        };
        match call() {
            MaybeReady::Ready(result) => {
                let result = result.into_inner();
                note(&result, begun.elapsed());
                CallResult::over(result)
            }
            MaybeReady::Pending(call) => CallResult::waiting(async move {
                let result = call.await;
                note(&result, begun.elapsed());
                result
            }),
        }
    }
}

/// The part of the plugin that a call is for. It is there, because only contracts that the plugin serves are offered.
fn part<T: ?Sized>(part: &Option<Arc<T>>) -> Result<&T, CallFailure> {
    part.as_deref().ok_or(CallFailure::Unavailable)
}

/// Calls the part of the plugin, or fails.
macro_rules! call {
    ($recorder:ident.$part:ident, $phase:expr, $tell:expr, |$plugin:ident| $call:expr) => {
        match part(&$recorder.$part) {
            Ok($plugin) => $recorder.note($phase, || $call, $tell),
            Err(failure) => CallResult::over(Err(failure)),
        }
    };
}

impl Binding for Recorder {
    fn name(&self) -> &Arc<str> {
        self.plugin.name()
    }

    fn version(&self) -> u64 {
        self.plugin.version()
    }

    fn on_failure(&self) -> OnFailure {
        self.plugin.on_failure()
    }

    fn interest(&self) -> &Interest {
        self.plugin.interest()
    }

    fn credentials(&self) -> &Credentials {
        self.plugin.credentials()
    }

    fn limits(&self) -> PluginLimits {
        self.plugin.limits()
    }

    fn remembers(&self) -> bool {
        self.plugin.remembers()
    }

    fn may_route_to(&self, upstream: &str) -> bool {
        self.plugin.may_route_to(upstream)
    }

    fn reject_answer(&self, reason: &str) {
        self.journal.note(Event::Refused { reason: reason.to_owned() });
        self.plugin.reject_answer(reason);
    }

    fn quarantine(&self) -> Option<Quarantined> {
        self.plugin.quarantine()
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        self.gate.is_some().then_some(self as _)
    }

    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        (self.authentication.is_some() || self.caller.is_some()).then_some(self as _)
    }

    fn authentication_by_body(self: Arc<Self>) -> Option<Arc<dyn AuthenticationByBody>> {
        self.authentication_by_body.is_some().then_some(self as _)
    }

    fn rate_limiting(self: Arc<Self>) -> Option<Arc<dyn RateLimiting>> {
        self.rate_limiting.is_some().then_some(self as _)
    }

    fn refusal_by_body(self: Arc<Self>) -> Option<Arc<dyn RefusalByBody>> {
        self.refusal_by_body.is_some().then_some(self as _)
    }

    fn routing(self: Arc<Self>) -> Option<Arc<dyn Routing>> {
        self.routing.is_some().then_some(self as _)
    }

    fn routing_by_body(self: Arc<Self>) -> Option<Arc<dyn RoutingByBody>> {
        self.routing_by_body.is_some().then_some(self as _)
    }

    fn transformation(self: Arc<Self>) -> Option<Arc<dyn Transformation>> {
        self.transformation.is_some().then_some(self as _)
    }

    fn background(&self) -> Contracts {
        self.plugin.background()
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        Arc::clone(&self.plugin).observer()
    }
}

impl Gate for Recorder {
    fn admit<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<LocalResponse>>> {
        call!(self.gate, Phase::Gate, |answer| told::answer(answer.content.as_ref()), |plugin| plugin
            .admit(call))
    }
}

impl Authentication for Recorder {
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision> {
        if let Some(caller) = &self.caller {
            return CallResult::over(Ok(Decision::Accepted(Acceptance {
                subject: caller.subject.clone(),
                claims: caller.claims.clone(),
                response_headers: Vec::new(),
                cacheable_for: Duration::ZERO,
                inputs: Vec::new(),
            })));
        }
        call!(self.authentication, Phase::Authentication, told::decision, |plugin| plugin
            .authenticate(call, remember))
    }
}

impl AuthenticationByBody for Recorder {
    fn authenticate_by_body<'a>(&'a self, call: Call<'a>, content: BodyContent) -> CallResult<'a, Decision> {
        call!(self.authentication_by_body, Phase::AuthenticationByBody, told::decision, |plugin| {
            plugin.authenticate_by_body(call, content)
        })
    }
}

impl RateLimiting for Recorder {
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>> {
        call!(self.rate_limiting, Phase::RateLimiting, |answer| told::buckets(&answer.content), |plugin| {
            plugin.draw(call)
        })
    }
}

impl RefusalByBody for Recorder {
    fn refuse_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<LocalResponse>> {
        call!(self.refusal_by_body, Phase::RefusalByBody, |answer| told::answer(answer.as_ref()), |plugin| {
            plugin.refuse_by_body(call, content)
        })
    }
}

impl Routing for Recorder {
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>> {
        call!(self.routing, Phase::Routing, |answer| told::destination(answer.content.as_ref()), |plugin| {
            plugin.route(call)
        })
    }
}

impl RoutingByBody for Recorder {
    fn route_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<Destination>> {
        call!(
            self.routing_by_body,
            Phase::RoutingByBody,
            |chosen| told::destination(chosen.as_ref()),
            |plugin| { plugin.route_by_body(call, content) }
        )
    }
}

impl Transformation for Recorder {
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>> {
        call!(
            self.transformation,
            Phase::Request,
            |answer| told::request_outcome(&answer.content),
            |plugin| { plugin.transform_request(call) }
        )
    }

    fn transform_request_body<'a>(&'a self, call: Call<'a>, piece: Piece) -> CallResult<'a, BodyResult> {
        call!(self.transformation, Phase::RequestBody, told::body, |plugin| {
            plugin.transform_request_body(call, piece)
        })
    }

    fn transform_response<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        call!(
            self.transformation,
            Phase::Response,
            |answer| told::response_outcome(&answer.content),
            |plugin| { plugin.transform_response(call, response, context) }
        )
    }

    fn transform_response_body<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        call!(self.transformation, Phase::ResponseBody, told::body, |plugin| {
            plugin.transform_response_body(call, response, piece)
        })
    }
}
