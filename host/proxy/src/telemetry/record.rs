//! What is noted about one request while it passes.

use std::cell::RefCell;
use std::rc::Rc;
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
    pub plugins: PluginCalls,
}

/// The plugin calls of one request, in order. Shared with bodies that still call plugins while they stream; empty, it
/// costs nothing.
#[derive(Debug, Default)]
pub struct PluginCalls(Option<Rc<RefCell<Vec<PluginCall>>>>);

impl PluginCalls {
    /// Notes a call of a head: one row each.
    pub fn push(&mut self, call: PluginCall) {
        self.0.get_or_insert_default().borrow_mut().push(call);
    }

    /// Notes a call of a body: all chunks of a binding and phase are one row, whose time is their sum.
    pub fn add(&mut self, call: PluginCall) {
        let mut calls = self.0.get_or_insert_default().borrow_mut();
        match calls.iter_mut().find(|known| known.phase == call.phase && known.binding == call.binding) {
            Some(known) => {
                known.time += call.time;
                known.failure = known.failure.or(call.failure);
            }
            None => calls.push(call),
        }
    }

    /// Another hand on the same notes, for a body that outlives the exchange.
    pub fn share(&mut self) -> PluginCalls {
        PluginCalls(Some(Rc::clone(self.0.get_or_insert_default())))
    }

    /// What was noted so far, taken out.
    pub fn take(&self) -> Vec<PluginCall> {
        self.0.as_ref().map(|calls| std::mem::take(&mut *calls.borrow_mut())).unwrap_or_default()
    }
}

/// One plugin call.
#[derive(Debug, Clone, PartialEq, Eq)]
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
