//! The end of a request: what is written once its last byte is through, its client is gone, or its body failed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::fault::FaultKind;
use crate::pipeline::exchange::Exchange;
use crate::telemetry::Telemetry;
use crate::telemetry::access::{End, Story};
use crate::telemetry::metrics::{InFlight, NONE, Series};
use crate::telemetry::record::{PluginCalls, Received};

/// Dropping it writes metrics, access log line and span. Until [`Ending::complete`] was called that means the client
/// went away first: futures and bodies are dropped then, without a word.
#[derive(Debug)]
pub struct Ending {
    telemetry: Arc<Telemetry>,
    series: Arc<Series>,
    begun: Instant,
    status: StatusCode,
    end: End,
    received: Option<Received>,
    sent: u64,
    fault: Option<FaultKind>,
    /// Still growing while a plugin transforms the body.
    plugins: PluginCalls,
    /// Only made where a log line or a span is to be written.
    story: Option<Box<Story>>,
    _in_flight: Option<InFlight>,
}

impl Ending {
    /// Takes over what an exchange has noted. The exchange itself writes nothing any more.
    ///
    /// For tunnels, which outlive their exchange; others use [`Exchange::finish`].
    pub fn take(exchange: &mut Exchange, status: StatusCode) -> Self {
        let mut record = std::mem::take(&mut exchange.record);
        exchange.record.taken = true;
        let telemetry = Arc::clone(&exchange.connection.telemetry);
        let upstream = exchange.upstream.as_deref().unwrap_or(NONE);
        let route = if exchange.head.route.is_empty() { NONE } else { &exchange.head.route };
        let series = telemetry.metrics().series(&exchange.connection.listener, route, upstream);
        let fault = record.fault.as_ref().map(|(kind, _)| *kind);
        let received = record.received.take();
        let in_flight = record.in_flight.take();
        let wanted = telemetry.wants_lines() && !record.access_log.off
            || telemetry.wants_spans() && exchange.head.trace.sampled;
        let plugins = std::mem::take(&mut record.plugins);
        let story = wanted.then(|| Box::new(Story::new(exchange, status, record)));
        Ending {
            telemetry,
            series,
            begun: exchange.begun,
            status,
            end: End::ClientGone,
            received,
            sent: 0,
            fault,
            plugins,
            story,
            _in_flight: in_flight,
        }
    }

    /// More bytes went to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.sent += bytes;
    }

    /// The last byte is through.
    pub fn complete(&mut self) {
        self.end = End::Complete;
    }

    /// The body failed half-way.
    pub fn cut(&mut self) {
        self.end = End::Cut;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let time = self.begun.elapsed();
        let received = self.received.as_ref().map_or(0, Received::bytes);
        self.series.count(self.status, time, received, self.sent);
        if let Some(kind) = self.fault {
            self.telemetry.metrics().fault(kind);
        }
        if let Some(mut story) = self.story.take() {
            story.ended = SystemTime::now();
            story.time = time;
            story.end = self.end;
            story.received = received;
            story.sent = self.sent;
            story.plugins = self.plugins.take();
            self.telemetry.tell(Arc::from(story));
        }
    }
}

impl Drop for Exchange {
    /// An exchange that is dropped before it was finished has lost its client.
    fn drop(&mut self) {
        if !self.record.taken {
            let client_gone = StatusCode::from_u16(499).expect("three digits");
            self.record.fault.get_or_insert((FaultKind::ClientGone, None));
            drop(Ending::take(self, client_gone));
        }
    }
}

/// See [`Exchange::finish`].
pub(crate) fn finish(mut exchange: Exchange, response: Response<Body>) -> Response<Body> {
    if exchange.record.taken {
        return response;
    }
    let bodiless = exchange.head.method == Method::HEAD
        || matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        || response.status().is_informational();
    let mut ending = Ending::take(&mut exchange, response.status());
    let (mut parts, body) = response.into_parts();
    if bodiless {
        // hyper drops the body of such a response unread, which must not look like a client that went away.
        if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        ending.complete();
        return Response::from_parts(parts, Body::Empty);
    }
    match body {
        Body::Empty => {
            ending.complete();
            Response::from_parts(parts, Body::Empty)
        }
        body => Response::from_parts(parts, Body::wrap(RecordedBody { inner: body, ending: Some(ending) })),
    }
}

/// A response body on its way out, with what is written at its end.
struct RecordedBody {
    inner: Body,
    ending: Option<Ending>,
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
        if let (Poll::Ready(frame), Some(ending)) = (&polled, &mut this.ending) {
            match frame {
                Some(Ok(frame)) => ending.sent(frame.data_ref().map_or(0, |data| data.len() as u64)),
                Some(Err(_)) => ending.cut(),
                None => ending.complete(),
            }
            let failed = matches!(frame, Some(Err(_)));
            if failed || frame.is_none() || this.inner.is_end_stream() {
                if !failed {
                    ending.complete();
                }
                this.ending = None;
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
    /// A body that had nothing left was not cut short by its being dropped.
    fn drop(&mut self) {
        if let Some(ending) = &mut self.ending
            && self.inner.is_end_stream()
        {
            ending.complete();
        }
    }
}
