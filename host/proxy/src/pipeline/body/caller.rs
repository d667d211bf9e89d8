//! Everything that the calls of one binding for one body need. It does not depend on the exchange, which may end
//! earlier.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use witgate_exchange::contracts::{BodyResult, Call, Phase, Piece, ResponseHead, Transformation};
use witgate_exchange::fault::Fault;
use witgate_exchange::head::RequestHead;
use witgate_exchange::record::PluginCalls;
use witgate_exchange::replay::memory::Reserved;

use crate::pipeline::call;
use crate::pipeline::exchange::{Context, Exchange};
use crate::pipeline::transformation;
use crate::snapshot::Snapshot;

impl call::Decision for BodyResult {
    fn in_words(&self) -> &'static str {
        if self.output.is_some() { "changed" } else { "unchanged" }
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
    /// `PluginFailed`.
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
                Ok(result)
            },
        );
        let mut result = answer.await?;
        if let Some(context) = result.as_mut().and_then(|result| result.context.take()) {
            self.context.set(context);
        }
        Ok(result)
    }
}
