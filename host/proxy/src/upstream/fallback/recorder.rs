//! A response body that is written down as it passes, and kept once it is through.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::answers::Answers;
use crate::body::{Body, BodyError};

/// Keeps an answer: at once if its body is at hand, else when it has passed. What is too large is let go.
pub(super) fn record(answers: &Arc<Answers>, key: String, response: Response<Body>) -> Response<Body> {
    let most = answers.settings.entry_bytes;
    let (parts, body) = response.into_parts();
    let body = match body {
        Body::Empty => {
            answers.keep(key, parts.headers.clone(), Bytes::new());
            Body::Empty
        }
        Body::Full(bytes) => {
            answers.keep(key, parts.headers.clone(), bytes.clone());
            Body::Full(bytes)
        }
        body if body.size_hint().lower() > most as u64 => body,
        body => {
            let (answers, headers) = (answers.clone(), parts.headers.clone());
            let note = Note { answers, key, headers, bytes: BytesMut::new() };
            Body::wrap(Recorder { body, note: Some(note) })
        }
    };
    Response::from_parts(parts, body)
}

struct Recorder {
    body: Body,
    /// There as long as the answer may be kept.
    note: Option<Note>,
}

/// What has passed.
struct Note {
    answers: Arc<Answers>,
    key: String,
    headers: HeaderMap,
    bytes: BytesMut,
}

impl Recorder {
    fn write(&mut self, frame: &Frame<Bytes>) {
        // Trailers are not kept, so neither is an answer that has some.
        let data = frame.data_ref();
        let fits =
            |note: &Note, data: &Bytes| note.bytes.len() + data.len() <= note.answers.settings.entry_bytes;
        match (self.note.as_mut(), data) {
            (Some(note), Some(data)) if fits(note, data) => note.bytes.extend_from_slice(data),
            _ => self.note = None,
        }
    }

    fn end(&mut self) {
        if let Some(note) = self.note.take() {
            note.answers.keep(note.key, note.headers, note.bytes.freeze());
        }
    }
}

impl HttpBody for Recorder {
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
                this.write(frame);
                if this.body.is_end_stream() {
                    this.end();
                }
            }
            Poll::Ready(Some(Err(_))) => this.note = None,
            Poll::Ready(None) => this.end(),
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
