//! One stream: a request, its walk, and its answer as fast as the client takes it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Method, Request, Response};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;

use super::body::RequestBody;
use super::streams::OpenStream;
use super::tunnel::Tunnel;
use crate::body::{Body, BodyError};
use crate::protocol::connection::Connection;
use crate::protocol::deadline::Deadline;
use crate::protocol::http1::field::strip_hop_by_hop;
use crate::protocol::http1::write::date;
use crate::protocol::service;
use crate::protocol::upgrade::{self, Side};
use crate::telemetry::trace::REQUEST_ID;

/// Whatever a stream still has to do. Dropping it resets the stream, unless its answer is complete.
pub(super) struct Stream {
    state: State,
    /// How long a client may make no room for a piece of the answer.
    patience: Duration,
    open: Option<OpenStream>,
}

enum State {
    Walking(Walking),
    Sending(Sending),
}

/// A request on its way to its answer.
struct Walking {
    /// A walk is large: it has a place of its own in memory, and gives it back with its answer.
    walk: Pin<Box<dyn Future<Output = Response<Body>>>>,
    respond: SendResponse<Bytes>,
    tunnel: Option<Promise>,
}

/// A tunnel that was asked for.
struct Promise {
    stream: RecvStream,
    kept: oneshot::Sender<upgrade::Stream>,
}

/// An answer whose head is sent.
struct Sending {
    body: Body,
    stream: SendStream<Bytes>,
    /// What waits for room, and whether it is the last.
    piece: Option<(Bytes, bool)>,
    waiting: Deadline,
}

impl Stream {
    /// A stream that has just begun.
    pub(super) fn begin(
        connection: &Rc<Connection>,
        request: Request<RecvStream>,
        respond: SendResponse<Bytes>,
        open: OpenStream,
    ) -> Self {
        let (parts, stream) = request.into_parts();
        let (body, side, tunnel) = if parts.method == Method::CONNECT {
            let (kept, promise) = oneshot::channel();
            (Body::Empty, Some(Side::Promised(promise)), Some(Promise { stream, kept }))
        } else {
            (
                RequestBody::of(&parts.headers, stream)
                    .map_or(Body::Empty, |body| Body::Http2(Box::new(body))),
                None,
                None,
            )
        };
        let request = Request::from_parts(parts, body);
        let patience = connection.limits.body_timeout;
        let walk = Box::write(Box::new_uninit(), walk(connection.clone(), request, side));
        let walking = Walking { walk: Box::into_pin(walk), respond, tunnel };
        Stream { state: State::Walking(walking), patience, open: Some(open) }
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let walking = match &mut self.state {
                State::Walking(walking) => walking,
                State::Sending(sending) => return sending.poll(self.patience, context),
            };
            let Poll::Ready(response) = walking.walk.as_mut().poll(context) else {
                // A client that has lost interest ends the walk; so does the end of the connection.
                return walking.respond.poll_reset(context).map(drop);
            };
            match walking.answer(response, &mut self.open) {
                Some(sending) => self.state = State::Sending(sending),
                None => return Poll::Ready(()),
            }
        }
    }
}

impl Future for Stream {
    type Output = ();

    /// A panic, of a body for example, ends this stream and no other.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_state(context)));
        polled.unwrap_or(Poll::Ready(()))
    }
}

impl Walking {
    /// Sends the head of the answer; what remains to be sent, if anything does.
    fn answer(&mut self, response: Response<Body>, open: &mut Option<OpenStream>) -> Option<Sending> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        if !parts.headers.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_bytes(&date())
        {
            parts.headers.insert(DATE, date);
        }
        if let Some(id) = parts.headers.get_mut(REQUEST_ID) {
            // Each is seen once. In the table of what both sides remember (RFC 7541 section 7.1.3) they would stand in the way
            // of what repeats, and each new one would be compared with all before it.
            id.set_sensitive(true);
        }
        let tunnel = self.tunnel.take().filter(|_| parts.status.is_success());
        let over = tunnel.is_none() && body.is_end_stream();
        if !over
            && tunnel.is_none()
            && let Some(length) = body.size_hint().exact()
        {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        // It fails where the client has reset the stream meanwhile.
        let stream = self.respond.send_response(Response::from_parts(parts, ()), over).ok()?;
        if let (Some(Promise { stream: inbound, kept }), Some(open)) = (tunnel, open.take()) {
            let tunnel = Tunnel::new(inbound, stream, open);
            // A tunnel that nobody wants is dropped, and its stream reset.
            let _ = kept.send(upgrade::Stream::new(tunnel, Bytes::new()));
            return None;
        }
        (!over).then(|| Sending { body, stream, piece: None, waiting: Deadline::default() })
    }
}

impl Sending {
    /// Ready once everything is handed over, or nothing more can be.
    fn poll(&mut self, patience: Duration, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if !ready!(self.poll_piece(patience, context)) {
                return Poll::Ready(());
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) else {
                return self.stream.poll_reset(context).map(drop);
            };
            if !self.take(frame) {
                return Poll::Ready(());
            }
        }
    }

    /// Takes what the body brings; false once there is nothing more to wait for.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> bool {
        // Where sending fails, the client or the connection is gone, and nobody is left to be told.
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                let last = self.body.is_end_stream();
                self.piece = (last || !data.is_empty()).then_some((data, last));
                true
            }
            Some(Ok(Err(frame))) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = self.stream.send_trailers(trailers);
                    false
                }
                Err(_) => true,
            },
            Some(Err(_)) => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                false
            }
            None => {
                let _ = self.stream.send_data(Bytes::new(), true);
                false
            }
        }
    }

    /// Hands over what waits, as far as the client makes room: so nothing lies with the frames' side that only the client
    /// could move, where no patience runs out. False once there is nothing more to wait for.
    fn poll_piece(&mut self, patience: Duration, context: &mut Context<'_>) -> Poll<bool> {
        while let Some((data, last)) = &mut self.piece {
            let mut room = 0;
            if !data.is_empty() {
                self.stream.reserve_capacity(data.len());
                room = self.stream.capacity().min(data.len());
                if room == 0 {
                    if !ready!(self.poll_room(patience, context)) {
                        return Poll::Ready(false);
                    }
                    continue;
                }
            }
            let part = data.split_to(room);
            let (over, last) = (data.is_empty(), *last && data.is_empty());
            if self.stream.send_data(part, last).is_err() || last {
                return Poll::Ready(false);
            }
            if over {
                self.piece = None;
            }
        }
        Poll::Ready(true)
    }

    /// Waits for room; false if there will be none, or not soon enough.
    fn poll_room(&mut self, patience: Duration, context: &mut Context<'_>) -> Poll<bool> {
        let Poll::Ready(room) = self.stream.poll_capacity(context) else {
            let since = self.waiting.since();
            return self.waiting.poll(since + patience, context).map(|()| false);
        };
        self.waiting.clear();
        Poll::Ready(matches!(room, Some(Ok(_))))
    }
}

/// The walk of a request that nobody else keeps.
async fn walk(connection: Rc<Connection>, mut request: Request<Body>, side: Option<Side>) -> Response<Body> {
    service::answer(connection, &mut request, side).await
}
