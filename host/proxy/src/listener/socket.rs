//! Listening sockets: one for each core, all on the same address.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Length of the kernel's accept queue of one socket.
pub(crate) const BACKLOG: i32 = 4096;

/// Binds one socket for each core. With port 0 the kernel chooses a port for the first socket, and the others bind
/// the same.
///
/// # Errors
/// The address is in use or is not an address of this machine. Nothing stays bound then.
pub(crate) fn bind(address: SocketAddr, cores: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    refuse_shared(address)?;
    let first = listen(address)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..cores {
        sockets.push(listen(bound)?);
    }
    Ok((bound, sockets))
}

/// Fails if another process listens on the address. `SO_REUSEPORT` alone would let a second gateway of the same
/// user share the port silently, so that each would get half of the connections; a bind without it fails as
/// operators expect.
fn refuse_shared(address: SocketAddr) -> io::Result<()> {
    if address.port() == 0 {
        return Ok(());
    }
    let probe = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    probe.set_reuse_address(true)?;
    if address.is_ipv6() {
        probe.set_only_v6(true)?;
    }
    probe.bind(&address.into())
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
