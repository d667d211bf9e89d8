//! HTTP/2 (RFC 9113) on one connection.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderName, Request, Response, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::{Builder, Connection as Http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::time::Instant;
use witgate_config::model::Limits;

use crate::body::{Body, BodyError};
use crate::listener::door::Generation;
use crate::listener::plane::Plane;
use crate::protocol::connection::Connection;
use crate::protocol::deadline::Deadline;
use crate::protocol::lifetime::{self, Protocol, UnderWay};
use crate::protocol::service;
use crate::protocol::socket::Transport;
use crate::protocol::upgrade::Side;
use crate::protocol::wire::Wire;

/// Bytes of a request body that may be on their way, for a stream and for the connection. What is not read is not
/// granted again, so this is also what a client can make us hold.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest frame that is accepted; the least the protocol allows.
const FRAME_BYTES: u32 = 16 * 1024;

/// Bytes of a response that may wait for a stream's window.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before they were looked at ("rapid reset", CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Streams we had to reset because of the client's mistakes ("made you reset", CVE-2025-8671).
const PROVOKED_RESETS: usize = 128;

/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_PATIENCE: Duration = Duration::from_secs(15);

/// Headers of a response that HTTP/2 does not have (RFC 9113 section 8.2.2).
const OTHER_VERSION: [HeaderName; 5] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Serves requests until the client, an error or a drain ends the connection. `arrived` was read already.
pub(crate) async fn serve<T: Transport>(
    plane: &Plane,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) {
    let limits = connection.limits;
    let streams = Rc::new(Streams::default());
    let service = {
        let (connection, streams) = (connection.clone(), streams.clone());
        service_fn(move |request| answer(connection.clone(), &streams, request))
    };
    let executor = StreamExecutor { streams: streams.clone(), patience: limits.body_timeout };
    let wire = TokioIo::new(Wire::new(io, arrived, limits.body_timeout));
    let http = pin!(builder(executor, &limits).serve_connection(wire, service));
    if !lifetime::drive(http, &connection, generation, &*streams).await {
        plane.cut.fetch_add(streams.open.get(), Ordering::AcqRel);
    }
}

fn builder(executor: StreamExecutor, limits: &Limits) -> Builder<StreamExecutor> {
    let mut builder = Builder::new(executor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(PROVOKED_RESETS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_PATIENCE)
        .enable_connect_protocol();
    builder
}

/// Not an `async fn`: hyper hands the future to the executor at once, which finds the stream's progress in `begun`.
fn answer(
    connection: Rc<Connection>,
    streams: &Rc<Streams>,
    request: Request<Incoming>,
) -> impl Future<Output = Result<Response<Outgoing>, Infallible>> + use<> {
    let progress = Rc::new(Progress::default());
    streams.begun.replace(Some(progress.clone()));
    async move {
        let mut request = request.map(Body::Incoming);
        let side = request.extensions_mut().remove::<OnUpgrade>().map(Side::Hyper);
        let mut response = service::answer(connection, &mut request, side).await;
        for name in &OTHER_VERSION {
            response.headers_mut().remove(name);
        }
        *response.version_mut() = Version::HTTP_2;
        Ok(response.map(|body| Outgoing { body, progress }))
    }
}

impl<T, S> Protocol for Http2<T, S, StreamExecutor>
where
    S: hyper::service::HttpService<Incoming, ResBody = Outgoing>,
    S::Error: Into<BodyError>,
    S::Future: 'static,
    T: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        Http2::graceful_shutdown(self);
    }
}

/// The streams of one connection.
struct Streams {
    open: Cell<usize>,
    idle_since: Cell<Instant>,
    /// The stream whose service was just called, on its way to the executor.
    begun: RefCell<Option<Rc<Progress>>>,
}

impl Default for Streams {
    fn default() -> Self {
        Streams { open: Cell::new(0), idle_since: Cell::new(Instant::now()), begun: RefCell::default() }
    }
}

impl UnderWay for Streams {
    fn has_begun(&self) -> bool {
        self.open.get() > 0
    }

    fn is_fresh(&self) -> bool {
        false
    }

    /// GOAWAY leaves what has begun alone (RFC 9113 section 6.8).
    fn can_be_told(&self) -> bool {
        true
    }

    async fn idle_for(&self, time: Duration) {
        loop {
            let due = if self.has_begun() { Instant::now() + time } else { self.idle_since.get() + time };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// How far a response has come: whether a piece of it waits for the client to make room.
#[derive(Default)]
struct Progress {
    waiting_since: Cell<Option<Instant>>,
}

/// Runs streams on this core, and gives up on those whose client makes no room.
#[derive(Clone)]
struct StreamExecutor {
    streams: Rc<Streams>,
    patience: Duration,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + 'static,
{
    fn execute(&self, stream: F) {
        let open = OpenStream::new(self.streams.clone());
        let Some(progress) = self.streams.begun.take() else {
            // What carries a tunnel's bytes: the tunnel has an idle timeout of its own.
            tokio::task::spawn_local(async move {
                stream.await;
                drop(open);
            });
            return;
        };
        let patience = self.patience;
        tokio::task::spawn_local(async move {
            let mut stream = pin!(stream);
            let mut deadline = Deadline::default();
            // Dropping the stream's future resets the stream.
            poll_fn(|context| {
                if stream.as_mut().poll(context).is_ready() {
                    return Poll::Ready(());
                }
                match progress.waiting_since.get() {
                    Some(since) => deadline.poll(since + patience, context),
                    None => Poll::Pending,
                }
            })
            .await;
            drop(open);
        });
    }
}

/// A stream counted among those of its connection.
struct OpenStream(Rc<Streams>);

impl OpenStream {
    fn new(streams: Rc<Streams>) -> Self {
        streams.open.set(streams.open.get() + 1);
        OpenStream(streams)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.idle_since.set(Instant::now());
    }
}

/// A response body on its last step: notes when a piece was handed on and nobody came for the next one.
struct Outgoing {
    body: Body,
    progress: Rc<Progress>,
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        this.progress.waiting_since.set(None);
        let frame = Pin::new(&mut this.body).poll_frame(context);
        if frame.is_ready() {
            this.progress.waiting_since.set(Some(Instant::now()));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
