//! Records a response body while it passes, in order to store it when it is complete.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Response};
use http_body::{Body as _, Frame};
use witgate_exchange::body::{Body, BodyError};

use super::answers::Answers;
use crate::response::observed_body::{BodyObserver, ObservedBody};

/// Stores a response: at once if its body is in memory, otherwise when the body has passed. A body that is too
/// large is not stored.
pub(crate) fn record(answers: &Arc<Answers>, key: String, response: &mut Response<Body>) {
    let most = answers.settings.entry_bytes;
    let headers = response.headers().clone();
    match response.body_mut() {
        Body::Empty => answers.keep(key, headers, Bytes::new()),
        Body::Full(bytes) => answers.keep(key, headers, bytes.clone()),
        body if body.size_hint().lower() > most as u64 => {}
        body => {
            let note = Note { answers: answers.clone(), key, headers, bytes: BytesMut::new() };
            *body = Body::wrap(ObservedBody::new(std::mem::take(body), Recorder { note: Some(note) }));
        }
    }
}

/// Observes the body of a response.
struct Recorder {
    /// `Some` as long as the response may be stored.
    note: Option<Note>,
}

/// What has passed so far.
struct Note {
    answers: Arc<Answers>,
    key: String,
    headers: HeaderMap,
    bytes: BytesMut,
}

impl Recorder {
    fn write(&mut self, frame: &Frame<Bytes>) {
        // Trailers are not stored, so a response with trailers is not stored either.
        let data = frame.data_ref();
        let fits =
            |note: &Note, data: &Bytes| note.bytes.len() + data.len() <= note.answers.settings.entry_bytes;
        match (self.note.as_mut(), data) {
            (Some(note), Some(data)) if fits(note, data) => note.bytes.extend_from_slice(data),
            _ => self.note = None,
        }
    }
}

impl BodyObserver for Recorder {
    fn passed(&mut self, frame: &Frame<Bytes>) {
        self.write(frame);
    }

    fn ended(&mut self) {
        if let Some(note) = self.note.take() {
            note.answers.keep(note.key, note.headers, note.bytes.freeze());
        }
    }

    fn broken(&mut self, _error: &BodyError) {
        self.note = None;
    }
}
