//! Limits the size and the pace of a request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Dialect, Fault, FaultKind};
use witgate_exchange::grpc_messages;
use witgate_exchange::record::Received;
use witgate_wire::deadline::Deadline;

use crate::pipeline::exchange::Exchange;
use crate::protocol::hygiene;
use crate::router::Route;
use crate::snapshot::Snapshot;

/// Limits the body of a routed request to the size that its route (or else its listener) allows, and to
/// `body_timeout` for each piece.
///
/// Of a gRPC call to upstreams that speak HTTP/2, without which there is no gRPC, the form of the messages is enforced,
/// and the size is that of each message. For any other request the content type changes nothing: the size is that of
/// the whole body.
///
/// # Errors
/// `BodyTooLarge` if `Content-Length` exceeds the limit. A violation that shows later is an error of the body: a
/// boxed [`Fault`] of kind `BodyTooLarge`, `BodyTimeout`, or `BadRequest` for what is no gRPC message.
pub fn limit(exchange: &mut Exchange, route: &Route, body: Body) -> Result<Body, Fault> {
    if body.is_end_stream() {
        return Ok(body);
    }
    let limits = &exchange.ingress.limits;
    let room = match route.config.body_bytes.unwrap_or(limits.body_bytes) {
        0 => u64::MAX,
        bytes => bytes,
    };
    let facts = &mut exchange.facts;
    facts.grpc_messages = route.carries_grpc
        && facts.dialect == Dialect::Grpc
        && facts.version == Version::HTTP_2
        && facts.head.method == Method::POST;
    let (body, room) = match facts.grpc_messages {
        true => (grpc_messages::enforced(body, room), u64::MAX),
        false => (body, room),
    };
    if body.size_hint().lower() > room {
        return Err(Fault::new(FaultKind::BodyTooLarge));
    }
    let received = Received::default();
    exchange.facts.record.received = Some(received.clone());
    let snapshot = exchange.snapshot.clone();
    Ok(Body::wrap(Limited {
        body,
        room,
        pace: limits.body_timeout,
        patience: Deadline::default(),
        received,
        snapshot,
    }))
}

/// A body whose size and pace are limited.
struct Limited {
    body: Body,
    room: u64,
    pace: Duration,
    /// Runs while a reader waits for the next piece.
    patience: Deadline,
    received: Received,
    /// Holds the rules for trailers.
    snapshot: Arc<Snapshot>,
}

impl Limited {
    fn check(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, Fault> {
        if let Some(data) = frame.data_ref() {
            let room = self.room.checked_sub(data.len() as u64);
            self.room = room.ok_or_else(|| Fault::new(FaultKind::BodyTooLarge))?;
            self.received.add(data.len());
            return Ok(frame);
        }
        match frame.into_trailers() {
            Ok(trailers) => hygiene::trailers(trailers, &self.snapshot).map(Frame::trailers),
            Err(frame) => Ok(frame),
        }
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
            let since = this.patience.since();
            ready!(this.patience.poll(since + this.pace, context));
            return Poll::Ready(Some(Err(Box::new(Fault::new(FaultKind::BodyTimeout)))));
        };
        this.patience.clear();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(this.check(frame).map_err(|fault| Box::new(fault) as BodyError)),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
