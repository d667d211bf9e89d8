//! One endpoint of an upstream: what all cores share about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use witgate_config::{Problem, model};

use super::BreakerState;
use super::breaker::Breaker;
use super::ejection::Ejection;
use super::health::state::Health;
use super::share::Share;
use super::slow_start::Newness;
use crate::balancer::Latency;

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
    /// What active checks have shown.
    pub(super) health: Health,
    /// What requests have shown.
    pub(super) ejection: Ejection,
    /// Requests in flight, over all cores.
    pub(super) active: Arc<AtomicUsize>,
    /// Connections open, over all cores.
    pub(super) connections: AtomicUsize,
    /// How fast it answers, where the balancer observes that.
    pub(super) latency: Arc<Latency>,
    /// What an operator says about it.
    pub(super) share: Arc<Share>,
    /// Since when it has been in service.
    pub(super) newness: Newness,
    /// How often the connections that wait were given up, over all cores.
    pub(super) purges: Arc<AtomicU32>,
}

/// Whether an endpoint takes requests, and what keeps it from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// It takes requests.
    Available,
    /// Its breaker is half-open: it takes as many requests as that lets through.
    Probing,
    /// Its checks failed, or it is ejected for what requests have shown: it takes requests only in panic.
    Unhealthy,
    /// Its breaker is open: it takes none.
    Resting,
    /// An operator wants it to take none.
    Drained,
}

impl Availability {
    /// Whether requests may be sent, as far as this tells; in panic, health is not believed.
    pub(super) fn takes_requests(self, panics: bool) -> bool {
        match self {
            Availability::Available | Availability::Probing => true,
            Availability::Unhealthy => panics,
            Availability::Resting | Availability::Drained => false,
        }
    }

    /// The word for lists and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Available => "available",
            Availability::Probing => "probing",
            Availability::Unhealthy => "unhealthy",
            Availability::Resting => "resting",
            Availability::Drained => "drained",
        }
    }
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
            health: Health::default(),
            ejection: Ejection::default(),
            active: Arc::default(),
            connections: AtomicUsize::new(0),
            latency: Arc::default(),
            share: Arc::default(),
            newness: Newness::default(),
            purges: Arc::default(),
        })
    }

    /// Whether it takes requests: what an operator, its breaker and its health say of it, the strictest first.
    pub(super) fn availability(&self) -> Availability {
        if self.share.is_drained() {
            return Availability::Drained;
        }
        match self.breaker.state() {
            BreakerState::Open => Availability::Resting,
            BreakerState::HalfOpen | BreakerState::Closed if !self.is_in_service() => Availability::Unhealthy,
            BreakerState::HalfOpen => Availability::Probing,
            BreakerState::Closed => Availability::Available,
        }
    }

    /// Whether neither checks nor requests speak against it.
    pub(super) fn is_in_service(&self) -> bool {
        !self.health.is_unhealthy() && !self.ejection.is_ejected()
    }

    /// Has every core close the connections that wait for a request. Those in use are left alone: they live.
    pub(super) fn close_idle(&self) {
        self.purges.fetch_add(1, Ordering::Relaxed);
    }
}

/// An IPv6 address needs brackets before a port can follow.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
