//! A call for each piece as it passes, and a last one.
//!
//! The reader's pace is the plugin's: a piece is asked for only when the one before has gone on. State between pieces
//! lives in the context. Once the head has been sent a failure can only cut the body off, never end it cleanly. `skip`
//! passes the rest on as it is, but only as long as the binding has changed nothing: half of one and half of the other
//! would be neither.

use bytes::Bytes;
use futures_util::stream;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use witgate_exchange::body::{Body, BodyError};

use crate::pipeline::call;

use super::caller::Caller;
use super::coding::Coding;
use super::{Made, pass_trailers};

/// Puts the binding into the stream.
pub(super) fn run(caller: Caller, coding: Coding, body: Body) -> Made {
    let pass = Pass { caller, body: coding.undo(body), state: State::Untouched };
    let body = Body::wrap(StreamBody::new(stream::try_unfold(pass, Pass::step)));
    Made::New { body, length: None }
}

/// A body on its way through a binding.
struct Pass {
    caller: Caller,
    body: Body,
    state: State,
}

/// How far it has come.
enum State {
    /// What went on is what came in.
    Untouched,
    /// The binding has changed something.
    Changed,
    /// The binding failed and is out.
    Skipped,
    /// The last call is over; what remains to be sent.
    Ended(Option<HeaderMap>),
}

impl Pass {
    /// The next frame that goes on.
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

    /// The last call. Trailers can be read in it and go on after its output.
    async fn end(&mut self, trailers: Option<HeaderMap>) -> Result<Bytes, BodyError> {
        if let Some(trailers) = &trailers {
            self.caller.show_trailers(trailers);
        }
        let output = self.show(Bytes::new(), true).await?;
        self.state = State::Ended(trailers.map(pass_trailers));
        Ok(output)
    }

    /// One call; what goes on for this piece.
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
