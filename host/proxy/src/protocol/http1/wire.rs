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
use super::head::{ConnectionOptions, Head, HeadReader};
use super::write::Output;
use crate::body::Body;
use crate::fault::{Fault, FaultKind};
use crate::protocol::deadline::Deadline;
use crate::protocol::socket::Transport;
use crate::protocol::upgrade::Stream;
use crate::turn;

/// Bytes asked of a socket at a time. One buffer of this size serves all connections of a core.
const READ_BYTES: usize = 32 * 1024;

/// Bytes that nobody has asked for yet, and that are read all the same while a request is under way, to see whether the client
/// is still there.
const AHEAD_BYTES: usize = 16 * 1024;

/// How often it is looked at whether a client is still there of which no more is read ahead.
const GONE_ROUND: Duration = Duration::from_secs(1);

/// Bytes of a body nobody wants that are read so that the connection can serve another request.
pub(super) const SKIPPED_BYTES: u64 = 256 * 1024;

/// Time for that.
const SKIP_TIME: Duration = Duration::from_secs(2);

/// How long a client that still sends although it has its answer may send nothing before the connection is closed.
const LINGER_SILENCE: Duration = Duration::from_secs(5);

/// How long it may go on sending.
const LINGER_TIME: Duration = Duration::from_secs(30);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// A connection that is closed once its client has sent what it still has to send.
pub(super) struct Lingering {
    /// Whether the client is known to have more to send.
    owed: bool,
    until: Instant,
}

/// What a connection brings next.
pub(super) enum Next {
    /// A request whose head was found good, and is where it was asked for.
    Request(ConnectionOptions),
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
    /// Whether a client that has sent its last byte still waits for its answer.
    half_close: bool,
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
    /// Whoever waits for a piece of the body. Only then does it read the connection.
    pub(super) body_waker: Option<Waker>,
    /// The loop, while it waits for the answer and somebody else reads the connection.
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

    /// Since when nothing has been under way, neither a request nor part of its head; none while something is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (!self.busy && self.head_begun.is_none()).then_some(self.idle_since)
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
                self.inbound.begin(head.content, head.options.expects_continue);
                self.busy();
                Next::Request(head.options)
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
    /// A client that has sent its last byte has left, unless its listener lets clients close their side first. Then only an
    /// error tells, sooner or later, that nobody waits for the answer (keep-alive probes are on).
    ///
    /// Whoever waits for a piece of the body reads the connection, and finds this out itself. Otherwise what the client
    /// sends is read ahead, within bounds; a client that has sent more than that is looked at from time to time. A body that
    /// nobody holds any more is read and forgotten, since a client may not read its answer before it has sent everything.
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
        // Never ready, as the time moves on with each look; but it makes for the next look.
        let _ = self.reading.poll(Instant::now() + GONE_ROUND, context);
        Poll::Pending
    }

    /// Reads and forgets what has arrived of a body that nobody holds any more.
    fn skip_unwanted(&mut self, context: &mut Context<'_>) {
        while !self.body_held && !self.inbound.is_done() {
            match self.poll_body(context) {
                Poll::Ready(Some(Ok(_))) => {}
                // Nothing more has come, or nothing more can be told from what follows.
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
    }

    /// Whoever read the connection does not read it now: the loop watches the client, if it is not just being polled.
    pub(super) fn wake_watcher(&mut self, context: &Context<'_>) {
        if let Some(watcher) = self.watcher.take()
            && !watcher.will_wake(context.waker())
        {
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
        if sent.is_pending() {
            self.skip_unwanted(context);
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

    /// Closes the connection as RFC 9112 section 9.6 has it: says that nothing more will come, and reads what a client still
    /// sends although it has its answer. Closing with unread bytes would reset the connection, and the reset overtakes the
    /// answer. How much it sends does not matter, but how long: it holds a place among the connections of its listener,
    /// and nothing else.
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
                // The client has sent everything it was to send, or has not begun another request.
                Poll::Pending if !lingering.owed => return Poll::Ready(()),
                Poll::Pending => {
                    let until = lingering.until.min(self.reading.since() + LINGER_SILENCE);
                    return self.reading.poll(until, context);
                }
            }
        }
    }

    /// Reads and forgets; false at the end of the stream.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(io_of(&mut self.io)?.poll_read(context, &mut read))?;
            Poll::Ready(Ok(!read.filled().is_empty()))
        })
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
