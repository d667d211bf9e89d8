//! A connection to an endpoint, held by its core: HTTP/1.1 with one request at a time, or HTTP/2 with many.

pub(crate) mod connect;
pub(crate) mod lease;
pub(crate) mod limit;
pub(crate) mod pool;
pub(crate) mod resolve;
pub(crate) mod socket;
pub(crate) mod tls;
mod workload;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use witgate_config::model::UpstreamProtocol;
use witgate_exchange::fault::Fault;

use crate::connection::socket::{Opening, Socket};
use crate::response::failure::fault_of;
use crate::send::http1::Http1;
use crate::send::upload::Upload;

/// HTTP/2: the most bytes of a response head.
const HEAD_BYTES: usize = 128 * 1024;
/// HTTP/2 flow control: the most bytes in memory of one response, and of all responses of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// HTTP/2: the interval of PINGs on a connection with streams, and how long the PONG may take.
const PING_EVERY: Duration = Duration::from_secs(20);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// The right to send one request.
pub(crate) enum Connection {
    /// A whole connection.
    Http1(Box<Http1>),
    /// One stream of a connection.
    Http2(Stream),
}

/// An HTTP/2 connection, shared by its streams and the pool.
pub(crate) struct Http2 {
    sender: RefCell<http2::SendRequest<Upload>>,
    streams: Cell<usize>,
    /// The most concurrent streams that the endpoint allows, as far as it has announced that.
    most: Rc<Cell<usize>>,
    /// Whether it accepts no new streams, so that it closes with its last stream.
    pub(crate) retiring: Cell<bool>,
    /// Whether one of its requests has reported the end of the connection.
    pub(crate) end_told: Cell<bool>,
    pub(crate) overtakes: Cell<u32>,
    pub(crate) idle_since: Cell<Instant>,
    /// When and to which address it was opened.
    pub(crate) opening: Opening,
}

/// One counted stream of its connection.
pub(crate) struct Stream {
    pub(crate) connection: Rc<Http2>,
}

impl Connection {
    /// Starts HTTP on a socket. An HTTP/2 connection runs in a task of this core.
    ///
    /// # Errors
    /// `UpstreamReset`, unsent.
    pub(crate) async fn open(socket: Socket, protocol: UpstreamProtocol) -> Result<Connection, Fault> {
        if protocol == UpstreamProtocol::Http1 {
            return Ok(Connection::Http1(Http1::new(socket)));
        }
        let opened = Http2::open(socket).await.map_err(|error| fault_of(&error).unsent())?;
        Ok(Connection::Http2(opened.stream().expect("a new connection has room for a stream")))
    }

    /// Whether the connection is not known to have ended.
    pub(crate) fn is_alive(&mut self) -> bool {
        match self {
            Connection::Http1(connection) => connection.is_alive(),
            Connection::Http2(stream) => !stream.connection.is_closed(),
        }
    }
}

impl Stream {
    /// Sends a request. If sending has not begun, the error contains the request.
    pub(crate) async fn send(
        &self,
        request: Request<Upload>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Upload>>> {
        let sent = self.connection.sender.borrow_mut().try_send_request(request);
        sent.await
    }
}

impl Http2 {
    async fn open(socket: Socket) -> hyper::Result<Rc<Http2>> {
        let opening = socket.opening();
        let (sender, connection) = http2::Builder::new(OwnCore)
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEAD_BYTES as u32)
            .max_send_buf_size(STREAM_WINDOW as usize)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PONG_WITHIN)
            .handshake(TokioIo::new(socket))
            .await?;
        let most = Rc::new(Cell::new(connection.current_max_send_streams()));
        let seen = most.clone();
        tokio::task::spawn_local(async move {
            let mut connection = pin!(connection);
            poll_fn(|context| {
                seen.set(connection.current_max_send_streams());
                connection.as_mut().poll(context)
            })
            .await
        });
        Ok(Rc::new(Http2 {
            sender: RefCell::new(sender),
            streams: Cell::new(0),
            most,
            retiring: Cell::new(false),
            end_told: Cell::new(false),
            overtakes: Cell::new(0),
            idle_since: Cell::new(Instant::now()),
            opening,
        }))
    }

    /// A new stream, if the connection can take one more.
    pub(crate) fn stream(self: &Rc<Self>) -> Option<Stream> {
        let room = !self.is_closed() && !self.retiring.get() && self.streams.get() < self.most.get().max(1);
        room.then(|| {
            self.streams.set(self.streams.get() + 1);
            Stream { connection: self.clone() }
        })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sender.borrow().is_closed()
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.streams.get() == 0
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(Instant::now());
    }
}

/// Runs hyper's tasks on the core of the connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnCore;

impl<F> hyper::rt::Executor<F> for OwnCore
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
