//! A request's body as it comes in: not larger and not slower than it may be.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError};
use crate::fault::{Fault, FaultKind};
use crate::pipeline::exchange::Exchange;

/// Holds a request's body to the size of its route (or listener) and to the pace of its listener.
///
/// # Errors
/// `BodyTooLarge` where `Content-Length` says so at once. What shows only later is an error of the body, a boxed
/// [`Fault`] of kind `BodyTooLarge` or `BodyTimeout`.
pub fn limit(exchange: &Exchange, body: Body) -> Result<Body, Fault> {
    if body.is_end_stream() {
        return Ok(body);
    }
    let limits = &exchange.connection.limits;
    let of_route = exchange.route.as_ref().and_then(|route| route.config.body_bytes);
    let room = match of_route.unwrap_or(limits.body_bytes) {
        0 => u64::MAX,
        bytes => bytes,
    };
    if body.size_hint().lower() > room {
        return Err(Fault::new(FaultKind::BodyTooLarge));
    }
    Ok(Body::wrap(Limited { body, room, pace: limits.body_timeout, patience: None }))
}

/// A body with a limit of size and pace.
struct Limited {
    body: Body,
    room: u64,
    pace: Duration,
    /// Runs while somebody waits for the next piece; made when the first one is late.
    patience: Option<Pin<Box<Sleep>>>,
}

impl Limited {
    /// Pending until the client has been waited for long enough.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let pace = self.pace;
        self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep(pace))).as_mut().poll(context)
    }
}

impl HttpBody for Limited {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) else {
            ready!(this.poll_patience(context));
            return Poll::Ready(Some(Err(Box::new(Fault::new(FaultKind::BodyTimeout)))));
        };
        if let Some(patience) = &mut this.patience {
            patience.as_mut().reset(Instant::now() + this.pace);
        }
        if let Some(Ok(frame)) = &frame {
            let size = frame.data_ref().map_or(0, |data| data.len() as u64);
            match this.room.checked_sub(size) {
                Some(room) => this.room = room,
                None => return Poll::Ready(Some(Err(Box::new(Fault::new(FaultKind::BodyTooLarge))))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
