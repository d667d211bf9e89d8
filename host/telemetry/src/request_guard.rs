//! The end of a request: what is written after its last byte, or when its client has left or its body has failed.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::arrival::{Completion, Ingress, Outcome};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::{Dialect, Fault, FaultKind};
use witgate_exchange::head::RequestHead;
use witgate_exchange::log_entry::{End, LogEntry};
use witgate_exchange::maps;
use witgate_exchange::record::{Injected, PluginCalls, Received, Share};
use witgate_exchange::turn;

use crate::CoreTelemetry;
use crate::metrics::{Ended, NONE};
use crate::route_series::{self, RouteSeries};

/// Why a request ended that a drain interrupted.
pub const CUT_BY_DRAIN: &str = "it was still in progress when `drain_timeout` had passed";

/// Dropping it writes metrics, access log line and span, and calls the completion. Without a call of
/// [`RequestGuard::complete`] before, the client has left, or the gateway has cut the connection: that is when futures
/// and bodies are dropped early.
pub struct RequestGuard {
    telemetry: CoreTelemetry,
    ingress: Rc<Ingress>,
    /// Held until the end, so that its header map can be used again.
    head: Arc<RequestHead>,
    /// Where requests of the route are counted; none if no route was found.
    series: Option<Arc<RouteSeries>>,
    upstream: Option<Arc<str>>,
    begun: Instant,
    status: StatusCode,
    end: End,
    received: Option<Received>,
    sent: u64,
    fault: Option<FaultKind>,
    injected: Injected,
    /// Whether the client speaks gRPC, whose status may come in the trailers.
    grpc: bool,
    in_flight: bool,
    /// Still written to while a plugin transforms the body.
    plugins: PluginCalls,
    /// `Some` only if a log line or a span is to be written, or a binding observes.
    entry: Option<Arc<LogEntry>>,
    completion: Completion,
    /// What the completion is told unless the client goes away first.
    outcome: Outcome,
}

impl RequestGuard {
    /// Takes over the record of a request that came in by this way. Nothing else writes it any more.
    ///
    /// For tunnels, which outlive their exchange; everything else uses
    /// `Exchange::finish` of the data path.
    pub fn take(
        facts: &mut Facts,
        series: Option<Arc<RouteSeries>>,
        telemetry: &CoreTelemetry,
        ingress: &Rc<Ingress>,
        status: StatusCode,
    ) -> Self {
        let mut record = std::mem::take(&mut facts.record);
        facts.record.taken = true;
        let wanted = telemetry.wants_lines() && record.access_log.share != Share::Nothing
            || facts.head.trace.as_ref().is_some_and(|trace| trace.sampled)
            || series.as_ref().is_some_and(|series| !series.observers().is_empty());
        let fault = record.fault.as_ref().map(|(kind, _)| *kind);
        RequestGuard {
            telemetry: CoreTelemetry::clone(telemetry),
            ingress: Rc::clone(ingress),
            head: Arc::clone(&facts.head),
            series,
            begun: facts.begun,
            status,
            end: End::ClientGone,
            received: record.received.take(),
            sent: 0,
            fault,
            injected: record.injected,
            grpc: facts.dialect == Dialect::Grpc,
            in_flight: record.in_flight,
            plugins: std::mem::take(&mut record.plugins),
            entry: wanted.then(|| Arc::new(LogEntry::new(facts, &ingress.listener, status, record))),
            completion: std::mem::take(&mut facts.completion),
            outcome: match fault {
                Some(kind) => Outcome::Fault(kind),
                None if facts.discarded => Outcome::Discarded,
                None if facts.local_response => Outcome::Local,
                None => Outcome::Answered,
            },
            // Taken last, because the log entry uses it too.
            upstream: facts.upstream.take(),
        }
    }

    /// Counts bytes sent to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The last byte was sent.
    pub fn complete(&mut self) {
        self.end = End::Complete;
    }

    /// The body or the tunnel failed before its end, with a fault of this kind; `cause` is for the log.
    pub fn cut(&mut self, kind: FaultKind, cause: Option<&str>) {
        self.end = End::Cut;
        self.outcome = Outcome::Fault(kind);
        self.fault.get_or_insert(kind);
        if let Some(entry) = self.entry.as_mut().and_then(Arc::get_mut) {
            entry.fault.get_or_insert_with(|| (kind, cause.map(str::to_owned)));
        }
    }

    /// Notes the gRPC status that stands in headers or trailers, for a client that speaks gRPC.
    fn note_grpc_status(&mut self, fields: &HeaderMap) {
        if self.grpc
            && let Some(entry) = self.entry.as_mut().and_then(Arc::get_mut)
            && let Some(status) = grpc_status(fields)
        {
            entry.grpc_status = Some(status);
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.end == End::ClientGone
            && let Some((kind, cause)) = self.ingress.was_cut()
        {
            self.cut(kind, Some(cause));
        }
        self.write();
        let outcome = match self.end {
            End::ClientGone => Outcome::Abandoned,
            End::Complete | End::Cut => self.outcome,
        };
        std::mem::take(&mut self.completion).complete(outcome);
    }
}

impl RequestGuard {
    /// Writes what is known to metrics, access log and span.
    fn write(&mut self) {
        let time = turn::now() - self.begun;
        let received = self.received.as_ref().map_or(0, Received::bytes);
        let (metrics, listener) = (self.telemetry.metrics(), &self.ingress.listener);
        let ended = Ended { status: self.status, time, received, sent: self.sent };
        match &self.series {
            Some(series) => {
                series.count(metrics, listener, self.upstream.as_ref(), &ended);
                if self.in_flight {
                    series.in_flight(metrics, listener, -1);
                }
            }
            None => route_series::count_without_route(metrics, listener, self.upstream.as_ref(), &ended),
        }
        if let Some(kind) = self.fault {
            metrics.fault(kind);
        }
        if self.injected != Injected::default() {
            metrics.injected(self.head.route.as_deref().unwrap_or(NONE), self.injected);
        }
        if let Some(head) = Arc::get_mut(&mut self.head) {
            maps::give_back(std::mem::take(&mut head.headers));
        }
        let Some(mut entry) = self.entry.take() else { return };
        if let Some(entry) = Arc::get_mut(&mut entry) {
            entry.ended = SystemTime::now();
            entry.time = time;
            entry.end = self.end;
            entry.received = received;
            entry.sent = self.sent;
            entry.plugins = self.plugins.take();
        }
        if let Some(series) = &self.series {
            series.observers().iter().for_each(|observer| observer.observe(&entry));
        }
        self.telemetry.tell(entry);
    }
}

/// The implementation of `Exchange::finish` of the data path.
pub fn finish(
    facts: &mut Facts,
    series: Option<Arc<RouteSeries>>,
    telemetry: &CoreTelemetry,
    ingress: &Rc<Ingress>,
    mut response: Response<Body>,
) -> Response<Body> {
    if facts.record.taken {
        return response;
    }
    let bodiless = facts.head.method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status().is_informational();
    let status = outcome_status(facts, &response);
    let mut guard = RequestGuard::take(facts, series, telemetry, ingress, status);
    guard.note_grpc_status(response.headers());
    match std::mem::take(response.body_mut()) {
        body if bodiless => {
            // The body of such a response is dropped unread, which must not count as a client that left.
            if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
                response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
            guard.complete();
        }
        Body::Empty => guard.complete(),
        body => *response.body_mut() = Body::wrap(RecordedBody { inner: body, guard: Some(guard) }),
    }
    response
}

/// The status that stands for the outcome of a request. A gRPC client is told of a fault with status 200 and a
/// `grpc-status`; such a response counts as what the fault is.
fn outcome_status(facts: &Facts, response: &Response<Body>) -> StatusCode {
    match &facts.record.fault {
        Some((kind, _))
            if facts.dialect == Dialect::Grpc
                && response.status() == StatusCode::OK
                && grpc_status(response.headers()).is_some_and(|status| status != 0) =>
        {
            kind.describe().status
        }
        _ => response.status(),
    }
}

/// The gRPC status in headers or trailers.
fn grpc_status(fields: &HeaderMap) -> Option<u32> {
    fields.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// A response body that writes the record at its end.
struct RecordedBody {
    inner: Body,
    guard: Option<RequestGuard>,
}

impl HttpBody for RecordedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(context);
        if let (Poll::Ready(frame), Some(guard)) = (&polled, &mut this.guard) {
            match frame {
                Some(Ok(frame)) => match frame.trailers_ref() {
                    Some(trailers) => guard.note_grpc_status(trailers),
                    None => guard.sent(frame.data_ref().map_or(0, |data| data.len() as u64)),
                },
                Some(Err(error)) => match error.downcast_ref::<Fault>() {
                    Some(fault) => guard.cut(fault.kind, fault.cause.as_deref()),
                    None => guard.cut(FaultKind::UpstreamReset, Some(&error.to_string())),
                },
                None => guard.complete(),
            }
            let failed = matches!(frame, Some(Err(_)));
            if failed || frame.is_none() || this.inner.is_end_stream() {
                if !failed {
                    guard.complete();
                }
                this.guard = None;
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RecordedBody {
    /// A body without bytes left is complete when it is dropped.
    fn drop(&mut self) {
        if let Some(guard) = &mut self.guard
            && self.inner.is_end_stream()
        {
            guard.complete();
        }
    }
}
