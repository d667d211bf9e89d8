//! The bytes of an HTTP/2 connection: what was already read comes first, output is gathered, and every write has a
//! timeout.
//!
//! `h2` flushes after each piece of data. Here a flush does nothing: the output of all streams of one poll of the
//! connection is written together by [`Wire::poll_send`].

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use witgate_wire::deadline::Deadline;
use witgate_wire::socket::{Transport, poll_read_after};

use super::blocks::Blocks;
use crate::core_local::GATHERED;

/// The most output, in bytes, that is gathered before it is written.
const GATHERED_BYTES: usize = 32 * 1024;

/// The most slices that are written behind the gathered output: head and payload of a frame.
const SLICES: usize = 3;

/// A client connection.
pub(super) struct Wire<T: Transport> {
    io: T,
    arrived: BytesMut,
    /// When bytes of the client were last read.
    heard: Instant,
    blocks: Blocks,
    gathered: Vec<u8>,
    /// How much of `gathered` was written to the transport.
    taken: usize,
    /// Whether the transport must be flushed (TLS buffers).
    unflushed: bool,
    /// How long the client may take no bytes while some are waiting.
    patience: Duration,
    writing: Deadline,
}

impl<T: Transport> Wire<T> {
    /// A connection; `arrived` holds bytes that were already read.
    pub(super) fn new(io: T, arrived: BytesMut, patience: Duration) -> Self {
        Wire {
            io,
            arrived,
            heard: Instant::now(),
            blocks: Blocks::default(),
            gathered: Vec::new(),
            taken: 0,
            unflushed: false,
            patience,
            writing: Deadline::default(),
        }
    }

    /// When bytes of the client were last read.
    pub(super) fn heard(&self) -> Instant {
        self.heard
    }

    /// Since when a header block of the client has been unfinished; `None` if there is none.
    pub(super) fn block_since(&self) -> Option<Instant> {
        self.blocks.since()
    }

    /// Writes the gathered output to the socket.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.taken < self.gathered.len() {
            ready!(self.poll_write_through(&[], context))?;
        }
        if self.unflushed {
            let flushed = Pin::new(&mut self.io).poll_flush(context);
            ready!(self.writing.poll_write(flushed, self.patience, context))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Appends a copy of the slices if they fit; returns whether they did.
    fn gather(&mut self, slices: &[IoSlice<'_>], bytes: usize) -> bool {
        let room = self.gathered.len() + bytes <= GATHERED_BYTES;
        if room {
            if self.gathered.capacity() == 0 {
                self.gathered = GATHERED.take();
                self.gathered.reserve(GATHERED_BYTES);
            }
            slices.iter().for_each(|slice| self.gathered.extend_from_slice(slice));
        }
        room
    }

    /// Writes the gathered output and, behind it, the slices. Returns how many bytes of the slices were written.
    fn poll_write_through(
        &mut self,
        slices: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let waiting = &self.gathered[self.taken..];
        let mut all = [IoSlice::new(&[]); 1 + SLICES];
        all[0] = IoSlice::new(waiting);
        let follow = slices.len().min(SLICES);
        all[1..=follow].copy_from_slice(&slices[..follow]);
        let first = usize::from(waiting.is_empty());
        let written = Pin::new(&mut self.io).poll_write_vectored(context, &all[first..=follow]);
        let waiting = waiting.len();
        let written = ready!(self.writing.poll_write(written, self.patience, context))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.unflushed = true;
        self.taken += written.min(waiting);
        if self.taken == self.gathered.len() && self.taken > 0 {
            self.taken = 0;
            self.gathered.clear();
            GATHERED.set(std::mem::take(&mut self.gathered));
        }
        Poll::Ready(Ok(written.saturating_sub(waiting)))
    }

    fn poll_write(&mut self, slices: &[IoSlice<'_>], context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        loop {
            if self.gather(slices, bytes) {
                return Poll::Ready(Ok(bytes));
            }
            let written = ready!(self.poll_write_through(slices, context))?;
            if written > 0 {
                return Poll::Ready(Ok(written));
            }
        }
    }
}

/// The side of the connection that `h2` reads and writes. The connection's own poll writes the gathered output.
pub(super) struct Shared<T: Transport>(pub(super) Rc<RefCell<Wire<T>>>);

impl<T: Transport> AsyncRead for Shared<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        let wire = &mut *wire;
        let before = out.filled().len();
        let read = poll_read_after(&mut wire.arrived, Pin::new(&mut wire.io), context, out);
        if read.is_ready() {
            wire.heard = Instant::now();
            wire.blocks.take(&out.filled()[before..], wire.heard);
        }
        read
    }
}

impl<T: Transport> AsyncWrite for Shared<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(&[IoSlice::new(bytes)], context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(slices, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: gathered output is written at the end of the poll.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        ready!(wire.poll_send(context))?;
        let shut = Pin::new(&mut wire.io).poll_shutdown(context);
        let wire = &mut *wire;
        wire.writing.poll_write(shut, wire.patience, context)
    }
}
