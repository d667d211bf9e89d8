//! What may fail before the listeners change: reading TLS files, then binding addresses.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use rustix::io::Errno;
use witgate_config::{Config, Problem, Problems, model};
use witgate_wire::inherited::Inherited;

use super::bound::BoundListener;
use super::socket;
use super::tls::Tls;

/// A listener that is about to be put in service.
pub(crate) struct Opening<'a> {
    pub(crate) listener: &'a model::Listener,
    pub(crate) tls: Option<Tls>,
    /// Its address and sockets; `None` if a bound listener already serves the address.
    pub(crate) bound: Option<(SocketAddr, Vec<TcpListener>)>,
}

/// The TLS files of a configuration's listeners, read.
pub struct ListenerTls(Vec<Option<Tls>>);

impl ListenerTls {
    /// Reads the files. Takes as long as the file system does.
    ///
    /// # Errors
    /// Certificates and keys that cannot be read or used; for each listener the first one.
    pub fn read(config: &Config) -> Result<ListenerTls, Problems> {
        let mut problems = Problems::new();
        let read = config.listeners.iter().enumerate().map(|(index, listener)| {
            let tls = listener.tls.as_ref().map(|tls| Tls::read(index, listener, tls)).transpose();
            tls.map_err(|problem| problems.push(problem)).unwrap_or_default()
        });
        let read = read.collect();
        if problems.is_empty() { Ok(ListenerTls(read)) } else { Err(problems) }
    }
}

/// Binds the addresses of all listeners that are not bound yet, or none of them.
///
/// # Errors
/// Every address that cannot be bound. Nothing stays bound then.
pub(crate) fn prepare<'a>(
    wanted: &'a [model::Listener],
    tls: ListenerTls,
    present: &[Arc<BoundListener>],
    inherited: &mut Inherited,
    cores: usize,
) -> Result<Vec<Opening<'a>>, Problems> {
    let mut openings = Vec::with_capacity(wanted.len());
    let mut problems = Problems::new();
    for (index, (listener, tls)) in wanted.iter().zip(tls.0).enumerate() {
        let bound = match present.iter().any(|bound| serves(bound, listener)) {
            true => Ok(None),
            false => bind(listener, inherited, cores).map(Some),
        };
        match bound {
            Ok(bound) => openings.push(Opening { listener, tls, bound }),
            Err(error) => problems.push(cannot_listen(index, listener, &error)),
        }
    }
    if problems.is_empty() { Ok(openings) } else { Err(problems) }
}

/// Whether a bound listener already serves what `listener` configures. Port 0 does not identify an address, so
/// there the listener's name decides.
pub(crate) fn serves(bound: &BoundListener, listener: &model::Listener) -> bool {
    bound.configured == listener.address
        && (listener.address.port() != 0 || *bound.generation().name == *listener.name)
}

fn bind(
    listener: &model::Listener,
    inherited: &mut Inherited,
    cores: usize,
) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    match inherited.take(listener.address, cores) {
        Some(taken) => taken,
        None => socket::bind(listener.address, cores),
    }
}

fn cannot_listen(index: usize, listener: &model::Listener, error: &io::Error) -> Problem {
    Problem {
        message: format!("listener `{}` cannot listen on {}: {error}", listener.name, listener.address),
        span: None,
        key: format!("listeners[{index}].address"),
        hint: Some(bind_hint(listener.address, error)),
    }
}

/// What to do if a TCP address cannot be bound.
pub fn bind_hint(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "end what listens there (`ss -ltnp 'sport = :{port}'` shows it), or choose another address"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "this machine has no such address (`ip address` shows those it has); `:{port}` means all of them"
        ),
        ErrorKind::PermissionDenied if port < 1024 => format!(
            "port {port} needs a privilege: grant CAP_NET_BIND_SERVICE (`AmbientCapabilities=` of a systemd \
             unit), let a supervisor pass the socket, or choose a port from 1024 on"
        ),
        ErrorKind::PermissionDenied => "the system's security policy forbids this address".to_owned(),
        _ => match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::MFILE | Errno::NFILE) => {
                "there are too few file descriptors: raise the limit (`ulimit -n`, `LimitNOFILE=`)".to_owned()
            }
            Some(Errno::AFNOSUPPORT) => "this machine has no IPv6: write an IPv4 address".to_owned(),
            _ => "choose another address".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_hint() {
        let os = |errno: Errno| io::Error::from_raw_os_error(errno.raw_os_error());
        for (address, errno, expected) in [
            ("127.0.0.1:8080", Errno::ADDRINUSE, "sport = :8080"),
            ("192.0.2.1:8080", Errno::ADDRNOTAVAIL, "`ip address` shows"),
            ("0.0.0.0:80", Errno::ACCESS, "CAP_NET_BIND_SERVICE"),
            ("0.0.0.0:8080", Errno::ACCESS, "security policy"),
            ("0.0.0.0:8080", Errno::MFILE, "file descriptors"),
            ("[::]:8080", Errno::AFNOSUPPORT, "no IPv6"),
            ("0.0.0.0:8080", Errno::NOBUFS, "another address"),
        ] {
            let hint = bind_hint(address.parse().expect("an address"), &os(errno));
            assert!(hint.contains(expected), "{hint}");
        }
    }

    #[test]
    fn a_listener_that_cannot_be_bound_says_why() {
        let told = |address: SocketAddr| {
            let error = socket::bind(address, 1).expect_err("it cannot be bound");
            bind_hint(address, &error)
        };
        // An address for documentation (RFC 5737), which no machine has.
        assert!(told("192.0.2.1:18080".parse().expect("an address")).contains("no such address"));
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        assert!(told(taken.local_addr().expect("its address")).contains("end what listens there"));
    }
}
