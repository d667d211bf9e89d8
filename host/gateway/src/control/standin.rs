//! Stands in for a plugin that could not be loaded (`start = "degraded"`): every call fails, so that the binding's
//! `on_failure` applies.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use witgate_config::model::{Binding, OnFailure};
use witgate_proxy::pipeline::plugin::{
    Answer, BodyResult, Bucket, Call, CallFailure, CallResult, Contracts, Decision, Destination, Interest,
    Piece, Plugin, PluginLimits, RequestOutcome, ResponseHead, ResponseOutcome,
};

/// A binding without a plugin.
pub(crate) struct Standin {
    binding: Arc<str>,
    version: u64,
    contracts: Contracts,
    interest: Interest,
    on_failure: OnFailure,
    limits: PluginLimits,
}

impl Standin {
    /// A stand-in for a binding. `contracts` are those of the file, if it could be read that far.
    ///
    /// If it could not, the binding counts as one that authenticates, so that nobody is admitted because the file
    /// is missing that would have refused them. With `on_failure = "skip"` a route that requires authentication
    /// then responds with 401 until the plugin is loaded.
    pub(crate) fn new(name: &str, binding: &Binding, contracts: Option<Contracts>) -> Self {
        let unknown = Contracts { authentication: true, ..Contracts::default() };
        Standin {
            binding: Arc::from(name),
            version: next_version(),
            contracts: contracts.unwrap_or(unknown),
            interest: Interest::default(),
            on_failure: binding.on_failure,
            limits: PluginLimits { body: binding.budget.body_limit, context: binding.budget.context_limit },
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

impl Plugin for Standin {
    fn binding(&self) -> &Arc<str> {
        &self.binding
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn contracts(&self) -> Contracts {
        self.contracts
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
        false
    }

    fn answered_again(&self) {}

    fn may_route_to(&self, _upstream: &str) -> bool {
        false
    }

    fn reject_answer(&self, _reason: &str) {}

    fn authenticate<'a>(&'a self, _call: Call<'a>, _remember: bool) -> CallResult<'a, Decision> {
        unavailable()
    }

    fn draw<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<Vec<Bucket>>> {
        unavailable()
    }

    fn route<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<Option<Destination>>> {
        unavailable()
    }

    fn transform_request<'a>(&'a self, _call: Call<'a>) -> CallResult<'a, Answer<RequestOutcome>> {
        unavailable()
    }

    fn transform_request_body<'a>(&'a self, _call: Call<'a>, _piece: Piece) -> CallResult<'a, BodyResult> {
        unavailable()
    }

    fn transform_response<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _context: Bytes,
    ) -> CallResult<'a, Answer<ResponseOutcome>> {
        unavailable()
    }

    fn transform_response_body<'a>(
        &'a self,
        _call: Call<'a>,
        _response: Arc<ResponseHead>,
        _piece: Piece,
    ) -> CallResult<'a, BodyResult> {
        unavailable()
    }
}
