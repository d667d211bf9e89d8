//! A TCP stream that calls the kernel directly.
//!
//! The C library's `recv` and `send` are cancellation points of the thread, which costs two locked instructions
//! for each call. Readiness is still the runtime's.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::net::{RecvFlags, SendFlags};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// A TCP stream of the runtime.
#[derive(Debug)]
pub struct Tcp {
    stream: TcpStream,
    /// Bytes that were received already and are to be read first. Most connections have none.
    arrived: Option<Box<BytesMut>>,
}

impl Tcp {
    /// Wraps a stream.
    pub fn new(stream: TcpStream) -> Self {
        Tcp { stream, arrived: None }
    }

    /// Has these bytes read first, which were received already.
    pub fn put_back(&mut self, arrived: BytesMut) {
        self.arrived = (!arrived.is_empty()).then(|| Box::new(arrived));
    }

    /// The stream, for its socket options.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the connection is open and no bytes have arrived. Needs no system call while that is so, and
    /// registers no waker.
    pub fn is_silent(&self) -> bool {
        if self.arrived.is_some() {
            return false;
        }
        let read = self.attempt(Interest::READABLE, 1, || {
            Ok(rustix::net::recv(&self.stream, &mut [0], RecvFlags::empty())?.1)
        });
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Calls the kernel for up to `room` bytes. If fewer were transferred, the socket is not ready any more: the
    /// runtime is told so, which saves the call that would return `WouldBlock`.
    fn attempt(
        &self,
        interest: Interest,
        room: usize,
        call: impl FnOnce() -> rustix::io::Result<usize>,
    ) -> io::Result<usize> {
        let mut part = None;
        let whole = self.stream.try_io(interest, || match call()? {
            moved if 0 < moved && moved < room => {
                part = Some(moved);
                Err(io::ErrorKind::WouldBlock.into())
            }
            moved => Ok(moved),
        });
        part.map_or(whole, Ok)
    }

    fn poll_send(
        &self,
        context: &mut Context<'_>,
        room: usize,
        call: impl Fn() -> rustix::io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.stream.poll_write_ready(context))?;
            match self.attempt(Interest::WRITABLE, room, &call) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

impl AsyncRead for Tcp {
    #[expect(unsafe_code, reason = "safe code would have to fill the read buffer with zeros first")]
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(arrived) = &mut this.arrived {
            let passed = arrived.len().min(buffer.remaining());
            buffer.put_slice(&arrived[..passed]);
            arrived.advance(passed);
            if arrived.is_empty() {
                this.arrived = None;
            }
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(this.stream.poll_read_ready(context))?;
            // SAFETY: the kernel only writes into the buffer and de-initialises nothing.
            let room: &mut [MaybeUninit<u8>] = unsafe { buffer.unfilled_mut() };
            let length = room.len();
            let receive = || Ok(rustix::net::recv(&this.stream, room, RecvFlags::empty())?.1);
            match this.attempt(Interest::READABLE, length, receive) {
                Ok(read) => {
                    // SAFETY: the kernel has written this many bytes.
                    unsafe { buffer.assume_init(read) };
                    buffer.advance(read);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes.len(), || rustix::net::send(&self.stream, bytes, SendFlags::NOSIGNAL))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let room = slices.iter().map(|slice| slice.len()).sum();
        self.poll_send(context, room, || rustix::io::writev(&self.stream, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&self.stream).shutdown(Shutdown::Write))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use witgate_exchange::testing;

    use super::*;

    async fn pair() -> (Tcp, Tcp) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client =
            TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        (Tcp::new(client), Tcp::new(listener.accept().await.expect("a connection").0))
    }

    #[test]
    fn bytes_come_through_in_both_directions_whatever_their_number() {
        testing::run(async {
            let (mut client, server) = pair().await;
            let (mut reader, mut writer) = tokio::io::split(server);
            let echo =
                tokio::task::spawn_local(async move { tokio::io::copy(&mut reader, &mut writer).await });
            for length in [1, 7, 64 * 1024, 3 * 1024 * 1024 + 1] {
                let sent: Vec<u8> = (0..length).map(|index: usize| (index % 251) as u8).collect();
                let mut came = vec![0; length];
                let (mut reader, mut writer) = tokio::io::split(&mut client);
                let (read, written) = tokio::join!(reader.read_exact(&mut came), writer.write_all(&sent));
                written.expect("room");
                read.expect("as many bytes");
                assert!(came == sent, "{length}");
            }
            client.shutdown().await.expect("an end");
            assert_eq!(client.read(&mut [0]).await.expect("an end"), 0);
            echo.await.expect("a task").expect("no error");
        });
    }

    #[test]
    fn pieces_are_written_together() {
        testing::run(async {
            let (mut client, mut server) = pair().await;
            let slices = [IoSlice::new(b"a"), IoSlice::new(b""), IoSlice::new(b"bc")];
            assert_eq!(client.write_vectored(&slices).await.expect("room"), 3);
            let mut came = [0; 8];
            assert_eq!(server.read(&mut came).await.expect("bytes"), 3);
            assert_eq!(&came[..3], b"abc");
        });
    }

    #[test]
    fn bytes_that_are_put_back_are_read_first() {
        testing::run(async {
            let (mut client, mut server) = pair().await;
            server.write_all(b"def").await.expect("room");
            client.put_back(BytesMut::from(&b"abc"[..]));
            assert!(!client.is_silent());
            let mut came = [0; 6];
            assert_eq!(client.read(&mut came[..2]).await.expect("bytes"), 2);
            client.read_exact(&mut came[2..]).await.expect("bytes");
            assert_eq!(&came, b"abcdef");
            client.put_back(BytesMut::new());
            assert!(client.is_silent());
        });
    }

    #[test]
    fn a_connection_is_silent_until_something_comes_or_it_ends() {
        for byte in [&b"x"[..], b""] {
            testing::run(async {
                let (client, mut server) = pair().await;
                assert!(client.is_silent());
                server.write_all(byte).await.expect("room");
                drop(server);
                client.get_ref().readable().await.expect("news");
                assert!(!client.is_silent());
            });
        }
    }
}
