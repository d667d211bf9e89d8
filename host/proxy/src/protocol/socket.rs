//! What a connection needs of its transport beyond reading and writing, over TLS or not.

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

/// Silence before the kernel asks whether a client is still there.
const PROBE_AFTER: Duration = Duration::from_secs(30);

/// Time between such questions.
const PROBE_EVERY: Duration = Duration::from_secs(15);

/// Reads what has arrived already, and then the stream behind it.
pub(crate) fn poll_read_after<R: AsyncRead>(
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
pub(crate) trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {
    /// The socket below.
    fn socket(&self) -> &TcpStream;

    /// An error the kernel knows of and nobody has been told.
    fn pending_error(&self) -> Option<io::Error> {
        self.socket().take_error().ok().flatten()
    }

    /// Whether the peer has sent its last byte or is gone, however much of what it sent is still to be read. Costs no system
    /// call: the runtime was told so by the kernel (EPOLLRDHUP).
    fn is_read_closed(&self) -> bool {
        let ready = pin!(self.socket().ready(Interest::READABLE));
        let ready = ready.poll(&mut Context::from_waker(Waker::noop()));
        matches!(ready, Poll::Ready(Ok(ready)) if ready.is_read_closed())
    }

    /// Makes the close a reset: a client that reads until the end sees that this is not the end it waits for.
    fn reset_on_close(&self) {
        // Best effort: a socket that is gone needs no reset.
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

/// Options of every client connection. None of them is worth losing the connection for.
pub(crate) fn prepare(stream: &TcpStream) {
    // Answers are written whole; waiting to fill a packet only delays the last one.
    let _ = stream.set_nodelay(true);
    // Without probes a client that lost its power holds its connection for ever.
    let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_EVERY);
    let _ = SockRef::from(stream).set_tcp_keepalive(&probes);
}
