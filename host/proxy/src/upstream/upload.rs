//! The body of a request on its way to an endpoint.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::{Body, BodyError};
use crate::fault::{Fault, FaultKind};

/// A request body that notes its progress. What goes wrong in it is a [`Fault`] of the client's side.
pub(super) struct Upload {
    body: Body,
    progress: Option<Rc<Progress>>,
}

/// How far a request body has come. Shared with whoever waits for the answer.
#[derive(Debug)]
pub(super) struct Progress {
    last: Cell<Instant>,
}

impl Upload {
    /// Wraps a body; there is progress to watch only if it streams.
    pub(super) fn new(body: Body) -> Upload {
        let streams = !matches!(body, Body::Empty | Body::Full(_)) && !body.is_end_stream();
        let progress = streams.then(|| Rc::new(Progress { last: Cell::new(Instant::now()) }));
        Upload { body, progress }
    }

    /// How far it has come, if it streams.
    pub(super) fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    /// The body, if it was handed back.
    pub(super) fn into_body(self) -> Body {
        self.body
    }
}

impl Progress {
    /// When the last piece was taken.
    pub(super) fn last(&self) -> Instant {
        self.last.get()
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        let Some(progress) = &this.progress else { return polled.map_err(as_fault) };
        if polled.is_ready() {
            progress.last.set(Instant::now());
        }
        polled.map_err(as_fault)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Limits and filters end a body with a fault of their own; anything else means that the client is gone.
fn as_fault(error: BodyError) -> BodyError {
    match error.downcast::<Fault>() {
        Ok(fault) => fault,
        Err(error) => Box::new(Fault::new(FaultKind::ClientGone).cause(error.to_string())),
    }
}
