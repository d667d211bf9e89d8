//! Resolves names of endpoints by the system, and caches the addresses on each core for a few seconds.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::core_local::RESOLVED;

/// How long addresses are used without resolving the name again.
const FRESH: Duration = Duration::from_secs(5);
/// How long addresses are used if resolving the name again fails.
const USABLE: Duration = Duration::from_secs(60);
/// The most names cached on each core. Beyond that, old ones are removed.
const REMEMBERED: usize = 1024;

/// The addresses of a name.
pub(crate) struct Answer {
    at: Instant,
    addresses: Rc<[IpAddr]>,
}

/// The addresses of a host, in the order in which they should be tried (RFC 6724, as the system sorts them).
///
/// # Errors
/// The name cannot be resolved, and no recent addresses are cached.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let with_port =
        |addresses: &[IpAddr]| addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
    if let Some(addresses) = remembered(host, FRESH) {
        return Ok(with_port(&addresses));
    }
    match tokio::net::lookup_host((host, port)).await {
        Ok(found) => {
            let addresses: Rc<[IpAddr]> = found.map(|address| address.ip()).collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            remember(host, addresses.clone());
            Ok(with_port(&addresses))
        }
        Err(error) => remembered(host, USABLE).map(|addresses| with_port(&addresses)).ok_or(error),
    }
}

fn remembered(host: &str, age: Duration) -> Option<Rc<[IpAddr]>> {
    RESOLVED.with_borrow(|answers| {
        answers.get(host).filter(|answer| answer.at.elapsed() < age).map(|answer| answer.addresses.clone())
    })
}

fn remember(host: &str, addresses: Rc<[IpAddr]>) {
    RESOLVED.with_borrow_mut(|answers| {
        if answers.len() >= REMEMBERED {
            answers.retain(|_, answer| answer.at.elapsed() < USABLE);
        }
        if answers.len() < REMEMBERED {
            answers.insert(host.to_owned(), Answer { at: Instant::now(), addresses });
        }
    });
}
