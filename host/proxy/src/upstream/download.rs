//! The body of a response, watched until its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep_until};

use super::attempt::Attempt;
use super::failure::fault_of;
use super::lease::Lease;
use super::observe::Failing;
use super::upload::Progress;
use crate::body::{Body, BodyError};
use crate::fault::{Fault, FaultKind};

/// A response body that streams. It holds the connection, and knows what to do with it when it ends, breaks off, stalls,
/// or is dropped because the client went away.
pub(super) struct Download {
    body: Incoming,
    exchange: Option<Underway>,
    clock: Clock,
}

/// What an exchange holds until its response ends.
pub(super) struct Underway {
    pub(super) lease: Lease,
    pub(super) attempt: Attempt,
    pub(super) upload: Option<Rc<Progress>>,
}

/// When a response has waited too long.
pub(super) struct Clock {
    /// Without a byte in either direction.
    pub(super) idle: Option<Duration>,
    /// The whole request.
    pub(super) deadline: Option<Instant>,
    last: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Underway {
    /// The response was read to its end.
    fn finish(self) {
        self.attempt.completed();
        // A response that ends before the request does ends the connection: what is left of the request is not read.
        if self.upload.is_none_or(|upload| upload.is_complete()) {
            self.lease.give_back();
        }
    }
}

impl Download {
    /// Watches a body from now on.
    pub(super) fn new(
        body: Incoming,
        exchange: Underway,
        idle: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Self {
        Download {
            body,
            exchange: Some(exchange),
            clock: Clock { idle, deadline, last: Instant::now(), timer: None },
        }
    }

    /// The body as the rest of the gateway sees it. What has arrived with the head already is not wrapped, and its
    /// connection is free at once.
    pub(super) async fn begin(mut self) -> Result<Body, Fault> {
        if self.body.is_end_stream() {
            self.finish();
            return Ok(Body::Empty);
        }
        let first =
            std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut self.body).poll_frame(context))).await;
        match first {
            Poll::Pending => Ok(Body::wrap(self)),
            Poll::Ready(None) => {
                self.finish();
                Ok(Body::Empty)
            }
            Poll::Ready(Some(Err(error))) => Err(self.break_off(fault_of(&error))),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if self.body.is_end_stream() => {
                    self.finish();
                    Ok(Body::from(data))
                }
                Ok(data) => Ok(Body::wrap(Resumed { first: Some(Frame::data(data)), rest: self })),
                Err(trailers) => Ok(Body::wrap(Resumed { first: Some(trailers), rest: self })),
            },
        }
    }

    fn finish(&mut self) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish();
        }
    }

    fn break_off(&mut self, fault: Fault) -> Fault {
        if let Some(exchange) = self.exchange.take()
            && fault.kind.describe().blame == crate::fault::Blame::Upstream
        {
            exchange.attempt.failed(Failing::Fault(fault.kind));
        }
        fault
    }
}

impl Clock {
    /// The fault of having waited too long.
    fn poll(&mut self, upload: Option<&Progress>, context: &mut Context<'_>) -> Poll<Fault> {
        loop {
            let last = upload.map_or(self.last, |upload| upload.last().max(self.last));
            let idle = self.idle.map(|idle| last + idle);
            let Some(due) = idle.into_iter().chain(self.deadline).min() else { return Poll::Pending };
            let now = Instant::now();
            if now >= due {
                return Poll::Ready(match self.deadline {
                    Some(deadline) if deadline <= now => Fault::new(FaultKind::RequestTimeout),
                    _ => Fault::new(FaultKind::UpstreamReset).cause("the response stalled"),
                });
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due.into())));
            // Moving a timer at every frame would cost more than looking again when it has run out.
            if timer.deadline() > due.into() || timer.is_elapsed() {
                timer.as_mut().reset(due.into());
            }
            ready!(timer.as_mut().poll(context));
        }
    }
}

impl HttpBody for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.exchange.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.clock.last = Instant::now();
                if this.body.is_end_stream() {
                    this.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.finish();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Box::new(this.break_off(fault_of(&error))))))
            }
            Poll::Pending => {
                let upload = this.exchange.as_ref().and_then(|exchange| exchange.upload.as_deref());
                let fault = ready!(this.clock.poll(upload, context));
                Poll::Ready(Some(Err(Box::new(this.break_off(fault)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.exchange.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body of which the first frame was taken out.
struct Resumed {
    first: Option<Frame<Bytes>>,
    rest: Download,
}

impl HttpBody for Resumed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut this.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper + first);
        }
        hint.set_lower(rest.lower() + first);
        hint
    }
}
