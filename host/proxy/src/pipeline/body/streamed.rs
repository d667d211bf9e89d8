//! Streamed access: one call for each piece as it arrives, and a last call at the end.
//!
//! A piece is read only when the one before has been passed on, so the reader sets the pace. State between pieces
//! is kept in the context. After the head was sent, a failure cuts the body off, and never ends it as if it were
//! complete. With `on_failure = "skip"` the rest is passed on unchanged, but only if the binding has changed
//! nothing so far, because a half-changed body would be neither the original nor the plugin's.

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use witgate_exchange::body::{Body, BodyError};

use crate::pipeline::call;

use super::caller::Caller;
use super::coding::Coding;
use super::undecodable::Origin;
use super::{Made, pass_trailers};

/// Inserts the binding into the stream.
pub(super) fn run(caller: Caller, coding: Coding, origin: Origin, body: Body) -> Made {
    let body = coding.undo(body, origin.refusal(&caller, coding));
    let pass = Pass { caller, body, state: State::Untouched };
    let body = Body::wrap(StreamBody::new(stream::try_unfold(pass, Pass::step)));
    Made::New { body, length: None }
}

/// A body that is passed through a binding.
struct Pass {
    caller: Caller,
    body: Body,
    state: State,
}

/// The state of the stream.
enum State {
    /// All output so far is equal to the input.
    Untouched,
    /// The binding has changed something.
    Changed,
    /// The binding failed and is not called any more.
    Skipped,
    /// The last call has ended; these trailers are still to be sent.
    Ended(Option<HeaderMap>),
}

impl Pass {
    /// The next frame to pass on.
    async fn step(mut self) -> Result<Option<(Frame<Bytes>, Self)>, BodyError> {
        loop {
            if let State::Ended(trailers) = &mut self.state {
                return Ok(trailers.take().map(|trailers| (Frame::trailers(trailers), self)));
            }
            let frame = self.body.frame().await.transpose()?;
            if matches!(self.state, State::Skipped) {
                return Ok(frame.map(|frame| (frame, self)));
            }
            let output = match frame.map(Frame::into_data) {
                Some(Ok(data)) if data.is_empty() => continue,
                Some(Ok(data)) => self.show(data, false).await?,
                Some(Err(frame)) => self.end(frame.into_trailers().ok()).await?,
                None => self.end(None).await?,
            };
            if !output.is_empty() {
                return Ok(Some((Frame::data(output), self)));
            }
        }
    }

    /// Makes the last call. The trailers are visible in it and are sent after its output.
    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, BodyError> {
        if let Some(trailers) = &trailers {
            self.caller.show_trailers(trailers);
        }
        let output = self.show(Bytes::new(), true).await?;
        self.state = State::Ended(trailers.map(pass_trailers));
        Ok(output)
    }

    /// Makes one call and returns the output for this piece.
    async fn show(&mut self, content: Bytes, end: bool) -> Result<Bytes, BodyError> {
        let Some(result) = self.caller.call(content.clone(), end).await? else {
            if matches!(self.state, State::Changed) {
                let why = "it failed in the middle of what it was changing";
                return Err(Box::new(call::denied(&*self.caller.plugin, self.caller.phase(), why)));
            }
            self.state = State::Skipped;
            return Ok(content);
        };
        match result.output {
            None => Ok(content),
            Some(output) => {
                if output != content {
                    self.state = State::Changed;
                }
                Ok(output)
            }
        }
    }
}
