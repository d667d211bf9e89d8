//! The bytes of a client connection, judged before hyper sees them.
//!
//! hyper gets one complete, unambiguous head at a time. A head that is refused, too slow or too large is replaced by a
//! harmless one, with the reason left in [`Activity`]: so every refusal takes the way of an ordinary answer, with its
//! problem document, its line in the log and its count. Clients that do not read, and connections that are idle, end here
//! too.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, Take};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use witgate_config::model::Limits;

use crate::fault::{Fault, FaultKind};
use crate::protocol::activity::{Activity, Switch};
use crate::protocol::deadline::Deadline;
use crate::protocol::framing::{ChunkReader, Content, HeadReader};
use crate::protocol::socket::Transport;

/// What hyper reads in place of a head that is refused. It never reaches the walk.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// Bytes asked of the socket at a time while heads and chunks are read.
const READ_BYTES: usize = 8 * 1024;

/// Bytes of a body nobody wants that are read, so that the answer is not lost to a reset.
const LINGER_BYTES: usize = 256 * 1024;

/// Time for that.
const LINGER: Duration = Duration::from_secs(2);

/// How often a client that has sent its last byte is looked at for signs that it is gone altogether.
const GONE_ROUND: Duration = Duration::from_secs(5);

/// How often a connection is looked at whose request is under way: hyper does not ask again when it is over.
const BUSY_ROUND: Duration = Duration::from_secs(1);

/// What the next byte is.
enum Place {
    /// In a head.
    Head(HeadReader),
    /// In a head that was found good; so many bytes of it are still to be handed on.
    Passing(usize, Content, bool),
    /// In a body of known length.
    Body(u64, bool),
    /// In a chunked body.
    Chunks(ChunkReader, bool),
    /// After a request to switch protocols that is not decided.
    Undecided,
    /// In a tunnel, or in a protocol that is not judged here.
    Raw,
    /// After a head that was refused: nothing more is read.
    Refused,
}

/// A client connection as hyper sees it.
pub(crate) struct Wire<T: Transport> {
    io: Take<T>,
    arrived: BytesMut,
    place: Place,
    ended: bool,
    limits: Limits,
    activity: Arc<Activity>,
    /// When the head under way began to arrive.
    head_begun: Option<Instant>,
    reading: Deadline,
    writing: Deadline,
    /// Bytes that may still be drained, once shutting down.
    lingering: Option<usize>,
}

impl<T: Transport> Wire<T> {
    /// An HTTP/1.1 connection of which some bytes were read already.
    pub(crate) fn http1(io: T, arrived: BytesMut, limits: Limits, activity: Arc<Activity>) -> Self {
        Wire::new(io, arrived, limits, activity, Place::Head(HeadReader::default()))
    }

    /// A connection whose bytes are not judged here, but whose writes must not stall.
    pub(crate) fn raw(io: T, arrived: BytesMut, limits: Limits) -> Self {
        Wire::new(io, arrived, limits, Arc::new(Activity::new()), Place::Raw)
    }

    fn new(io: T, arrived: BytesMut, limits: Limits, activity: Arc<Activity>, place: Place) -> Self {
        Wire {
            io: tokio::io::AsyncReadExt::take(io, u64::MAX),
            arrived,
            place,
            ended: false,
            limits,
            activity,
            head_begun: None,
            reading: Deadline::default(),
            writing: Deadline::default(),
            lingering: None,
        }
    }

    /// Reads more into `arrived`; false at the end of the stream.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        self.io.set_limit(u64::MAX);
        self.arrived.reserve(READ_BYTES);
        let read = ready!(poll_read_buf(Pin::new(&mut self.io), context, &mut self.arrived))?;
        self.ended = read == 0;
        Poll::Ready(Ok(read > 0))
    }

    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let Place::Head(reader) = &mut self.place else { return Poll::Ready(Ok(true)) };
            match reader.read(&self.arrived, &self.limits) {
                Ok(Some(head)) => {
                    self.place = Place::Passing(head.length, head.content, head.upgrade);
                    self.head_begun = None;
                    self.activity.set_reading_head(false);
                    return Poll::Ready(Ok(true));
                }
                Ok(None) => {}
                Err(fault) => {
                    self.refuse(fault);
                    return Poll::Ready(Ok(true));
                }
            }
            let partial = reader.has_begun();
            self.activity.set_reading_head(partial);
            if partial && self.head_begun.is_none() {
                self.head_begun = Some(Instant::now());
            }
            match self.poll_fill(context) {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) if self.activity.is_busy() => return self.poll_gone(context),
                Poll::Ready(read) => return Poll::Ready(read),
                Poll::Pending => return self.poll_head_patience(context),
            }
        }
    }

    /// Silence before or in a head: how long it may last depends on what went before.
    fn poll_head_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let until = match self.head_begun {
                _ if self.activity.is_busy() => Instant::now() + BUSY_ROUND,
                Some(begun) => begun + self.limits.header_timeout,
                None if self.activity.is_fresh() => self.activity.idle_since() + self.limits.header_timeout,
                None => self.activity.idle_since() + self.limits.keep_alive,
            };
            ready!(self.reading.poll(until, context));
            if self.activity.is_busy() {
                continue;
            }
            if self.head_begun.is_some() {
                self.refuse(Fault::new(FaultKind::HeaderTimeout));
                return Poll::Ready(Ok(true));
            }
            self.ended = true;
            return Poll::Ready(Ok(false));
        }
    }

    /// The client has sent its last byte while its request is under way. That may be half of a goodbye (it still reads)
    /// or all of it; TCP tells the difference only by an error, sooner or later (keep-alive probes are on).
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            if let Some(error) = self.io.get_ref().pending_error() {
                return Poll::Ready(Err(error));
            }
            if !self.activity.is_busy() {
                return Poll::Ready(Ok(false));
            }
            self.activity.wake_reader(context.waker());
            ready!(self.reading.poll(Instant::now() + GONE_ROUND, context));
        }
    }

    fn refuse(&mut self, fault: Fault) {
        self.activity.refuse(fault);
        self.activity.set_reading_head(false);
        self.head_begun = None;
        self.arrived.clear();
        self.arrived.extend_from_slice(STAND_IN);
        self.place = Place::Refused;
    }

    /// Where a message that has ended leaves us.
    fn after_message(&mut self, upgrade: bool) {
        self.place = if upgrade { Place::Undecided } else { Place::Head(HeadReader::default()) };
    }

    fn pass(&mut self, out: &mut ReadBuf<'_>, most: usize) -> usize {
        let passed = most.min(out.remaining()).min(self.arrived.len());
        out.put_slice(&self.arrived[..passed]);
        self.arrived.advance(passed);
        passed
    }

    fn pass_head(&mut self, left: usize, content: Content, upgrade: bool, out: &mut ReadBuf<'_>) {
        let left = left - self.pass(out, left);
        match content {
            _ if left > 0 => self.place = Place::Passing(left, content, upgrade),
            Content::Nothing => self.after_message(upgrade),
            Content::Length(length) => self.place = Place::Body(length, upgrade),
            Content::Chunked => self.place = Place::Chunks(ChunkReader::new(), upgrade),
        }
    }

    /// A body of known length: straight into hyper's buffer, but not a byte of what follows it.
    fn poll_body(
        &mut self,
        left: u64,
        upgrade: bool,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let passed = if self.arrived.is_empty() {
            let before = out.filled().len();
            self.io.set_limit(left);
            ready!(Pin::new(&mut self.io).poll_read(context, out))?;
            out.filled().len() - before
        } else {
            self.pass(out, usize::try_from(left).unwrap_or(usize::MAX))
        };
        match left - passed as u64 {
            0 => self.after_message(upgrade),
            left => self.place = Place::Body(left, upgrade),
        }
        Poll::Ready(Ok(()))
    }

    fn poll_chunks(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.arrived.is_empty() && !ready!(self.poll_fill(context))? {
            return Poll::Ready(Ok(()));
        }
        let Place::Chunks(reader, upgrade) = &mut self.place else { return Poll::Ready(Ok(())) };
        let (upgrade, most) = (*upgrade, self.arrived.len().min(out.remaining()));
        let read = reader
            .read(&self.arrived[..most], &self.limits)
            .map_err(|reason| io::Error::new(io::ErrorKind::InvalidData, reason))?;
        if reader.is_over() {
            self.after_message(upgrade);
        }
        self.pass(out, read);
        Poll::Ready(Ok(()))
    }

    fn poll_raw(&mut self, context: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.arrived.is_empty() {
            self.io.set_limit(u64::MAX);
            return Pin::new(&mut self.io).poll_read(context, out);
        }
        self.pass(out, usize::MAX);
        Poll::Ready(Ok(()))
    }

    /// Ready with an error once a client has not taken a byte for too long.
    fn poll_write_patience<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.writing.clear();
            return result;
        }
        if self.activity.is_tunnel() {
            // A tunnel has a timeout of its own.
            return Poll::Pending;
        }
        let since = self.writing.since();
        ready!(self.writing.poll(since + self.limits.body_timeout, context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }

    /// Reads what a client still sends although it has its answer. Closing with unread bytes would reset the connection,
    /// and the reset overtakes the answer.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut left = self.lingering.unwrap_or(LINGER_BYTES);
        let since = self.reading.since();
        while left > 0 {
            self.arrived.clear();
            match self.poll_fill(context) {
                Poll::Ready(Ok(true)) => left = left.saturating_sub(self.arrived.len()),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    self.lingering = Some(left);
                    return self.reading.poll(since + LINGER, context);
                }
            }
        }
        Poll::Ready(())
    }

    /// Whether the client may be in the middle of sending something that will not be read.
    fn is_owed_a_linger(&self) -> bool {
        let unread = !self.arrived.is_empty();
        !self.ended && (unread || matches!(self.place, Place::Refused | Place::Body(..) | Place::Chunks(..)))
    }
}

impl<T: Transport> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match this.place {
                Place::Head(_) => {
                    if !ready!(this.poll_head(context))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Place::Passing(left, content, upgrade) => {
                    this.pass_head(left, content, upgrade, out);
                    return Poll::Ready(Ok(()));
                }
                Place::Body(left, upgrade) => return this.poll_body(left, upgrade, context, out),
                Place::Chunks(..) => return this.poll_chunks(context, out),
                Place::Undecided => match this.activity.switch(context.waker()) {
                    Switch::Open => return Poll::Pending,
                    Switch::Tunnel => this.place = Place::Raw,
                    Switch::Declined => this.place = Place::Head(HeadReader::default()),
                },
                Place::Raw => return this.poll_raw(context, out),
                Place::Refused if this.arrived.is_empty() => return this.poll_gone(context).map_ok(drop),
                Place::Refused => {
                    this.pass(out, usize::MAX);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<T: Transport> AsyncWrite for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(this.io.get_mut()).poll_write(context, bytes);
        this.poll_write_patience(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(this.io.get_mut()).poll_write_vectored(context, slices);
        this.poll_write_patience(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.get_ref().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(this.io.get_mut()).poll_flush(context);
        this.poll_write_patience(context, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            let result = Pin::new(this.io.get_mut()).poll_shutdown(context);
            ready!(this.poll_write_patience(context, result))?;
            if !this.is_owed_a_linger() {
                return Poll::Ready(Ok(()));
            }
            this.reading.clear();
        }
        ready!(this.poll_linger(context));
        Poll::Ready(Ok(()))
    }
}

impl<T: Transport> Drop for Wire<T> {
    fn drop(&mut self) {
        if self.activity.is_aborted() {
            self.io.get_ref().reset_on_close();
        }
    }
}
