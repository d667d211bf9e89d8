//! Everything that the calls of one binding for one body need. It does not depend on the exchange, which may end
//! earlier.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use witgate_exchange::contracts::{BodyResult, Call, Phase, Piece, ResponseHead, Transformation};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::record::PluginCalls;
use witgate_exchange::replay::memory::Reserved;

use crate::pipeline::call;
use crate::pipeline::exchange::{Context, Exchange};
use crate::pipeline::transformation;
use crate::pipeline::validate;
use crate::snapshot::Snapshot;

/// A validated result.
struct Checked {
    result: BodyResult,
    /// The response with which the binding ends the exchange.
    ending: Option<Response<Bytes>>,
}

impl call::Decision for Checked {
    fn in_words(&self) -> &'static str {
        match (&self.ending, &self.result.output) {
            (Some(_), _) => "responded",
            (None, Some(_)) => "changed",
            (None, None) => "unchanged",
        }
    }
}

/// The calls of one binding for one body.
pub(super) struct Caller {
    pub(super) plugin: Arc<dyn Transformation>,
    head: Arc<RequestHead>,
    /// The head of the response; `None` if the body is that of the request.
    response: Option<Arc<ResponseHead>>,
    snapshot: Arc<Snapshot>,
    calls: PluginCalls,
    context: Context,
}

impl Caller {
    pub(super) fn new(
        exchange: &mut Exchange,
        plugin: &Arc<dyn Transformation>,
        context: Context,
        response: Option<Arc<ResponseHead>>,
    ) -> Self {
        Caller {
            plugin: Arc::clone(plugin),
            head: Arc::clone(&exchange.facts.head),
            response,
            snapshot: Arc::clone(&exchange.snapshot),
            calls: exchange.facts.record.plugins.share(),
            context,
        }
    }

    pub(super) fn of_response(&self) -> bool {
        self.response.is_some()
    }

    pub(super) fn phase(&self) -> Phase {
        if self.of_response() { Phase::ResponseBody } else { Phase::RequestBody }
    }

    /// The memory in which to collect the body; `None` for a response, whose body is not counted.
    pub(super) fn memory(&self) -> Option<Reserved> {
        (!self.of_response()).then(|| Reserved::new(self.snapshot.upstreams.body_memory().clone()))
    }

    /// Makes the trailers visible in the last call.
    pub(super) fn show_trailers(&mut self, trailers: &HeaderMap) {
        match &mut self.response {
            Some(response) => Arc::make_mut(response).trailers = Some(trailers.clone()),
            None => Arc::make_mut(&mut self.head).trailers = Some(trailers.clone()),
        }
    }

    /// Calls the binding with one piece. Returns `None` if the call failed and is skipped.
    ///
    /// # Errors
    /// `PluginFailed`, or a fault with the response with which the binding ends the exchange.
    pub(super) async fn call(&mut self, content: Bytes, end: bool) -> Result<Option<BodyResult>, Fault> {
        let piece = Piece { content, end, context: self.context.get() };
        let limits = self.plugin.limits();
        let answer = call::call(
            &mut self.calls,
            &*self.plugin,
            if self.response.is_some() { Phase::ResponseBody } else { Phase::RequestBody },
            || {
                let call = Call { head: &self.head, fetch: &self.snapshot };
                match &self.response {
                    Some(response) => self.plugin.transform_response_body(call, Arc::clone(response), piece),
                    None => self.plugin.transform_request_body(call, piece),
                }
            },
            |mut result: BodyResult| {
                result.context =
                    result.context.map(|context| transformation::within(context, limits)).transpose()?;
                let ending = result.response.take().map(validate::whole_response).transpose()?;
                Ok(Checked { result, ending })
            },
        );
        let Some(Checked { mut result, ending }) = answer.await? else { return Ok(None) };
        if let Some(own) = ending {
            let cause = format!("binding `{}` ended the exchange", self.plugin.name());
            return Err(Fault {
                instead: Some(Box::new(own)),
                ..Fault::new(FaultKind::Forbidden).cause(cause)
            });
        }
        if let Some(context) = result.context.take() {
            self.context.set(context);
        }
        Ok(Some(result))
    }
}
