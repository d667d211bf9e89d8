//! What may fail before the listeners change: reading TLS files, then binding addresses.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use witgate_config::{Config, Problem, Problems, model};

use super::bound::BoundListener;
use super::inherited::Inherited;
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
        hint: Some("free the address, or choose another".into()),
    }
}
