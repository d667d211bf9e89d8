//! The body of a response, which is supervised until its end.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::turn;
use witgate_wire::deadline::Deadline;

use super::failure::{blames_endpoint, ends_connection, fault_of};
use super::resumed::Resumed;
use crate::connection::Connection;
use crate::connection::lease::Lease;
use crate::observe::{Extent, Failing};
use crate::pick::attempt::Attempt;
use crate::send::http1::Http1;
use crate::send::upload::Progress;

/// A streaming response body. It holds the connection, and decides what happens to it when the body ends, breaks
/// off or stalls, or is dropped because the client went away.
pub(crate) struct Download {
    source: Source,
    exchange: Option<Underway>,
    clock: Clock,
    /// The timer for HTTP/2. An HTTP/1.1 connection has its own.
    timer: Deadline,
    /// Ends when the response is to be cut off because the checks of the endpoint have failed.
    reset: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

/// The source of the body.
pub(crate) enum Source {
    /// The HTTP/1.1 connection of the lease.
    Http1,
    /// An HTTP/2 stream of it.
    Http2(Incoming),
}

/// What an exchange holds until its response has ended.
pub(crate) struct Underway {
    pub(crate) lease: Lease,
    pub(crate) attempt: Attempt,
    pub(crate) upload: Option<Rc<Progress>>,
}

/// The timeouts of a response.
pub(crate) struct Clock {
    /// The longest time without a byte in either direction.
    pub(crate) idle: Option<Duration>,
    /// The deadline of the whole request.
    pub(crate) deadline: Option<Instant>,
    /// Since when the next piece of the response has been waited for. `None` if it is not being waited for.
    last: Option<Instant>,
}

impl Underway {
    /// Why an HTTP/2 stream ended before its response did. If the request's own body has ended with a fault, that
    /// fault is the reason, because it resets the stream, too.
    fn broken_off(&self, error: Option<&hyper::Error>) -> Fault {
        if let Some(fault) = self.upload.as_ref().and_then(|upload| upload.take_fault()) {
            return fault;
        }
        match error {
            Some(error) => {
                let shared = ends_connection(error) && self.lease.tell_end();
                Fault { shared, ..fault_of(error) }
            }
            None => {
                Fault::new(FaultKind::UpstreamReset).cause("the stream was reset before the answer ended")
            }
        }
    }

    /// Called when the whole response was read.
    fn finish(self, now: Instant) {
        self.attempt.completed();
        self.lease.give_back(&self.attempt, now);
    }
}

impl Download {
    /// Supervises a body from now on.
    pub(crate) fn new(
        source: Source,
        exchange: Underway,
        idle: Option<Duration>,
        deadline: Option<Instant>,
    ) -> Self {
        Download {
            source,
            reset: exchange.attempt.reset_by_checks(),
            exchange: Some(exchange),
            clock: Clock { idle, deadline, last: None },
            timer: Deadline::default(),
        }
    }

    /// The body for the rest of the gateway. If the whole body has already arrived with the head, it is not
    /// wrapped, and its connection is free at `now`.
    pub(crate) fn begin(mut self, now: Instant) -> Result<Body, Fault> {
        if self.is_over() {
            self.finish(now);
            return Ok(Body::Empty);
        }
        // No waker is needed: whoever needs the next piece will poll the body.
        match self.poll_source(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => Ok(Body::wrap(self)),
            Poll::Ready(None) => {
                self.finish(now);
                Ok(Body::Empty)
            }
            Poll::Ready(Some(Err(fault))) => Err(self.break_off(fault)),
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) if self.is_over() => {
                    self.finish(now);
                    Ok(Body::from(data))
                }
                Ok(data) => Ok(Body::wrap(Resumed::new(Frame::data(data), self))),
                Err(trailers) => {
                    if let (Some(fields), Some(exchange)) = (trailers.trailers_ref(), &self.exchange) {
                        exchange.attempt.trailers(fields);
                    }
                    // Whoever takes the trailers need not ask again after them.
                    if self.is_over() {
                        self.finish(now);
                    }
                    Ok(Body::wrap(Resumed::new(trailers, self)))
                }
            },
        }
    }

    fn poll_source(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match (&mut self.source, &mut self.exchange) {
            (Source::Http1, Some(exchange)) => match exchange.lease.connection() {
                Connection::Http1(connection) => connection.poll_frame(context),
                Connection::Http2(_) => Poll::Ready(None),
            },
            (Source::Http2(body), Some(exchange)) => {
                let polled = Pin::new(&mut *body).poll_frame(context);
                // hyper also reports a reset with NO_ERROR or CANCEL as the end of a body, however much is
                // missing.
                if matches!(polled, Poll::Ready(None)) && !body.is_end_stream() {
                    return Poll::Ready(Some(Err(exchange.broken_off(None))));
                }
                polled.map_err(|error| exchange.broken_off(Some(&error)))
            }
            (_, None) => Poll::Ready(None),
        }
    }

    /// Whether the whole body was taken.
    fn is_over(&self) -> bool {
        match (&self.source, &self.exchange) {
            (Source::Http1, Some(exchange)) => exchange.lease.http1().is_none_or(Http1::is_over),
            (Source::Http2(body), Some(_)) => body.is_end_stream(),
            (_, None) => true,
        }
    }

    fn finish(&mut self, now: Instant) {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(now);
        }
    }

    fn break_off(&mut self, fault: Fault) -> Fault {
        if let Some(exchange) = self.exchange.take()
            && blames_endpoint(&fault)
        {
            exchange.attempt.failed(Failing::of(&fault, Extent::Reached));
        }
        fault
    }
}

impl Clock {
    /// The fault if a timeout has passed.
    fn poll(
        &mut self,
        timer: &mut Deadline,
        upload: Option<&Progress>,
        context: &mut Context<'_>,
    ) -> Poll<Fault> {
        let last = *self.last.get_or_insert_with(Instant::now);
        loop {
            let last = upload.map_or(last, |upload| upload.last().max(last));
            let idle = self.idle.map(|idle| last + idle);
            let Some(due) = idle.into_iter().chain(self.deadline).min() else { return Poll::Pending };
            let now = Instant::now();
            if now >= due {
                return Poll::Ready(match self.deadline {
                    Some(deadline) if deadline <= now => Fault::new(FaultKind::RequestTimeout)
                        .cause("the deadline passed before the response had ended"),
                    // Both sides may wait for the client's next piece, which shows nothing about the endpoint.
                    _ => Fault {
                        by_request: upload.is_some_and(Progress::is_awaited),
                        ..Fault::new(FaultKind::UpstreamReset).cause("the response stalled")
                    },
                });
            }
            ready!(timer.poll(due.into(), context));
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
        match this.poll_source(context) {
            Poll::Ready(Some(Ok(frame))) => {
                this.clock.last = None;
                if let (Some(trailers), Some(exchange)) = (frame.trailers_ref(), &this.exchange) {
                    exchange.attempt.trailers(trailers);
                }
                if this.is_over() {
                    this.finish(turn::now());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => {
                this.finish(turn::now());
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(fault))) => Poll::Ready(Some(Err(Box::new(this.break_off(fault))))),
            Poll::Pending => {
                let Some(exchange) = &mut this.exchange else { return Poll::Ready(None) };
                let timer = match exchange.lease.connection() {
                    Connection::Http1(connection) => &mut connection.timer,
                    Connection::Http2(_) => &mut this.timer,
                };
                if let Some(reset) = &mut this.reset
                    && reset.as_mut().poll(context).is_ready()
                {
                    // The checks have taken the endpoint out of service already, so its failure is not counted again.
                    let fault = exchange.attempt.endpoint().unhealthy();
                    this.exchange = None;
                    return Poll::Ready(Some(Err(Box::new(fault))));
                }
                let fault = ready!(this.clock.poll(timer, exchange.upload.as_deref(), context));
                Poll::Ready(Some(Err(Box::new(this.break_off(fault)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.source, &self.exchange) {
            (Source::Http1, Some(exchange)) => {
                exchange.lease.http1().map_or_else(SizeHint::default, Http1::size_hint)
            }
            (Source::Http2(body), Some(_)) => body.size_hint(),
            (_, None) => SizeHint::with_exact(0),
        }
    }
}
