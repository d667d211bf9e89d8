//! The body of a request, read from its connection only when it is asked for, and never beyond its end.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::body::BodyError;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::http1::chunks::ChunkReader;
use witgate_wire::http1::head::Content;
use witgate_wire::socket::Transport;

use super::wire::Wire;

/// What is still to come of a request's body.
#[derive(Debug, Default)]
pub(super) struct Inbound {
    rest: Rest,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub(super) expects: bool,
    /// Whether `100 Continue` was sent or is being sent.
    pub(super) asked: bool,
}

#[derive(Debug, Default)]
enum Rest {
    /// Nothing: the body is complete.
    #[default]
    Nothing,
    /// This many bytes.
    Length(u64),
    /// Chunks, up to the last one.
    Chunks(ChunkReader),
    /// Unknown: reading the body failed.
    Broken,
}

/// A piece of a body.
pub(super) enum Step {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Inbound {
    /// Begins the body of a new request.
    pub(super) fn begin(&mut self, content: Content, expects: bool) {
        self.rest = match content {
            Content::Nothing => Rest::Nothing,
            Content::Length(length) => Rest::Length(length),
            Content::Chunked => Rest::Chunks(ChunkReader::default()),
        };
        self.expects = expects && !self.is_done();
        self.asked = false;
    }

    /// Whether the body was read to its end.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.rest, Rest::Nothing)
    }

    /// Whether more than `bytes` are left. False for a chunked body, whose length is unknown.
    pub(super) fn is_over(&self, bytes: u64) -> bool {
        match self.rest {
            Rest::Nothing | Rest::Chunks(_) => false,
            Rest::Length(length) => length > bytes,
            Rest::Broken => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            Rest::Nothing => SizeHint::with_exact(0),
            Rest::Length(length) => SizeHint::with_exact(length),
            Rest::Chunks(_) | Rest::Broken => SizeHint::default(),
        }
    }
}

impl<T: Transport> Wire<T> {
    /// The next piece of the body of the request in flight.
    pub(super) fn poll_body(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Step, BodyError>>> {
        if self.inbound.is_done() {
            return Poll::Ready(None);
        }
        let step = match ready!(self.poll_step(context)) {
            Ok(step) => step,
            Err(error) => {
                self.inbound.rest = Rest::Broken;
                return Poll::Ready(Some(Err(error)));
            }
        };
        Poll::Ready(step.map(Ok))
    }

    fn poll_step(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Step>, BodyError>> {
        loop {
            if self.arrived.is_empty() && !ready!(self.poll_fill(context))? {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the body ended early");
                return Poll::Ready(Err(cut.into()));
            }
            match &mut self.inbound.rest {
                Rest::Nothing => return Poll::Ready(Ok(None)),
                Rest::Broken => return Poll::Ready(Err("the body is broken".into())),
                Rest::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(self.arrived.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.inbound.rest = Rest::Nothing;
                    }
                    return Poll::Ready(Ok(Some(Step::Data(self.take_arrived(taken)))));
                }
                Rest::Chunks(reader) => {
                    let piece = reader.read(&self.arrived, &self.limits).map_err(malformed)?;
                    if reader.is_over() {
                        let trailers = reader.trailers().map_err(malformed)?;
                        self.inbound.rest = Rest::Nothing;
                        self.take_arrived(piece.framing);
                        return Poll::Ready(Ok(trailers.map(Step::Trailers)));
                    }
                    self.take_arrived(piece.framing);
                    if piece.data > 0 {
                        return Poll::Ready(Ok(Some(Step::Data(self.take_arrived(piece.data)))));
                    }
                }
            }
        }
    }

    /// Takes the first bytes that arrived. An emptied buffer is given up, so that an idle connection holds no
    /// memory.
    fn take_arrived(&mut self, bytes: usize) -> Bytes {
        if bytes == self.arrived.len() {
            std::mem::take(&mut self.arrived).freeze()
        } else {
            self.arrived.split_to(bytes).freeze()
        }
    }
}

fn malformed(reason: &'static str) -> BodyError {
    Box::new(Fault::new(FaultKind::BadRequest).detail(reason))
}

/// The connection of a body, without the type of its transport.
trait Source {
    fn poll_frame(
        &self,
        request: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>>;
    fn size_hint(&self, request: u64) -> SizeHint;
    fn release(&self, request: u64);
}

impl<T: Transport> Source for RefCell<Wire<T>> {
    fn poll_frame(
        &self,
        request: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut wire = self.borrow_mut();
        if wire.request != request {
            return Poll::Ready(Some(Err("the request is over".into())));
        }
        let polled = match wire.poll_continue(context) {
            Poll::Ready(Ok(())) => wire.poll_body(context),
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            Poll::Pending => Poll::Pending,
        };
        match polled {
            Poll::Ready(step) => {
                wire.body_waker = None;
                wire.wake_watcher(context);
                Poll::Ready(step.map(|step| {
                    step.map(|step| match step {
                        Step::Data(data) => Frame::data(data),
                        Step::Trailers(trailers) => Frame::trailers(trailers),
                    })
                }))
            }
            Poll::Pending => {
                if !wire.body_waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    wire.body_waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
        }
    }

    fn size_hint(&self, request: u64) -> SizeHint {
        let wire = self.borrow();
        if wire.request == request { wire.inbound.size_hint() } else { SizeHint::default() }
    }

    fn release(&self, request: u64) {
        let mut wire = self.borrow_mut();
        if wire.request == request {
            wire.body_held = false;
            wire.body_waker = None;
            // A body may be dropped by any task, so there is no waker here to compare the watcher with.
            wire.wake_watcher(&Context::from_waker(Waker::noop()));
        }
    }
}

/// The body of one request of an HTTP/1.1 connection.
pub struct RequestBody {
    source: Rc<dyn Source>,
    request: u64,
}

impl RequestBody {
    /// The body of the request in flight. `None` if it has no body.
    pub(super) fn of<T: Transport>(wire: &Rc<RefCell<Wire<T>>>) -> Option<RequestBody> {
        let mut held = wire.borrow_mut();
        if held.inbound.is_done() {
            return None;
        }
        held.body_held = true;
        Some(RequestBody { source: wire.clone(), request: held.request })
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.source.release(self.request);
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.source.poll_frame(self.request, context)
    }

    fn is_end_stream(&self) -> bool {
        self.source.size_hint(self.request).exact() == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint(self.request)
    }
}
