//! The body of a request: the data of a stream.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::body::BodyError;

use witgate_wire::http1::head::decimal;

/// The body of a request in flight. Flow-control window is returned only for data that was read, so a slow reader
/// slows its client down. A reset of the stream, whatever its error code, is an error of the body, because the
/// body did not end.
pub struct RequestBody {
    stream: RecvStream,
    /// How many bytes are still to come, if the client sent `content-length`. `h2` enforces it.
    left: Option<u64>,
    only_trailers: bool,
}

impl RequestBody {
    /// The body that follows a head. `None` if the stream has ended.
    pub(super) fn of(headers: &HeaderMap, stream: RecvStream) -> Option<Self> {
        if stream.is_end_stream() {
            return None;
        }
        let left = headers.get(CONTENT_LENGTH).and_then(|length| decimal(length.as_bytes()));
        Some(RequestBody { stream, left, only_trailers: false })
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if !this.only_trailers {
            if let Some(data) = ready!(this.stream.poll_data(context)?) {
                // Fails only if more is released than was received.
                let _ = this.stream.flow_control().release_capacity(data.len());
                this.left = this.left.map(|left| left.saturating_sub(data.len() as u64));
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            this.only_trailers = true;
        }
        let trailers = ready!(this.stream.poll_trailers(context)?);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
