//! The bytes of an HTTP/1.1 connection: whose turn it is to read them, and how long everything may take.
//!
//! The connection's loop and the body of the request under way share it; both live on one core, and never wait for the
//! same direction at once: while a body is read, it alone reads, and before the answer begins nobody else writes. A
//! connection that is idle holds no buffer: bytes are read into one that the core's connections share, and only what has
//! arrived is kept.

use std::cell::RefCell;
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

use super::body::{Inbound, Step};
use super::head::{Head, HeadReader, Wishes};
use super::write::Output;
use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::deadline::Deadline;
use crate::protocol::socket::Transport;
use crate::protocol::upgrade::Stream;
use crate::turn;

/// Bytes asked of a socket at a time. One buffer of this size serves all connections of a core.
const READ_BYTES: usize = 32 * 1024;

/// Bytes of later requests that are read while a request is under way, to see whether the client is still there.
const AHEAD_BYTES: usize = 16 * 1024;

/// Bytes of a body nobody wants that are read, so that the answer is not lost to a reset.
pub(super) const LINGER_BYTES: u64 = 256 * 1024;

/// Time for that.
const LINGER: Duration = Duration::from_secs(2);

/// How often a client that has sent its last byte is looked at for signs that it is gone altogether.
const GONE_ROUND: Duration = Duration::from_secs(5);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// What a connection brings next.
pub(super) enum Next {
    /// A request whose head was found good, and is where it was asked for.
    Request(Wishes),
    /// A head that is refused; nothing more is read.
    Refused(Fault),
    /// Nothing.
    End,
}

/// A client connection.
pub(super) struct Wire<T: Transport> {
    /// None once the protocol was switched.
    io: Option<T>,
    pub(super) arrived: BytesMut,
    /// The client has sent its last byte.
    pub(super) ended: bool,
    pub(super) limits: Limits,
    reader: HeadReader,
    /// When the head under way began to arrive.
    head_begun: Option<Instant>,
    reading: Deadline,
    writing: Deadline,
    /// What is still to come of the body of the request under way.
    pub(super) inbound: Inbound,
    /// Counts requests: a body that outlives its own reads nothing.
    pub(super) request: u64,
    /// Whether somebody holds the body of the request under way.
    pub(super) body_held: bool,
    /// Whoever waits for a piece of the body.
    pub(super) body_waker: Option<Waker>,
    /// The loop, while it waits for the answer and the body for the client.
    watcher: Option<Waker>,
    pub(super) output: Output,
    /// Whether a request is under way.
    pub(super) busy: bool,
    idle_since: Instant,
    /// Whether the connection ends as soon as nothing is under way.
    pub(super) last: bool,
    refused: bool,
}

impl<T: Transport> Wire<T> {
    /// A connection of which some bytes were read already.
    pub(super) fn new(io: T, arrived: BytesMut, limits: Limits) -> Self {
        Wire {
            io: Some(io),
            arrived,
            ended: false,
            limits,
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

    /// Whether part of a head has arrived.
    pub(super) fn is_reading_head(&self) -> bool {
        !self.busy && self.head_begun.is_some()
    }

    /// Reads more into `arrived`; false at the end of the stream.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(io_of(&mut self.io)?.poll_read(context, &mut read))?;
            self.arrived.extend_from_slice(read.filled());
            self.ended = read.filled().is_empty();
            Poll::Ready(Ok(!self.ended))
        })
    }

    /// Reads the next head, into a request that is as new.
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
                    Err(fault) => return Poll::Ready(Ok(self.refuse(fault))),
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
                    return self.poll_head_patience(context).map(Ok);
                }
            }
        }
    }

    /// Silence before or in a head: how long it may last depends on what went before.
    fn poll_head_patience(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        let until = match self.head_begun {
            Some(begun) => begun + self.limits.header_timeout,
            None if self.is_fresh() => self.idle_since + self.limits.header_timeout,
            None => self.idle_since + self.limits.keep_alive,
        };
        ready!(self.reading.poll_by_owner(until, context));
        Poll::Ready(match self.head_begun {
            Some(_) => self.refuse(Fault::new(FaultKind::HeaderTimeout)),
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
                self.inbound.begin(head.content, head.wishes.expects_continue);
                self.busy();
                Next::Request(head.wishes)
            }
            Err(fault) => self.refuse(fault),
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

    /// The answer is over: whoever still reads the request's body finds that there is no more of it.
    pub(super) fn end_request(&mut self) {
        self.busy = false;
        self.request += 1;
        self.body_held = false;
        self.idle_since = turn::now().into();
        if let Some(waker) = self.body_waker.take() {
            waker.wake();
        }
    }

    /// Ready once it is known that the client of the request under way is gone.
    ///
    /// As long as its body is to be read, that is for whoever reads it to find out. What comes after is read ahead, within
    /// bounds. A client that has sent its last byte may have said half of a goodbye (it still reads) or all of it; TCP
    /// tells the difference only by an error, sooner or later (keep-alive probes are on).
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.inbound.is_done() {
            if !self.watcher.as_ref().is_some_and(|watcher| watcher.will_wake(context.waker())) {
                self.watcher = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        while !self.ended && self.arrived.len() < AHEAD_BYTES {
            match ready!(self.poll_fill(context)) {
                Ok(_) => {}
                Err(_) => return Poll::Ready(()),
            }
        }
        if self.ended {
            if self.io.as_ref().is_none_or(|io| io.pending_error().is_some()) {
                return Poll::Ready(());
            }
            // Never ready, as the time moves on with each look; but it makes for the next look.
            let _ = self.reading.poll(Instant::now() + GONE_ROUND, context);
        }
        Poll::Pending
    }

    /// The body was read to its end: from now on the loop watches the client.
    pub(super) fn wake_watcher(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }

    /// Writes what is to be written, down to the socket.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = io_of(&mut self.io)?;
        let mut sent = self.output.poll_write(&mut *io, context);
        if matches!(sent, Poll::Ready(Ok(()))) {
            sent = io.poll_flush(context);
        }
        self.poll_write_patience(context, sent)
    }

    /// Asks a client that holds its body back to send it (RFC 9110 section 10.1.1).
    pub(super) fn poll_continue(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.inbound.expects && self.arrived.is_empty() {
            if !self.inbound.asked {
                self.inbound.asked = true;
                self.output.interim();
            }
            ready!(self.poll_send(context))?;
        }
        self.inbound.expects = false;
        Poll::Ready(Ok(()))
    }

    /// Ready with an error once a client has not taken a byte for too long.
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

    /// Reads what is left of the body of a request that was answered early; false if that is too much, too slow or broken.
    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>, room: &mut u64) -> Poll<bool> {
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
                    ready!(self.reading.poll(since + LINGER, context));
                    return Poll::Ready(false);
                }
            }
        }
    }

    /// Says that nothing more will come, and reads what a client still sends although it has its answer: closing with
    /// unread bytes would reset the connection, and the reset overtakes the answer.
    pub(super) fn poll_close(&mut self, context: &mut Context<'_>, lingering: &mut Option<u64>) -> Poll<()> {
        let mut left = match *lingering {
            Some(left) => left,
            None => {
                let Some(io) = &mut self.io else { return Poll::Ready(()) };
                let shut = Pin::new(io).poll_shutdown(context);
                let shut = ready!(self.poll_write_patience(context, shut));
                let owed = self.refused || !self.arrived.is_empty() || !self.inbound.is_done();
                if shut.is_err() || self.ended || !owed {
                    return Poll::Ready(());
                }
                self.reading.clear();
                *lingering.insert(LINGER_BYTES)
            }
        };
        let since = self.reading.since();
        while left > 0 {
            self.arrived.clear();
            match self.poll_fill(context) {
                Poll::Ready(Ok(true)) => left = left.saturating_sub(self.arrived.len() as u64),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    *lingering = Some(left);
                    return self.reading.poll(since + LINGER, context);
                }
            }
        }
        Poll::Ready(())
    }

    /// Makes the close a reset.
    pub(super) fn reset(&self) {
        if let Some(io) = &self.io {
            io.reset_on_close();
        }
    }

    /// What remains once the protocol was switched.
    pub(super) fn switch(&mut self) -> Option<Stream> {
        let arrived = mem::take(&mut self.arrived).freeze();
        self.io.take().map(|io| Stream::new(io, arrived))
    }
}

fn io_of<T: Transport>(io: &mut Option<T>) -> io::Result<Pin<&mut T>> {
    io.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
}
