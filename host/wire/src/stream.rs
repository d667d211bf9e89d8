//! The byte stream of a connection that has switched to another protocol, and the promise of one.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use crate::socket::poll_read_after;

/// One side of a tunnel: the client's, or the upstream's (the one that a response of status 101 leaves).
#[derive(Debug)]
pub enum Side {
    /// A connection whose 101 (in HTTP/2: whose 200) has not been sent yet.
    Promised(oneshot::Receiver<Stream>),
    /// A connection that has switched.
    Switched(Stream),
}

impl Side {
    /// Waits for the switch. `None` if the connection ended before.
    pub async fn switched(self) -> Option<Stream> {
        match self {
            Side::Promised(promise) => promise.await.ok(),
            Side::Switched(stream) => Some(stream),
        }
    }
}

/// The byte stream of a connection that no longer speaks HTTP.
pub struct Stream {
    transport: Box<dyn Duplex>,
    /// Bytes that were already read.
    arrived: Bytes,
}

/// What a tunnel needs of a transport.
trait Duplex: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

impl Stream {
    /// `arrived`: the bytes after the 101 (or after the request that asked for it) that were already read.
    pub fn new(transport: impl AsyncRead + AsyncWrite + Unpin + 'static, arrived: Bytes) -> Self {
        Stream { transport: Box::new(transport), arrived }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("arrived", &self.arrived.len()).finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        poll_read_after(&mut this.arrived, Pin::new(&mut this.transport), context, out)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().transport).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(context)
    }
}
