//! The upstream's side of a tunnel, which ends when the checks of its endpoint fail.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use witgate_wire::stream::Stream;

use crate::pick::attempt::Attempt;

/// The stream of a connection that has switched protocols, as the tunnel is to use it: with
/// `health.on_unhealthy = "reset"` it fails once the checks of the endpoint have failed.
pub(crate) fn supervise(stream: Stream, attempt: &Attempt) -> Stream {
    match attempt.reset_by_checks() {
        Some(failed) => {
            let cause = format!("{}: its health checks failed", attempt.endpoint().name);
            Stream::new(Supervised { stream, failed, cause }, Bytes::new())
        }
        None => stream,
    }
}

struct Supervised {
    stream: Stream,
    /// Ends when the checks of the endpoint have failed. It is not polled afterwards, because a tunnel ends with the
    /// first error.
    failed: Pin<Box<dyn Future<Output = ()>>>,
    cause: String,
}

impl Supervised {
    /// # Errors
    /// The checks of the endpoint have failed.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<&mut Stream> {
        match self.failed.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::Error::other(self.cause.clone())),
            Poll::Pending => Ok(&mut self.stream),
        }
    }
}

impl AsyncRead for Supervised {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.check(context)?).poll_read(context, out)
    }
}

impl AsyncWrite for Supervised {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.check(context)?).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.check(context)?).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
