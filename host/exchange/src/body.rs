//! Bodies of requests and responses.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::replay::ReplayReader;

/// An error in the middle of a body. The stream is then reset and never ended as if the body were complete.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way through the gateway. The common variants allocate nothing. A body stays on the core of its
/// connection, so it may hold values that are not `Send`, such as a plugin call in progress.
#[derive(Default)]
pub enum Body {
    /// No bytes, no trailers.
    #[default]
    Empty,
    /// Bytes in memory.
    Full(Bytes),
    /// A body that is kept while it is read, so that it can be sent again or copied.
    Replay(Box<ReplayReader>),
    /// Any other body, for example one that is limited, transformed or recorded.
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

impl Body {
    /// Wraps any other body.
    pub fn wrap(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Body::Boxed(Box::pin(body))
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Body::Empty => "Empty",
            Body::Full(_) => "Full",
            Body::Replay(_) => "Replay",
            Body::Boxed(_) => "Boxed",
        })
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        if bytes.is_empty() { Body::Empty } else { Body::Full(bytes) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Body::Empty => Poll::Ready(None),
            body @ Body::Full(_) => match std::mem::take(body) {
                Body::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                _ => Poll::Ready(None),
            },
            Body::Replay(reader) => Pin::new(&mut **reader).poll_frame(context),
            Body::Boxed(boxed) => boxed.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Full(_) => false,
            Body::Replay(reader) => reader.is_end_stream(),
            Body::Boxed(boxed) => boxed.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Replay(reader) => reader.size_hint(),
            Body::Boxed(boxed) => boxed.size_hint(),
        }
    }
}
