//! A body that is observed, but not changed, while it passes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use witgate_exchange::body::{Body, BodyError};

/// Observes a body. If it is dropped before a call of `ended` or `broken`, nobody wanted the rest of the body.
pub(crate) trait BodyObserver: Unpin {
    /// A frame passes.
    fn passed(&mut self, _frame: &Frame<Bytes>) {}

    /// The last frame has passed. Called again if the consumer polls after the last frame.
    fn ended(&mut self);

    /// The body has broken off.
    fn broken(&mut self, error: &BodyError);
}

/// A body with its observer.
pub(crate) struct ObservedBody<W> {
    body: Body,
    observed_body: W,
}

impl<W: BodyObserver> ObservedBody<W> {
    pub(crate) fn new(body: Body, observed_body: W) -> Self {
        ObservedBody { body, observed_body }
    }
}

impl<W: BodyObserver> HttpBody for ObservedBody<W> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                this.observed_body.passed(frame);
                // Not every consumer polls after the last frame.
                if this.body.is_end_stream() {
                    this.observed_body.ended();
                }
            }
            Poll::Ready(Some(Err(error))) => this.observed_body.broken(error),
            Poll::Ready(None) => this.observed_body.ended(),
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
