//! HTTP/2 (RFC 9113) on one client connection. The `h2` crate reads and writes the frames; everything else is one
//! future.
//!
//! | file | what happens there |
//! |---|---|
//! | `stream` | one request and its response |
//! | [`body`] | request bodies; the flow-control window is returned as they are read |
//! | `tunnel` | the data of a stream as the bytes of another protocol |
//! | `wire` | the bytes, gathered into one write for each poll of the connection |
//! | `keep_alive` | PINGs to silent clients |
//! | `blocks` | how long a header block has been unfinished |
//! | `streams` | the open streams |
//!
//! # Malformed requests
//!
//! A malformed request is a stream error (RFC 9113 section 8.1.1). So it is for everything that `h2` or
//! [`hygiene`](crate::protocol::hygiene) refuse: connection-specific fields, pseudo-header fields that are
//! missing, repeated or misplaced, invalid targets, authorities and lengths, white space around values. There is
//! one exception: `h2` (0.4.20) converts fields to typed values while it decodes a header block, and treats a
//! field that it cannot represent (upper case in a name, NUL, CR or LF in a value, an unknown pseudo-header field,
//! a `:path` that is not UTF-8) as a broken header block. That is a connection error, which ends all streams. The
//! same holds for responses of HTTP/2 upstreams. No setting of the crate changes this.

mod blocks;
pub mod body;
mod keep_alive;
mod stream;
mod streams;
mod tunnel;
mod wire;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::Reason;
use h2::server::{Builder, Connection as Frames};
use http::{HeaderMap, Version};
use witgate_config::model::Limits;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::deadline::Deadline;
use witgate_wire::socket::Transport;

use self::keep_alive::KeepAlive;
use self::stream::Stream;
use self::streams::{OpenStream, Streams};
use self::wire::{Shared, Wire};
use crate::listener::bound::Generation;
use crate::listener::data_plane::CoreShared;
use crate::protocol::connection::Connection;
use crate::protocol::{lifetime, service};

/// Flow-control windows, in bytes, of a stream and of the connection. Window is returned only for data that was
/// read, so they also bound what a client can make the gateway buffer.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest frame that is accepted: the smallest limit that the protocol allows.
const FRAME_BYTES: u32 = 16 * 1024;

/// Bytes of a response that may be buffered for each stream.
const SEND_BUFFER: usize = 64 * 1024;

/// The most streams that may be reset before they are accepted ("rapid reset", CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// The most streams that the gateway may have to reset because of a client's errors ("made you reset",
/// CVE-2025-8671).
const PROVOKED_RESETS: usize = 128;

/// Why a request ended whose connection was closed for an unfinished header block.
const CUT_BY_BLOCK: &str = "a header block on its connection was unfinished for `header_timeout`";

/// Serves requests until the client, an error or a drain ends the connection. `arrived` holds bytes that were
/// already read.
///
/// Not an `async fn`: its future would reserve room for `io` twice, as an argument and inside [`Wire`].
pub(crate) fn serve<T: Transport>(
    plane: &CoreShared,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) -> impl Future<Output = ()> {
    let wire = Rc::new(RefCell::new(Wire::new(io, arrived, connection.ingress.limits.body_timeout)));
    async move {
        let streams = Rc::new(Streams::default());
        let mut turns = Box::pin(run(connection.clone(), wire, streams.clone()));
        if !lifetime::drive(turns.as_mut(), &connection, generation, &*streams).await {
            plane.cut.fetch_add(streams.open(), Ordering::AcqRel);
        }
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(PROVOKED_RESETS))
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_connect_protocol();
    builder
}

/// Reads the preface, then serves. Errors are dropped: the client caused them or is gone.
async fn run<T: Transport>(connection: Rc<Connection>, wire: Rc<RefCell<Wire<T>>>, streams: Rc<Streams>) {
    let mut handshake = pin!(builder(&connection.ingress.limits).handshake(Shared(wire.clone())));
    let shaken = poll_fn(|context| {
        let frames = handshake.as_mut().poll(context);
        if frames.is_pending() && streams.is_over() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match wire.borrow_mut().poll_send(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => frames.map_err(io::Error::other),
        }
    });
    let Ok(mut frames) = shaken.await else { return };
    let keep_alive = frames.ping_pong().map(KeepAlive::new);
    let under_way = FuturesUnordered::new();
    let heading = Deadline::default();
    let is_late = false;
    let mut serving = Serving { connection, wire, frames, keep_alive, heading, is_late, streams, under_way };
    poll_fn(|context| serving.poll_turn(context)).await;
    let (connection, is_late) = (serving.connection.clone(), serving.is_late);
    // The requests in progress end first, so that the log has them before the one that cut them off.
    drop(serving);
    if is_late {
        // The client gets no response, but log and metrics have the request.
        let fault = Fault::new(FaultKind::HeaderTimeout);
        drop(Box::pin(service::refuse(&connection, Version::HTTP_2, HeaderMap::new(), fault)).await);
    }
}

/// A connection after its preface.
struct Serving<T: Transport> {
    connection: Rc<Connection>,
    wire: Rc<RefCell<Wire<T>>>,
    frames: Frames<Shared<T>, Bytes>,
    keep_alive: Option<KeepAlive>,
    /// Runs while a header block is unfinished.
    heading: Deadline,
    /// Whether a header block was unfinished for too long.
    is_late: bool,
    streams: Rc<Streams>,
    under_way: FuturesUnordered<Stream>,
}

impl<T: Transport> Serving<T> {
    /// Does everything that is possible now: advances streams, reads frames, begins streams, and writes their
    /// output at once. Ready when the connection is over.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.streams.take_end() {
            self.frames.graceful_shutdown();
        }
        if self.streams.is_over() {
            self.frames.abrupt_shutdown(Reason::NO_ERROR);
        }
        let heard = self.wire.borrow().heard();
        if self.keep_alive.as_mut().is_some_and(|keep_alive| keep_alive.poll(heard, context).is_ready()) {
            self.keep_alive = None;
            self.frames.abrupt_shutdown(Reason::NO_ERROR);
        }
        let over = loop {
            while let Poll::Ready(Some(())) = self.under_way.poll_next_unpin(context) {}
            match self.poll_frames(context) {
                Poll::Ready(over) => break over,
                Poll::Pending => {}
            }
        };
        if self.poll_heading(context).is_ready() {
            // Nothing else can be read before the rest of the block, so the connection ends with all its streams.
            self.connection.ingress.cut((FaultKind::HeaderTimeout, CUT_BY_BLOCK));
            self.is_late = true;
            self.frames.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            while let Poll::Ready(Some(Ok(_))) = self.frames.poll_accept(context) {}
            let _ = self.wire.borrow_mut().poll_send(context);
            return Poll::Ready(());
        }
        let sent = self.wire.borrow_mut().poll_send(context);
        if over || matches!(sent, Poll::Ready(Err(_))) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Ready once a header block has been unfinished for `header_timeout`.
    fn poll_heading(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.wire.borrow().block_since() {
            Some(since) => self.heading.poll(since + self.connection.ingress.limits.header_timeout, context),
            None => Poll::Pending,
        }
    }

    /// Writes and reads frames, and begins streams. Pending: a stream began and must be polled. Ready: nothing
    /// more to read now; true if the connection is over.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut begun = false;
        loop {
            match self.frames.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    let open = OpenStream::new(&self.streams);
                    self.under_way.push(Stream::begin(&self.connection, request, respond, open));
                    begun = true;
                }
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(true),
                Poll::Pending if begun => return Poll::Pending,
                Poll::Pending => return Poll::Ready(false),
            }
        }
    }
}
