//! A binding in service, as the data path sees it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use witgate_config::model::{LogLevel, OnFailure};
use witgate_exchange::contracts::{
    Answer, Authentication, AuthenticationByBody, Binding, BodyContent, BodyResult, Bucket, Call,
    CallFailure, CallResult, Contracts, Decision, Destination, Gate, Interest, LocalResponse, Measured,
    Observer, Piece, PluginLimits, Quarantined, RateLimiting, RefusalByBody, RequestOutcome, ResponseHead,
    ResponseOutcome, Routing, RoutingByBody, Transformation,
};
use witgate_exchange::credentials::Credentials;
use witgate_exchange::turn;

use super::Loaded;
use crate::call::{authentication, by_body, gate, rate_limiting, routing, transformation};
use crate::quarantine::Health;

impl Binding for Loaded {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn interest(&self) -> &Interest {
        &self.interest
    }

    fn credentials(&self) -> &Credentials {
        &self.pool.rights().credentials
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn limits(&self) -> PluginLimits {
        let budget = &self.pool.rights().budget;
        PluginLimits { body: budget.body_limit, context: budget.context_limit }
    }

    fn measured(&self) -> Measured {
        self.meter().measured()
    }

    fn remembers(&self) -> bool {
        self.remember
    }

    fn answered_again(&self) {
        self.meter().answered_again();
    }

    fn settles(&self) -> bool {
        self.settles
    }

    fn leaves_notes(&self) -> bool {
        let grants = &self.pool.rights().grants;
        !grants.upstream_hosts.is_empty()
            || grants.notes.as_ref().is_some_and(|notes| !notes.write.is_empty())
    }

    fn may_route_to(&self, upstream: &str) -> bool {
        let granted = self.pool.rights().grants.route_to.iter().any(|granted| granted == upstream);
        if !granted {
            self.meter().grant_refused();
        }
        granted
    }

    fn reject_answer(&self, reason: &str) {
        self.meter().failed(CallFailure::Output);
        self.complain(LogLevel::Warn, &format!("its answer cannot be used: {reason}"));
        let (made, now) = (self.record.failure(), turn::now());
        self.fail_on_trial(made, false, now);
        self.quarantined(self.quarantine.rejected(made, now));
    }

    fn quarantine(&self) -> Option<Quarantined> {
        let now = Instant::now();
        let open = self.quarantine.open(now)?;
        Some(Quarantined {
            lasted: open.lasted,
            probing: self.quarantine.health(now) == Health::Probing,
            cause: open.cause.to_string(),
        })
    }

    fn gate(self: Arc<Self>) -> Option<Arc<dyn Gate>> {
        self.contracts.gate.then_some(self as _)
    }

    fn authentication(self: Arc<Self>) -> Option<Arc<dyn Authentication>> {
        self.contracts.authentication.then_some(self as _)
    }

    fn authentication_by_body(self: Arc<Self>) -> Option<Arc<dyn AuthenticationByBody>> {
        self.contracts.authentication_by_body.then_some(self as _)
    }

    fn rate_limiting(self: Arc<Self>) -> Option<Arc<dyn RateLimiting>> {
        self.contracts.rate_limiting.then_some(self as _)
    }

    fn refusal_by_body(self: Arc<Self>) -> Option<Arc<dyn RefusalByBody>> {
        self.contracts.refusal_by_body.then_some(self as _)
    }

    fn routing(self: Arc<Self>) -> Option<Arc<dyn Routing>> {
        self.contracts.routing.then_some(self as _)
    }

    fn routing_by_body(self: Arc<Self>) -> Option<Arc<dyn RoutingByBody>> {
        self.contracts.routing_by_body.then_some(self as _)
    }

    fn transformation(self: Arc<Self>) -> Option<Arc<dyn Transformation>> {
        self.contracts.transformation.then_some(self as _)
    }

    fn background(&self) -> Contracts {
        Contracts { observe: self.contracts.observe, tick: self.contracts.tick, ..Contracts::default() }
    }

    fn observer(self: Arc<Self>) -> Option<Arc<dyn Observer>> {
        if self.contracts.observe { self.background.observer(&self) } else { None }
    }
}

impl Gate for Loaded {
    fn admit<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<LocalResponse>>> {
        self.outcome(|lease| gate::admit(self, lease, call))
    }
}

impl Authentication for Loaded {
    fn authenticate<'a>(&'a self, call: Call<'a>, remember: bool) -> CallResult<'a, Decision> {
        self.outcome(|lease| authentication::authenticate(self, lease, call, remember))
    }
}

impl RateLimiting for Loaded {
    fn draw<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>> {
        self.outcome(|lease| rate_limiting::draw(self, lease, call))
    }
}

impl Routing for Loaded {
    fn route<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>> {
        self.outcome(|lease| routing::route(self, lease, call))
    }
}

impl AuthenticationByBody for Loaded {
    fn authenticate_by_body<'a>(&'a self, call: Call<'a>, content: BodyContent) -> CallResult<'a, Decision> {
        self.outcome(|lease| by_body::authenticate(self, lease, call, content))
    }
}

impl RefusalByBody for Loaded {
    fn refuse_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<LocalResponse>> {
        self.outcome(|lease| by_body::check(self, lease, call, content))
    }
}

impl RoutingByBody for Loaded {
    fn route_by_body<'a>(
        &'a self,
        call: Call<'a>,
        content: BodyContent,
    ) -> CallResult<'a, Option<Destination>> {
        self.outcome(|lease| by_body::route(self, lease, call, content))
    }
}

impl Transformation for Loaded {
    fn transform_request<'a>(&'a self, call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>> {
        self.outcome(|lease| transformation::request(self, lease, call))
    }

    fn transform_request_body<'a>(&'a self, call: Call<'a>, piece: Piece) -> CallResult<'a, BodyResult> {
        self.outcome(|lease| transformation::request_body(self, lease, call, piece))
    }

    fn transform_response<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        self.outcome(|lease| transformation::response_head(self, lease, call, response, context))
    }

    fn transform_response_body<'a>(
        &'a self,
        call: Call<'a>,
        response: Arc<ResponseHead>,
        piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        self.outcome(|lease| transformation::response_body(self, lease, call, response, piece))
    }
}
