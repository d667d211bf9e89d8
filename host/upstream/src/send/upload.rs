//! The body of a request on its way to an endpoint.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};

/// A request body that records its progress. A fault in it is kept in its [`Progress`], where the task that waits
/// for the response finds it. An error that is passed to a protocol library would come back as a stream reset
/// without a reason.
pub(crate) struct Upload {
    body: Body,
    progress: Option<Rc<Progress>>,
}

/// The progress of a request body. Shared with the task that waits for the response.
pub(crate) struct Progress {
    last: Cell<Instant>,
    awaited: Cell<bool>,
    fault: Cell<Option<Box<Fault>>>,
}

/// A request body has ended with a fault, which is kept in its [`Progress`].
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the request's body broke off")
    }
}

impl std::error::Error for Broken {}

impl Upload {
    /// Wraps a body. Only a streaming body has progress to record, and only a streaming body can fail.
    pub(crate) fn new(body: Body) -> Upload {
        let streams = !matches!(body, Body::Empty | Body::Full(_)) && !body.is_end_stream();
        let progress = streams.then(|| Rc::new(Progress::begin(Instant::now())));
        Upload { body, progress }
    }

    /// The progress of the body, if it streams.
    pub(crate) fn progress(&self) -> Option<Rc<Progress>> {
        self.progress.clone()
    }

    /// The body, if it was not sent.
    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    /// The fault with which the body ended. If none was kept, the client is gone.
    pub(crate) fn take_fault(&self) -> Box<Fault> {
        let fault = self.progress.as_ref().and_then(|progress| progress.fault.take());
        fault.unwrap_or_else(|| of_request(Fault::new(FaultKind::ClientGone)))
    }
}

impl Progress {
    fn begin(now: Instant) -> Progress {
        Progress { last: Cell::new(now), awaited: Cell::new(false), fault: Cell::new(None) }
    }

    /// When the last piece of the body was taken.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// Whether the next piece was requested and has not come. Then the client, or a plugin, is waited for, and not
    /// the endpoint.
    pub(crate) fn is_awaited(&self) -> bool {
        self.awaited.get()
    }

    /// The fault with which the body ended, if it did.
    pub(crate) fn take_fault(&self) -> Option<Fault> {
        self.fault.take().map(|fault| *fault)
    }

    fn note<T>(&self, polled: &Poll<T>) {
        self.awaited.set(polled.is_pending());
        if polled.is_ready() {
            self.last.set(Instant::now());
        }
    }
}

impl HttpBody for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(progress) = &this.progress {
            progress.note(&polled);
        }
        polled.map_err(|error| {
            let progress = this.progress.get_or_insert_with(|| Rc::new(Progress::begin(Instant::now())));
            progress.fault.set(Some(fault_of(error)));
            Broken
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Limits, filters and plugins end a body with a fault of their own. Any other error means that the client is
/// gone.
fn fault_of(error: BodyError) -> Box<Fault> {
    match error.downcast::<Fault>() {
        Ok(fault) => of_request(*fault),
        Err(error) => of_request(Fault::new(FaultKind::ClientGone).cause(error.to_string())),
    }
}

/// Marks a fault as one of the request's own body.
pub(crate) fn of_request(fault: Fault) -> Box<Fault> {
    Box::new(Fault { by_request: true, ..fault })
}
