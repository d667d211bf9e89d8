//! What is noted about one request while it passes.

use std::sync::Arc;
use std::time::Duration;

use crate::fault::FaultKind;
use crate::pipeline::plugin::CallFailure;

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
    /// Plugin calls in order.
    pub plugins: Vec<PluginCall>,
}

/// One plugin call.
#[derive(Debug)]
pub struct PluginCall {
    /// The binding.
    pub binding: Arc<str>,
    /// Phase: `authentication`, `rate-limiting`, `routing`, `request`, `request-body`, `response`, `response-body`.
    pub phase: &'static str,
    /// How long it took.
    pub time: Duration,
    /// Why it gave no answer.
    pub failure: Option<CallFailure>,
}
