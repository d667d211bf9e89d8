//! One stream: a request, and its response as fast as the client takes it.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, DATE, TRAILER};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame};
use tokio::sync::oneshot;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::informational::{Informational, Sink};
use witgate_exchange::trace::REQUEST_ID;
use witgate_wire::deadline::Deadline;
use witgate_wire::http1::field::strip_hop_by_hop;
use witgate_wire::http1::write::date;
use witgate_wire::stream::{self, Side};

use super::body::RequestBody;
use super::streams::OpenStream;
use super::tunnel::Tunnel;
use crate::protocol::connection::Connection;
use crate::protocol::service;

/// The work left for one stream. Dropping it resets the stream, unless its response is complete.
pub(super) struct Stream {
    state: State,
    /// How long the client may leave a piece of the response without flow-control window.
    patience: Duration,
    open: Option<OpenStream>,
}

enum State {
    Walking(Walking),
    Sending(Sending),
}

/// A request that has no response yet.
struct Walking {
    /// Boxed, and dropped when the response is there, because the future is large.
    walk: Pin<Box<dyn Future<Output = Response<Body>>>>,
    respond: SendResponse<Bytes>,
    tunnel: Option<Promise>,
    informational: Rc<Queue>,
}

/// Informational responses that wait to be sent.
#[derive(Default)]
struct Queue(RefCell<Vec<Response<()>>>);

impl Sink for Queue {
    fn push(&self, mut head: Response<()>) {
        head.headers_mut().remove(CONTENT_LENGTH);
        strip_hop_by_hop(head.headers_mut());
        self.0.borrow_mut().push(head);
    }
}

/// A tunnel that the client asked for.
struct Promise {
    stream: RecvStream,
    kept: oneshot::Sender<stream::Stream>,
}

/// A response whose head was sent.
struct Sending {
    body: Body,
    stream: SendStream<Bytes>,
    /// Data that waits for flow-control window, and whether it is the last of the body.
    piece: Option<(Bytes, bool)>,
    waiting: Deadline,
}

impl Stream {
    /// Begins a stream: constructs the future of the request directly in its box.
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
            (RequestBody::of(&parts.headers, stream).map_or(Body::Empty, Body::wrap), None, None)
        };
        let request = Request::from_parts(parts, body);
        let patience = connection.ingress.limits.body_timeout;
        let informational = Rc::new(Queue::default());
        let walk =
            Box::pin(walk(connection.clone(), request, side, Informational::new(informational.clone())));
        let walking = Walking { walk, respond, tunnel, informational };
        Stream { state: State::Walking(walking), patience, open: Some(open) }
    }

    fn poll_state(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let walking = match &mut self.state {
                State::Walking(walking) => walking,
                State::Sending(sending) => return sending.poll(self.patience, context),
            };
            let polled = walking.walk.as_mut().poll(context);
            walking.inform();
            let Poll::Ready(response) = polled else {
                // A reset of the stream or the end of the connection drops the request.
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

    /// A panic, for example of a body, ends only this stream.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let polled = catch_unwind(AssertUnwindSafe(|| self.poll_state(context)));
        polled.unwrap_or(Poll::Ready(()))
    }
}

impl Walking {
    /// Sends informational responses. Their number is limited by what an origin may send before its response.
    fn inform(&mut self) {
        if self.informational.0.borrow().is_empty() {
            return;
        }
        for head in self.informational.0.take() {
            // Fails if the client has reset the stream.
            let _ = self.respond.send_informational(head);
        }
    }

    /// Sends the head of the response. Returns what remains to be sent.
    fn answer(&mut self, response: Response<Body>, open: &mut Option<OpenStream>) -> Option<Sending> {
        let (mut parts, body) = response.into_parts();
        strip_hop_by_hop(&mut parts.headers);
        if !parts.headers.contains_key(DATE)
            && let Ok(date) = HeaderValue::from_bytes(&date())
        {
            parts.headers.insert(DATE, date);
        }
        if let Some(id) = parts.headers.get_mut(REQUEST_ID) {
            // Never indexed (RFC 7541 section 7.1.3): every id is new, so in the HPACK table it would only
            // displace fields that repeat.
            id.set_sensitive(true);
        }
        let connects = self.tunnel.is_some();
        let tunnel = self.tunnel.take().filter(|_| parts.status.is_success());
        let over = tunnel.is_none() && body.is_end_stream();
        if over || body.size_hint().exact().is_some() {
            // No trailers follow.
            parts.headers.remove(TRAILER);
        }
        if connects || parts.status == StatusCode::NO_CONTENT {
            // RFC 9110 section 8.6: a 204 has no length, and neither has the response to CONNECT.
            parts.headers.remove(CONTENT_LENGTH);
        } else if !over && let Some(length) = body.size_hint().exact() {
            parts.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
        }
        // Fails if the client has reset the stream.
        let stream = self.respond.send_response(Response::from_parts(parts, ()), over).ok()?;
        // Only a tunnel takes over the count of the stream: a body that is being sent keeps it.
        if let Some(Promise { stream: inbound, kept }) = tunnel
            && let Some(open) = open.take()
        {
            let tunnel = Tunnel::new(inbound, stream, open);
            // If nobody waits for the tunnel, it is dropped, which resets its stream.
            let _ = kept.send(stream::Stream::new(tunnel, Bytes::new()));
            return None;
        }
        (!over).then(|| Sending { body, stream, piece: None, waiting: Deadline::default() })
    }
}

impl Sending {
    /// Ready once everything was passed to `h2`, or nothing more can be sent.
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

    /// Takes the next frame of the body. False if nothing more is to be sent.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> bool {
        // Results of sending are ignored: they fail only if the client or the connection is gone.
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

    /// Passes waiting data to `h2` as far as the client's window allows. More would wait inside `h2`, where
    /// `patience` does not apply. False if nothing more is to be sent.
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

    /// Waits for flow-control window. False if the stream is over or the client took longer than `patience`.
    fn poll_room(&mut self, patience: Duration, context: &mut Context<'_>) -> Poll<bool> {
        let Poll::Ready(room) = self.stream.poll_capacity(context) else {
            let since = self.waiting.since();
            return self.waiting.poll(since + patience, context).map(|()| false);
        };
        self.waiting.clear();
        Poll::Ready(matches!(room, Some(Ok(_))))
    }
}

/// Serves a request that it owns.
async fn walk(
    connection: Rc<Connection>,
    mut request: Request<Body>,
    side: Option<Side>,
    informational: Informational,
) -> Response<Body> {
    service::answer(connection, &mut request, side, informational).await
}
