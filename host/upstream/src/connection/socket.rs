//! The transport of one connection to an endpoint.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;
use witgate_wire::tcp::Tcp;

use super::limit::Permit;
use crate::endpoint::Endpoint;

/// A TCP or TLS stream with its permit. Whatever holds the socket, for example a tunnel, holds the permit.
/// Connections that carry no requests, such as those of active checks, need no permit.
pub(crate) struct Socket {
    transport: Transport,
    opening: Opening,
    _permit: Option<Permit>,
}

/// When and to which address a connection was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening {
    at: Instant,
    /// Its share of the maximum age, from 0.9 to 1.
    share: f32,
    /// `None` if the system cannot tell, because the connection has ended already.
    peer: Option<IpAddr>,
}

impl Opening {
    fn of(transport: &Transport) -> Opening {
        let tcp = match transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        };
        let peer = tcp.get_ref().peer_addr().ok().map(|peer| peer.ip());
        Opening { at: Instant::now(), share: 1.0 - fastrand::f32() / 10.0, peer }
    }

    /// Whether the connection takes no further requests, because it is too old or because its address is no longer
    /// one of its endpoint.
    pub(crate) fn is_spent(&self, endpoint: &Endpoint, max_age: Option<Duration>, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.at);
        max_age.is_some_and(|most| age >= most.mul_f32(self.share))
            || self.peer.is_some_and(|peer| !endpoint.addresses.contain(peer))
    }
}

/// The stream through which bytes are sent and received.
pub(crate) enum Transport {
    Tcp(Tcp),
    Tls(Box<TlsStream<Tcp>>),
}

impl Socket {
    pub(crate) fn new(transport: Transport, permit: Permit) -> Self {
        Socket { opening: Opening::of(&transport), transport, _permit: Some(permit) }
    }

    /// A socket that does not count towards the limit on connections.
    pub(crate) fn unlimited(transport: Transport) -> Self {
        Socket { opening: Opening::of(&transport), transport, _permit: None }
    }

    /// The TCP socket.
    pub(crate) fn tcp(&self) -> &Tcp {
        match &self.transport {
            Transport::Tcp(stream) => stream,
            Transport::Tls(stream) => stream.get_ref().0,
        }
    }

    /// When and to which address it was opened.
    pub(crate) fn opening(&self) -> Opening {
        self.opening
    }

    /// Whether the socket is open and nothing has arrived. It makes no system call as long as that is so, and
    /// registers no waker.
    pub(crate) fn is_silent(&mut self) -> bool {
        match &mut self.transport {
            Transport::Tcp(stream) => stream.is_silent(),
            Transport::Tls(stream) => {
                let mut context = Context::from_waker(Waker::noop());
                Pin::new(stream.as_mut()).poll_read(&mut context, &mut ReadBuf::new(&mut [0])).is_pending()
            }
        }
    }

    /// Whether bytes are sent exactly as they are written. Then bytes that could not be written were not sent.
    pub(crate) fn is_plain(&self) -> bool {
        matches!(self.transport, Transport::Tcp(_))
    }
}

macro_rules! transport {
    ($self:ident, $stream:ident => $poll:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Tcp($stream) => {
                let $stream = Pin::new($stream);
                $poll
            }
            Transport::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $poll
            }
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        transport!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        transport!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        transport!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        transport!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        transport!(self, stream => stream.poll_shutdown(context))
    }
}
