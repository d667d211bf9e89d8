//! Listening sockets that a supervisor such as systemd passes at start (`LISTEN_FDS`, `LISTEN_PID`).
//!
//! The supervisor keeps the sockets open while the gateway is replaced, so the accept queue survives an upgrade.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd};

/// The first descriptor that is passed (sd_listen_fds(3)).
const FIRST: i32 = 3;

/// Inherited sockets that no listener has taken yet.
#[derive(Default)]
pub struct Inherited {
    sockets: Vec<(SocketAddr, TcpListener)>,
}

impl Inherited {
    /// Takes the descriptors that the environment names, at most 256. Must be called only once in a process,
    /// because each descriptor may have only one owner.
    pub fn from_environment() -> Inherited {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Inherited::default();
        }
        let count = number("LISTEN_FDS").unwrap_or(0).min(256);
        let sockets = (0..count as i32).filter_map(|offset| adopt(FIRST + offset)).collect();
        Inherited { sockets }
    }

    /// The inherited socket of this address, duplicated for each core. The duplicates share one accept queue.
    pub fn take(
        &mut self,
        address: SocketAddr,
        cores: usize,
    ) -> Option<io::Result<(SocketAddr, Vec<TcpListener>)>> {
        let index = self.sockets.iter().position(|(bound, _)| *bound == address)?;
        let (bound, socket) = self.sockets.swap_remove(index);
        let mut sockets: Vec<TcpListener> = match (1..cores).map(|_| socket.try_clone()).collect() {
            Ok(clones) => clones,
            Err(error) => return Some(Err(error)),
        };
        sockets.push(socket);
        Some(Ok((bound, sockets)))
    }
}

#[expect(
    unsafe_code,
    reason = "an inherited descriptor is a plain number, which only unsafe code can turn into an owned one"
)]
fn adopt(descriptor: i32) -> Option<(SocketAddr, TcpListener)> {
    // An `OwnedFd` must only be made of an open descriptor.
    // SAFETY: the call accepts any number and only sets a flag of an open descriptor.
    if unsafe { libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
        return None;
    }
    // SAFETY: the descriptor is open (checked above), and LISTEN_PID says that it was passed to this process to
    // own.
    let socket = TcpListener::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    socket.set_nonblocking(true).ok()?;
    Some((socket.local_addr().ok()?, socket))
}
