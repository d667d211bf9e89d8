//! The bytes of an HTTP/2 connection: what was read of it already comes first, and no write waits for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::protocol::deadline::Deadline;
use crate::protocol::socket::{Transport, poll_read_after};

/// A client connection as hyper sees it.
pub(crate) struct Wire<T: Transport> {
    io: T,
    arrived: BytesMut,
    /// How long a client may take none of the bytes that wait for it.
    patience: Duration,
    writing: Deadline,
}

impl<T: Transport> Wire<T> {
    /// A connection of which some bytes were read already.
    pub(crate) fn new(io: T, arrived: BytesMut, patience: Duration) -> Self {
        Wire { io, arrived, patience, writing: Deadline::default() }
    }

    /// Ready with an error once a client has not taken a byte for too long.
    fn poll_patience<R>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<R>>,
    ) -> Poll<io::Result<R>> {
        if result.is_ready() {
            self.writing.clear();
            return result;
        }
        let since = self.writing.since();
        ready!(self.writing.poll(since + self.patience, context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
    }
}

impl<T: Transport> AsyncRead for Wire<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        poll_read_after(&mut this.arrived, Pin::new(&mut this.io), context, out)
    }
}

impl<T: Transport> AsyncWrite for Wire<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write(context, bytes);
        this.poll_patience(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_write_vectored(context, slices);
        this.poll_patience(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_flush(context);
        this.poll_patience(context, result)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.io).poll_shutdown(context);
        this.poll_patience(context, result)
    }
}
