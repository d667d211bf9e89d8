//! The client's side of a tunnel: the data of a stream in both directions (RFC 8441).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::streams::OpenStream;

/// A stream that carries the bytes of another protocol. Dropping it before [`AsyncWrite::poll_shutdown`] resets
/// the stream.
pub(super) struct Tunnel {
    inbound: RecvStream,
    /// Bytes that were received and not read yet.
    arrived: Bytes,
    outbound: SendStream<Bytes>,
    /// Keeps the stream counted for as long as the tunnel lasts.
    _open: OpenStream,
}

impl Tunnel {
    /// A tunnel over a stream whose response head was sent.
    pub(super) fn new(inbound: RecvStream, outbound: SendStream<Bytes>, open: OpenStream) -> Self {
        Tunnel { inbound, arrived: Bytes::new(), outbound, _open: open }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.arrived.is_empty() {
            match ready!(this.inbound.poll_data(context)) {
                Some(Ok(data)) => this.arrived = data,
                None => return Poll::Ready(Ok(())),
                // Browsers close a WebSocket with such a reset; it is the regular end.
                Some(Err(error)) if matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL)) => {
                    return Poll::Ready(Ok(()));
                }
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let passed = this.arrived.len().min(out.remaining());
        out.put_slice(&this.arrived[..passed]);
        this.arrived.advance(passed);
        // Fails only if more is released than was received.
        let _ = this.inbound.flow_control().release_capacity(passed);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let outbound = &mut self.get_mut().outbound;
        outbound.reserve_capacity(bytes.len());
        while outbound.capacity() == 0 {
            match ready!(outbound.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let passed = bytes.len().min(outbound.capacity());
        let data = Bytes::copy_from_slice(&bytes[..passed]);
        Poll::Ready(outbound.send_data(data, false).map(|()| passed).map_err(io::Error::other))
    }

    /// Does nothing: the connection sends buffered data by itself.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outbound = &mut self.get_mut().outbound;
        Poll::Ready(outbound.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
