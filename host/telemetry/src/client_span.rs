//! The client span of one request that is sent to an endpoint: a first attempt, a retry, a hedge, a mirrored copy,
//! or a plugin's `fetch`.
//!
//! The endpoint gets its id as the parent span. It is exported by itself, when the head of the response has
//! arrived or the attempt has ended, because a copy or a hedge may outlive the request that it belongs to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use witgate_exchange::fault::FaultKind;
use witgate_exchange::trace::{SpanId, SpanSink, TraceContext, span_id};

use crate::export::Exporter;

/// A client span in progress; empty if there is no trace. Dropping it means that the response is not awaited any
/// more.
pub struct ClientSpan {
    id: Option<SpanId>,
    /// `Some` if the trace is sampled.
    notes: Option<Box<ClientNotes>>,
}

/// Everything about one client span.
#[derive(Debug)]
pub(super) struct ClientNotes {
    pub(super) trace: TraceContext,
    pub(super) id: SpanId,
    exporter: Arc<dyn SpanSink>,
    pub(super) method: Method,
    pub(super) upstream: Arc<str>,
    pub(super) endpoint: Arc<str>,
    /// How often the same request was sent before.
    pub(super) resends: u32,
    /// When sending began; `None` if it did not.
    pub(super) begun: Option<Instant>,
    pub(super) outcome: Outcome,
    /// From the beginning of sending to the head of the response, or to the end of the attempt.
    pub(super) time: Duration,
    /// The deadline of the request. An attempt that is dropped after it has failed by it.
    deadline: Option<Instant>,
}

/// How a client span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The head of a response arrived, with the gRPC status of a response that has trailers only.
    Answered(StatusCode, Option<u8>),
    /// No response came.
    Failed(FaultKind),
    /// The response is not awaited any more: another attempt was faster, or the client left.
    Abandoned,
}

impl ClientSpan {
    /// A span for a request that is about to be sent to an endpoint of an upstream, by the deadline of the request.
    pub fn new(
        trace: Option<&TraceContext>,
        method: &Method,
        upstream: &Arc<str>,
        endpoint: &Arc<str>,
        resends: u32,
        deadline: Option<Instant>,
    ) -> Self {
        let Some(trace) = trace else { return ClientSpan { id: None, notes: None } };
        let id = span_id();
        let notes = trace.exporter().map(|exporter| {
            Box::new(ClientNotes {
                trace: trace.clone(),
                id,
                exporter: Arc::clone(exporter),
                method: method.clone(),
                upstream: Arc::clone(upstream),
                endpoint: Arc::clone(endpoint),
                resends,
                begun: None,
                outcome: Outcome::Abandoned,
                deadline,
                time: Duration::ZERO,
            })
        });
        ClientSpan { id: Some(id), notes }
    }

    /// The id that the endpoint gets as its parent span.
    pub fn id(&self) -> Option<SpanId> {
        self.id
    }

    /// Sending begins: from now on the span will be exported.
    pub fn begin(&mut self, now: Instant) {
        if let Some(notes) = &mut self.notes {
            notes.begun = Some(now);
        }
    }

    /// The head of a response arrived, with the gRPC status that it may have.
    pub fn answered(mut self, status: StatusCode, grpc_status: Option<u8>) {
        self.end(Outcome::Answered(status, grpc_status));
    }

    /// No response came.
    pub fn failed(mut self, kind: FaultKind) {
        self.end(Outcome::Failed(kind));
    }

    /// Nothing of the request was written, so the endpoint does not know of this span.
    pub fn unsent(mut self) {
        self.notes = None;
    }

    fn end(&mut self, outcome: Outcome) {
        let Some(mut notes) = self.notes.take() else { return };
        let Some(begun) = notes.begun else { return };
        notes.outcome = outcome;
        notes.time = begun.elapsed();
        let exporter = Arc::clone(&notes.exporter);
        if let Some(exporter) = Exporter::of(&*exporter) {
            exporter.push_client(notes);
        }
    }
}

impl Drop for ClientSpan {
    fn drop(&mut self) {
        let due = self.notes.as_ref().and_then(|notes| notes.deadline);
        self.end(match due {
            Some(due) if due <= Instant::now() => Outcome::Failed(FaultKind::RequestTimeout),
            _ => Outcome::Abandoned,
        });
    }
}
