//! One client connection and what its requests share.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::head::{ClientCertificate, Scheme};
use crate::snapshot::Snapshot;
use crate::telemetry::Telemetry;

/// One client connection.
pub struct Connection {
    /// Name of the listener it came in by.
    pub listener: Arc<str>,
    /// The peer.
    pub peer: SocketAddr,
    /// Whether it is TLS.
    pub scheme: Scheme,
    /// The verified client certificate.
    pub certificate: Option<Arc<ClientCertificate>>,
    /// Where its requests are recorded.
    pub telemetry: Arc<Telemetry>,
}

impl Connection {
    /// The snapshot in service now; read once per request.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!("protocol")
    }
}
