//! Stands in for a plugin that could not be loaded (`start = "degraded"`): every call fails, so that the binding's
//! `on_failure` applies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use witgate_config::model::{self, OnFailure};
use witgate_exchange::contracts::{
    Answer, Authentication, AuthenticationByBody, Binding, BodyContent, Bucket, Call, CallFailure,
    CallResult, Contracts, Decision, Destination, Gate, LocalResponse, RateLimiting, RefusalByBody,
    RequestOutcome, Routing, RoutingByBody, Transformation,
};

/// A binding without a plugin.
pub(crate) struct Standin {
    name: Arc<str>,
    version: u64,
    contracts: Contracts,
    on_failure: OnFailure,
}

impl Standin {
    /// A stand-in for a binding. `contracts` are those of the file, if it could be read that far.
    ///
    /// If it could not, the binding counts as one that authenticates, so that nobody is admitted because the file
    /// is missing that would have refused them. With `on_failure = "skip"` a route that requires authentication
    /// then responds with 401 until the plugin is loaded.
    pub(crate) fn new(name: &str, binding: &model::Binding, contracts: Option<Contracts>) -> Self {
        let unknown = Contracts { authentication: true, ..Contracts::default() };
        Standin {
            name: Arc::from(name),
            version: next_version(),
            contracts: contracts.unwrap_or(unknown),
            on_failure: binding.on_failure,
        }
    }
}

/// Counts down from the largest number, so that it never meets the versions of plugins, which count up.
fn next_version() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(u64::MAX);
    NEXT.fetch_sub(1, Ordering::Relaxed)
}

fn unavailable<'a, T: 'a>() -> CallResult<'a, T> {
    CallResult::over(Err(CallFailure::Unavailable))
}

impl Binding for Standin {
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn reject_answer(&self, _reason: &str) {}

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
}

impl Gate for Standin {
    fn admit<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<Option<LocalResponse>>> {
        unavailable()
    }
}

impl Authentication for Standin {
    fn authenticate<'a>(&'a self, _call: Call<'a>, _remember: bool) -> CallResult<'a, Decision> {
        unavailable()
    }
}

impl RateLimiting for Standin {
    fn draw<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>> {
        unavailable()
    }
}

impl Routing for Standin {
    fn route<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>> {
        unavailable()
    }
}

/// No body is read for a call that fails.
impl AuthenticationByBody for Standin {
    fn authenticate_by_body<'a>(
        &'a self,
        _call: Call<'a>,
        _content: BodyContent,
    ) -> CallResult<'a, Decision> {
        unavailable()
    }
}

impl RefusalByBody for Standin {
    fn refuse_by_body<'a>(
        &'a self,
        _call: Call<'a>,
        _content: BodyContent,
    ) -> CallResult<'a, Option<LocalResponse>> {
        unavailable()
    }
}

impl RoutingByBody for Standin {
    fn route_by_body<'a>(
        &'a self,
        _call: Call<'a>,
        _content: BodyContent,
    ) -> CallResult<'a, Option<Destination>> {
        unavailable()
    }
}

/// What failed on a request is not shown its bodies, nor its response.
impl Transformation for Standin {
    fn transform_request<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>> {
        unavailable()
    }
}
