//! What a connection needs of its transport (TCP or TLS) besides reading and writing.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Buf;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use crate::tcp::Tcp;

/// TCP keep-alive: silence before the kernel sends the first probe to the client.
const PROBE_AFTER: Duration = Duration::from_secs(30);

/// TCP keep-alive: time between probes.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Reads from `arrived` first, then from the stream.
pub fn poll_read_after<R: AsyncRead>(
    arrived: &mut impl Buf,
    stream: Pin<&mut R>,
    context: &mut Context<'_>,
    out: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    if !arrived.has_remaining() {
        return stream.poll_read(context, out);
    }
    let passed = arrived.chunk().len().min(out.remaining());
    out.put_slice(&arrived.chunk()[..passed]);
    arrived.advance(passed);
    Poll::Ready(Ok(()))
}

/// A byte stream over TCP.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The TCP socket.
    fn socket(&self) -> &TcpStream;

    /// The pending error of the socket (`SO_ERROR`), which this call clears.
    fn pending_error(&self) -> Option<io::Error> {
        self.socket().take_error().ok().flatten()
    }

    /// Whether the peer has closed its side or is gone, even if received bytes are still unread. Needs no system
    /// call: the kernel has reported it to the runtime (EPOLLRDHUP).
    fn is_read_closed(&self) -> bool {
        let ready = pin!(self.socket().ready(Interest::READABLE));
        let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Turns the close into a TCP reset, so that a client that reads until the end of the stream does not take it
    /// for the regular end.
    fn reset_on_close(&self) {
        // Best effort: a closed socket needs no reset.
        let _ = SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for Tcp {
    fn socket(&self) -> &TcpStream {
        self.get_ref()
    }
}

impl Transport for TlsStream<Tcp> {
    fn socket(&self) -> &TcpStream {
        self.get_ref().0.get_ref()
    }
}

/// Sets the options of a client connection. Failures are ignored: the connection works without them.
pub fn prepare(stream: &TcpStream) {
    // Responses are written in whole pieces, so Nagle's algorithm would only delay the last packet.
    let _ = stream.set_nodelay(true);
    // Without probes a client that lost power would hold its connection for ever.
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}
