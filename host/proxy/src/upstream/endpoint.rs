//! One endpoint of an upstream: what all cores share about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use witgate_config::{Problem, model};

use super::breaker::Breaker;

/// An endpoint. It survives a reload of its upstream as long as host, port, protocol and TLS stay the same.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Unique in the process: the key of its pools.
    pub(super) id: u64,
    /// `host:port`, for logs.
    pub(super) name: Arc<str>,
    pub(super) host: String,
    pub(super) port: u16,
    /// What `Host` says where the client's is not preserved.
    pub(super) authority: HeaderValue,
    pub(super) breaker: Breaker,
    /// Requests in flight, over all cores.
    pub(super) active: Arc<AtomicUsize>,
    /// Connections open, over all cores.
    pub(super) connections: AtomicUsize,
}

impl Endpoint {
    /// An endpoint nobody has used yet.
    ///
    /// # Errors
    /// The host cannot stand in `Host`.
    pub(super) fn new(config: &model::Endpoint, tls: bool, key: &str) -> Result<Endpoint, Problem> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let host = bracketed(&config.host);
        let name = format!("{host}:{}", config.port);
        let default_port = if tls { 443 } else { 80 };
        let authority = if config.port == default_port { host } else { name.clone() };
        let authority = HeaderValue::from_str(&authority).map_err(|_| Problem {
            message: format!("`{}` cannot be the host of an endpoint", config.host),
            span: None,
            key: key.to_owned(),
            hint: Some("write a host name or an address".into()),
        })?;
        Ok(Endpoint {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            host: config.host.trim_matches(['[', ']']).to_owned(),
            port: config.port,
            authority,
            breaker: Breaker::default(),
            active: Arc::default(),
            connections: AtomicUsize::new(0),
        })
    }
}

/// An IPv6 address needs brackets before a port can follow.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
