//! The body of a response, which holds its request's admission until it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Admission;
use crate::body::{Body, BodyError};
use crate::fault::Fault;

/// A body under watch.
pub(super) struct Watched {
    body: Body,
    admission: Option<Admission>,
}

impl Watched {
    pub(super) fn new(body: Body, admission: Admission) -> Watched {
        Watched { body, admission: Some(admission) }
    }
}

impl HttpBody for Watched {
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
            Poll::Ready(Some(Err(error))) => {
                if let (Some(admission), Some(fault)) = (this.admission.take(), error.downcast_ref::<Fault>())
                {
                    admission.failed(fault);
                }
            }
            Poll::Ready(Some(Ok(_))) if !this.body.is_end_stream() => {}
            Poll::Ready(_) => {
                if let Some(admission) = this.admission.take() {
                    admission.completed();
                }
            }
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
