//! HTTP/2 (RFC 9113) on one connection: the frames are those of the `h2` crate, everything else is one future.
//!
//! | file | what happens there |
//! |---|---|
//! | `stream` | one request, its walk, and its answer as fast as the client takes it |
//! | [`body`] | request bodies, granted as they are read |
//! | `tunnel` | the data of a stream as the bytes of another protocol |
//! | `wire` | the bytes, gathered into one write a turn |
//! | `keep_alive` | silent clients |
//! | `streams` | what is open |
//!
//! # What was tried, and what it gave
//!
//! Instructions of the whole process in user space for one request (16 connections of 8 streams, GET of 1 KiB, HTTP/1.1
//! towards the upstream, no access log), counted by callgrind in November 2026; hyper's server is 1:
//!
//! | step | ratio |
//! |---|---|
//! | the walk of a request made where it stays, where hyper's executor moved it four times; no task a stream; one flush a turn | 0.44 |
//! | with it: request ids are kept out of the table of headers; the last authority is remembered | 0.39 |
//!
//! Both rows hold what the walk itself became cheaper by meanwhile. Writes to clients went from one for every answer to
//! one for seven or eight: the frames' side flushes after each piece of data that is not tiny. CPU of the process as a
//! ratio to nginx, in one run on a quiet machine: 1.02 before, 0.64 after.
//!
//! What is left besides the walk (half of it): headers in HPACK, and one poll of all frames for every stream accepted,
//! which the crate gives no way around. Streams that answer at once also give back their upstream connections at once: with
//! 128 streams and 64 `idle_connections`, its default then, up to a third of all requests had one opened anew. It is 256 now.
//!
//! # Where a gRPC call goes
//!
//! HTTP/2 on both sides, 128 bytes each way: 26 us of CPU where HAProxy takes 19 and nginx 82 (AMD). Of the samples of a core
//! under that load (perf, five seconds) 69 % are in the program, 19 % in the kernel and 11 % in the C library, which copies.
//! By function: the walk of the request through this gateway 20 %, HPACK's encoder 7 %, reading frames and heads 6 %, the
//! allocator 4 %, and a long tail. So it is not the kernel, as with HTTP/1.1, but twice the frames of `h2`: once here, and once
//! towards the endpoint, where hyper's client stands around them with a task and a channel for each request. What it would
//! take: `h2` alone towards endpoints too. On this side that was what took the instructions to 0.44.

//!
//! # Malformed requests
//!
//! A malformed request is an error of its stream (RFC 9113 section 8.1.1), and so it is for what `h2` or
//! [`hygiene`](crate::protocol::hygiene) refuse: fields of the connection, pseudo-header fields that are missing, repeated or out
//! of place, targets, authorities and lengths that are none, white space around values. One kind is not: `h2` (0.4.20) makes
//! typed fields of what it decodes while it decodes it, and takes a field that has no such form (upper case in a name, NUL, CR or LF in
//! a value, an unknown pseudo-header field, a `:path` that is not UTF-8) for a broken header block, which is an error of the
//! connection and ends all of its streams. The same holds for answers of HTTP/2 upstreams. No setting changes it. The
//! crate would have to keep such a field as bytes in its table of fields, so that what both sides remember stays the same, and
//! report the block as malformed once it is read.

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
use witgate_config::model::Limits;

use self::keep_alive::KeepAlive;
use self::stream::Stream;
use self::streams::{OpenStream, Streams};
use self::wire::{Shared, Wire};
use crate::listener::bound::Generation;
use crate::listener::data_plane::CoreShared;
use crate::protocol::connection::Connection;
use crate::protocol::lifetime;
use crate::protocol::socket::Transport;

/// Bytes of a request body that may be on their way, for a stream and for the connection. What is not read is not
/// granted again, so this is also what a client can make us hold.
const STREAM_WINDOW: u32 = 128 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest frame that is accepted; the least the protocol allows.
const FRAME_BYTES: u32 = 16 * 1024;

/// Bytes of a response that may wait to be written.
const SEND_BUFFER: usize = 64 * 1024;

/// Streams that were reset before they were looked at ("rapid reset", CVE-2023-44487).
const PENDING_RESETS: usize = 20;

/// Streams we had to reset because of the client's mistakes ("made you reset", CVE-2025-8671).
const PROVOKED_RESETS: usize = 128;

/// Serves requests until the client, an error or a drain ends the connection. `arrived` was read already.
///
/// Not an `async fn`: its future would keep room for the stream it is given, beside the place the stream moves to.
pub(crate) fn serve<T: Transport>(
    plane: &CoreShared,
    connection: Rc<Connection>,
    io: T,
    arrived: BytesMut,
    generation: &Arc<Generation>,
) -> impl Future<Output = ()> {
    let wire = Rc::new(RefCell::new(Wire::new(io, arrived, connection.limits.body_timeout)));
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

/// The preface, and then turn after turn. An error has nobody to be told: the client knows, or is gone.
async fn run<T: Transport>(connection: Rc<Connection>, wire: Rc<RefCell<Wire<T>>>, streams: Rc<Streams>) {
    let mut handshake = pin!(builder(&connection.limits).handshake(Shared(wire.clone())));
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
    let mut serving = Serving { connection, wire, frames, keep_alive, streams, under_way };
    poll_fn(|context| serving.poll_turn(context)).await;
}

/// A connection past its preface.
struct Serving<T: Transport> {
    connection: Rc<Connection>,
    wire: Rc<RefCell<Wire<T>>>,
    frames: Frames<Shared<T>, Bytes>,
    keep_alive: Option<KeepAlive>,
    streams: Rc<Streams>,
    under_way: FuturesUnordered<Stream>,
}

impl<T: Transport> Serving<T> {
    /// What can be done now: streams that were waited for move on, frames are read, streams begin, and what all of them
    /// have to say is written at once. Ready when the connection is over.
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
        let sent = self.wire.borrow_mut().poll_send(context);
        if over || matches!(sent, Poll::Ready(Err(_))) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Writes and reads frames, and begins what they ask for. Pending: something has begun that wants to be looked at. Ready
    /// with whether the connection is over.
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
