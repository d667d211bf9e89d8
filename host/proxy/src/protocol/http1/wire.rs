//! The bytes of an HTTP/1.1 connection: who may read them, and its timeouts.
//!
//! The connection's loop and the body of the request in flight share it; both run on one core. They never wait for
//! the same direction at once: while the body is read, only the body reads, and before the response begins only
//! informational responses are written: `100 Continue` by the body, those of an origin by the loop. An idle connection holds no buffer: bytes are read into a buffer shared by
//! the connections of the core, and only what has arrived is kept.

use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::Request;
use tokio::io::ReadBuf;
use tokio::time::Instant;
use witgate_config::model::Limits;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_exchange::turn;
use witgate_wire::deadline::Deadline;
use witgate_wire::http1::head::{self, ConnectionOptions, Head, HeadReader};
use witgate_wire::http1::write::Output;
use witgate_wire::socket::Transport;
use witgate_wire::stream::Stream;

use super::body::{Inbound, Step};
use crate::core_local::READ_BUFFER;

/// Bytes that are read ahead while a request is in flight, in order to notice when the client leaves.
const AHEAD_BYTES: usize = 16 * 1024;

/// How often a client is checked that has already sent as much as is read ahead.
const GONE_ROUND: Duration = Duration::from_secs(1);

/// The longest rest of an unread request body, in bytes, that is read in order to keep the connection alive.
pub(super) const SKIPPED_BYTES: u64 = 256 * 1024;

/// The longest time that reading this rest may take.
const SKIP_TIME: Duration = Duration::from_secs(2);

/// Lingering close: the connection ends when a client that has its response has sent nothing for this long.
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// Lingering close: the longest time in all.
const LINGER_TIME: Duration = Duration::from_secs(30);

/// A connection that is being closed while its client may still be sending (lingering close).
pub(super) struct Lingering {
    /// Whether the client is known to have more to send.
    owed: bool,
    until: Instant,
}

/// What comes next on a connection.
pub(super) enum Next {
    /// A request with a valid head, which was filled in.
    Request(ConnectionOptions),
    /// A refused head; nothing more is read. Of its fields only `Origin` was filled in.
    Refused(Fault),
    /// The end.
    End,
}

/// A client connection.
pub(super) struct Wire<T: Transport> {
    /// `None` once the protocol was switched.
    io: Option<T>,
    pub(super) arrived: BytesMut,
    /// Whether the client has closed its side.
    pub(super) ended: bool,
    pub(super) limits: Limits,
    /// Whether a client that has closed its side still waits for its response.
    half_close: bool,
    reader: HeadReader,
    /// When the current head began to arrive.
    head_begun: Option<Instant>,
    reading: Deadline,
    writing: Deadline,
    /// What is still to come of the body of the request in flight.
    pub(super) inbound: Inbound,
    /// Counts requests, so that a body that outlives its request can no longer read.
    pub(super) request: u64,
    /// Whether the body of the request in flight has an owner.
    pub(super) body_held: bool,
    /// The task that waits for a piece of the body. While it is set, only the body reads the connection.
    pub(super) body_waker: Option<Waker>,
    /// The connection's task, while it waits for the response and the body reads the connection.
    watcher: Option<Waker>,
    pub(super) output: Output,
    /// Whether a request is in flight.
    pub(super) busy: bool,
    idle_since: Instant,
    /// Whether the connection ends as soon as no request is in flight.
    pub(super) last: bool,
    refused: bool,
}

impl<T: Transport> Wire<T> {
    /// A connection; `arrived` holds bytes that were already read.
    pub(super) fn new(io: T, arrived: BytesMut, limits: Limits, half_close: bool) -> Self {
        Wire {
            io: Some(io),
            arrived,
            ended: false,
            limits,
            half_close,
            reader: HeadReader::default(),
            head_begun: None,
            reading: Deadline::default(),
            writing: Deadline::default(),
            inbound: Inbound::default(),
            request: 0,
            body_held: false,
            body_waker: None,
            watcher: None,
            output: Output::default(),
            busy: false,
            idle_since: Instant::now(),
            last: false,
            refused: false,
        }
    }

    /// Whether no request has come yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.request == 0
    }

    /// Since when no request and no part of a head has been in flight; `None` while one is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (!self.busy && self.head_begun.is_none()).then_some(self.idle_since)
    }

    /// Reads more bytes into `arrived`. False at the end of the stream.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        READ_BUFFER.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(io_of(&mut self.io)?.poll_read(context, &mut read))?;
            self.arrived.extend_from_slice(read.filled());
            self.ended = read.filled().is_empty();
            Poll::Ready(Ok(!self.ended))
        })
    }

    /// Reads the next head into `request`, which must be empty.
    pub(super) fn poll_next(
        &mut self,
        request: &mut Request<Body>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<Next>> {
        loop {
            if !self.arrived.is_empty() {
                match self.reader.read(&self.arrived, &self.limits) {
                    Ok(Some(head)) => {
                        return Poll::Ready(Ok(self.begin(&head, request)));
                    }
                    Ok(None) => {}
                    Err(fault) => {
                        head::read_origin(&self.arrived, request);
                        return Poll::Ready(Ok(self.refuse(fault)));
                    }
                }
            }
            let begun = self.reader.has_begun();
            if self.ended || self.last && !begun {
                return Poll::Ready(Ok(Next::End));
            }
            match self.poll_fill(context)? {
                Poll::Ready(_) => {}
                Poll::Pending => {
                    if begun && self.head_begun.is_none() {
                        self.head_begun = Some(Instant::now());
                    }
                    return self.poll_head_patience(request, context).map(Ok);
                }
            }
        }
    }

    /// Limits the silence before and within a head: `header_timeout` for the first head and once a head has begun,
    /// `keep_alive` between requests.
    fn poll_head_patience(&mut self, request: &mut Request<Body>, context: &mut Context<'_>) -> Poll<Next> {
        let until = match self.head_begun {
            Some(begun) => begun + self.limits.header_timeout,
            None if self.is_fresh() => self.idle_since + self.limits.header_timeout,
            None => self.idle_since + self.limits.keep_alive,
        };
        ready!(self.reading.poll_by_owner(until, context));
        Poll::Ready(match self.head_begun {
            Some(_) => {
                head::read_origin(&self.arrived, request);
                self.refuse(Fault::new(FaultKind::HeaderTimeout))
            }
            None => Next::End,
        })
    }

    fn begin(&mut self, head: &Head, request: &mut Request<Body>) -> Next {
        let bytes = if self.arrived.len() == head.length {
            mem::take(&mut self.arrived).freeze()
        } else {
            self.arrived.split_to(head.length).freeze()
        };
        match self.reader.take(&bytes, request) {
            Ok(()) => {
                self.inbound.begin(head.content, head.options.expects_continue);
                self.busy();
                Next::Request(head.options)
            }
            Err(fault) => {
                head::read_origin(&bytes, request);
                self.refuse(fault)
            }
        }
    }

    fn refuse(&mut self, fault: Fault) -> Next {
        self.arrived.clear();
        self.refused = true;
        self.busy();
        Next::Refused(fault)
    }

    fn busy(&mut self) {
        self.head_begun = None;
        self.request += 1;
        self.busy = true;
    }

    /// Ends the request in flight; a body that is still held reads no further.
    pub(super) fn end_request(&mut self) {
        self.busy = false;
        self.request += 1;
        self.body_held = false;
        self.idle_since = turn::now().into();
        if let Some(waker) = self.body_waker.take() {
            waker.wake();
        }
    }

    /// Ready once the client of the request in flight is known to be gone.
    ///
    /// A client that closes its side has left, unless its listener allows a half-close. With a half-close only a
    /// socket error shows, at the latest through keep-alive probes, that nobody waits for the response.
    ///
    /// While the body is being read, the body reads the connection and notices the end itself. Otherwise what the
    /// client sends is read ahead up to [`AHEAD_BYTES`]; beyond that the client is checked every [`GONE_ROUND`]. A
    /// body without an owner is read and discarded, since a client may not read its response before it has sent
    /// everything.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.body_waker.is_some() {
            if !self.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(context.waker())) {
                self.watcher = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        self.skip_unwanted(context);
        while !self.ended && self.arrived.len() < AHEAD_BYTES {
            if ready!(self.poll_fill(context)).is_err() {
                return Poll::Ready(());
            }
        }
        let Some(io) = &self.io else { return Poll::Ready(()) };
        let left = match self.half_close {
            true => io.pending_error().is_some(),
            false => self.ended || io.is_read_closed(),
        };
        if left {
            return Poll::Ready(());
        }
        // Never ready, because the time moves on with each call; polling only schedules the next check.
        let _ = self.reading.poll(Instant::now() + GONE_ROUND, context);
        Poll::Pending
    }

    /// Reads and discards what has arrived of a body that has no owner any more.
    fn skip_unwanted(&mut self, context: &mut Context<'_>) {
        while !self.body_held && !self.inbound.is_done() {
            match self.poll_body(context) {
                Poll::Ready(Some(Ok(_))) => {}
                // Nothing more has arrived, or the framing is broken.
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    }

    /// Wakes the connection's task, unless it is the task being polled: the body no longer reads, so the loop must
    /// watch the client.
    pub(super) fn wake_watcher(&mut self, context: &Context<'_>) {
        if let Some(watcher) = self.watcher.take()
            && !watcher.will_wake(context.waker())
        {
            watcher.wake();
        }
    }

    /// Writes the buffered output to the socket.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = io_of(&mut self.io)?;
        let mut sent = self.output.poll_write(&mut *io, context);
        if matches!(sent, Poll::Ready(Ok(()))) {
            sent = io.poll_flush(context);
        }
        if sent.is_pending() {
            self.skip_unwanted(context);
        }
        self.poll_write_patience(context, sent)
    }

    /// Sends `100 Continue` to a client that waits for it (RFC 9110 section 10.1.1).
    pub(super) fn poll_continue(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inbound.expects && self.arrived.is_empty() {
            if !self.inbound.asked {
                self.inbound.asked = true;
                self.output.proceed();
            }
            ready!(self.poll_send(context))?;
        }
        self.inbound.expects = false;
        Poll::Ready(Ok(()))
    }

    /// Fails once the client has taken no byte for `body_timeout`.
    fn poll_write_patience(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<()>>,
    ) -> Poll<io::Result<()>> {
        if result.is_pending() && self.output.take_progress() {
            self.writing.restart();
        }
        self.writing.poll_write(result, self.limits.body_timeout, context)
    }

    /// Reads the rest of the body of a request whose response was sent early, at most `room` bytes and for 2 s.
    /// False if it is longer, slower or malformed.
    pub(super) fn poll_skip(&mut self, context: &mut Context<'_>, room: &mut u64) -> Poll<bool> {
        let since = self.reading.since();
        loop {
            if self.inbound.is_done() {
                self.reading.clear();
                return Poll::Ready(true);
            }
            match self.poll_body(context) {
                Poll::Ready(Some(Ok(Step::Data(data)))) if data.len() as u64 <= *room => {
                    *room -= data.len() as u64
                }
                Poll::Ready(Some(Ok(Step::Trailers(_))) | None) => {}
                Poll::Ready(_) => return Poll::Ready(false),
                Poll::Pending => {
                    ready!(self.reading.poll(since + SKIP_TIME, context));
                    return Poll::Ready(false);
                }
            }
        }
    }

    /// Closes the connection as RFC 9112 section 9.6 requires: closes the sending side, then reads what the client
    /// still sends. A close with unread bytes would make the kernel reset the connection, and the client might
    /// lose the response. Only time is limited, not bytes, because a lingering connection costs nothing but its
    /// permit under the listener's limit.
    pub(super) fn poll_close(
        &mut self,
        context: &mut Context<'_>,
        lingering: &mut Option<Lingering>,
    ) -> Poll<()> {
        let lingering = match lingering {
            Some(lingering) => lingering,
            None => {
                let Some(io) = &mut self.io else { return Poll::Ready(()) };
                let shut = Pin::new(io).poll_shutdown(context);
                let shut = ready!(self.poll_write_patience(context, shut));
                if shut.is_err() || self.ended {
                    return Poll::Ready(());
                }
                let owed = self.refused || !self.arrived.is_empty() || !self.inbound.is_done();
                self.arrived = BytesMut::new();
                self.reading.restart();
                lingering.insert(Lingering { owed, until: Instant::now() + LINGER_TIME })
            }
        };
        loop {
            match self.poll_discard(context) {
                Poll::Ready(Ok(true)) if Instant::now() < lingering.until => {
                    lingering.owed = true;
                    self.reading.restart();
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // The client has sent everything it announced, and no other request has begun.
                Poll::Pending if !lingering.owed => return Poll::Ready(()),
                Poll::Pending => {
                    let until = lingering.until.min(self.reading.since() + LINGER_SILENCE);
                    return self.reading.poll(until, context);
                }
            }
        }
    }

    /// Reads and discards bytes. False at the end of the stream.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        READ_BUFFER.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(io_of(&mut self.io)?.poll_read(context, &mut read))?;
            Poll::Ready(Ok(!read.filled().is_empty()))
        })
    }

    /// Makes the coming close a TCP reset.
    pub(super) fn reset(&self) {
        if let Some(io) = &self.io {
            io.reset_on_close();
        }
    }

    /// The transport and the unread bytes, after the protocol was switched.
    pub(super) fn switch(&mut self) -> Option<Stream> {
        let arrived = mem::take(&mut self.arrived).freeze();
        self.io.take().map(|io| Stream::new(io, arrived))
    }
}

fn io_of<T: Transport>(io: &mut Option<T>) -> io::Result<Pin<&mut T>> {
    io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
}
