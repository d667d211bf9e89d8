//! One endpoint of an upstream: its state, which all cores share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use http::HeaderValue;
use serde::{Deserialize, Serialize};
use witgate_exchange::fault::{Fault, FaultKind};

use super::BreakerState;
use super::breaker::Breaker;
use super::deliver::Latencies;
use super::health::state::{Health, HealthState};
use crate::balancer::Latency;
use crate::connection::resolve::Addresses;
use crate::observe::ejection::Ejection;
use crate::pick::share::Share;
use crate::pick::slow_start::Newness;

/// An endpoint. It lives as long as its source reports it by the same [key](super::discovery::EndpointSpec::key),
/// and protocol and TLS stay the same; other changes of the set, and reloads, keep it. The
/// [members](super::set::Member) of sets hold it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// A number that is unique in the process. It identifies the connection pools of the endpoint.
    pub(crate) id: u64,
    /// `host:port`, for logs.
    pub(crate) name: Arc<str>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The addresses of the host.
    pub(crate) addresses: Addresses,
    /// The value of `Host`, unless the client's is preserved.
    pub(crate) authority: HeaderValue,
    pub(crate) breaker: Breaker,
    /// The results of active checks.
    pub(crate) health: Health,
    /// The results of requests.
    pub(crate) ejection: Ejection,
    /// Requests in flight, over all cores.
    pub(crate) active: Arc<AtomicUsize>,
    /// Connections open, over all cores.
    pub(crate) connections: AtomicUsize,
    /// Its average latency, if the balancing policy observes it.
    pub(crate) latency: Arc<Latency>,
    /// The times from the first byte of a request to the response head.
    pub(crate) times: Latencies,
    /// The settings that an operator has made for it.
    pub(crate) share: Arc<Share>,
    /// Since when it has been in service.
    pub(crate) newness: Newness,
    /// How often its idle connections were closed, over all cores.
    pub(crate) purges: AtomicU32,
    /// Whether the source of its set reports it as not ready or terminating.
    not_ready: AtomicBool,
    /// Whether its source has not confirmed it for so long that its address may belong to something else.
    distrusted: AtomicBool,
    /// Whether it has left its set.
    left: AtomicBool,
}

/// Whether an endpoint takes requests, and the reason if it does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Availability {
    /// It takes requests.
    Available,
    /// Its breaker is half-open: it takes as many requests as the breaker lets through.
    Probing,
    /// Its checks failed, or it is ejected: it takes requests only in panic.
    Unhealthy,
    /// Its breaker is open: it takes no requests.
    Resting,
    /// An operator has drained it: it takes no requests.
    Drained,
    /// Its source reports it as not ready or terminating, or it has left its set: it takes no requests.
    NotReady,
    /// Its source has not confirmed it for longer than `keep_stale`, and it has no checks that pass: it takes no
    /// requests.
    Stale,
}

impl Availability {
    /// Whether requests may be sent. With `panics`, health is ignored.
    pub(crate) fn takes_requests(self, panics: bool) -> bool {
        match self {
            Availability::Available | Availability::Probing => true,
            Availability::Unhealthy => panics,
            Availability::Resting | Availability::Drained | Availability::NotReady | Availability::Stale => {
                false
            }
        }
    }

    /// The name in lists and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Available => "available",
            Availability::Probing => "probing",
            Availability::Unhealthy => "unhealthy",
            Availability::Resting => "resting",
            Availability::Drained => "drained",
            Availability::NotReady => "not-ready",
            Availability::Stale => "stale",
        }
    }
}

impl Endpoint {
    /// A new endpoint. The host may be an IPv6 address with or without brackets. `authority` is the host and port
    /// for the header `Host`, if they are others.
    ///
    /// # Errors
    /// The host is not valid in the header `Host`. The error is a sentence.
    pub(crate) fn new(
        host: &str,
        port: u16,
        tls: bool,
        authority: Option<(&str, u16)>,
    ) -> Result<Endpoint, String> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let bracketed = bracketed(host);
        let name = format!("{bracketed}:{port}");
        let default_port = if tls { 443 } else { 80 };
        let (host_header, port_header) = authority.unwrap_or((&bracketed, port));
        let authority = match port_header == default_port {
            true => host_header.to_owned(),
            false => format!("{host_header}:{port_header}"),
        };
        let authority = HeaderValue::from_str(&authority)
            .map_err(|_| format!("`{host}` cannot be the host of an endpoint"))?;
        Ok(Endpoint {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            addresses: Addresses::of(host.trim_matches(['[', ']'])),
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority,
            breaker: Breaker::default(),
            health: Health::default(),
            ejection: Ejection::default(),
            active: Arc::default(),
            connections: AtomicUsize::new(0),
            latency: Arc::default(),
            times: Latencies::default(),
            share: Arc::default(),
            newness: Newness::default(),
            purges: AtomicU32::default(),
            not_ready: AtomicBool::default(),
            distrusted: AtomicBool::default(),
            left: AtomicBool::default(),
        })
    }

    /// Whether it takes requests. The operator, the source, the breaker and the health are considered in this
    /// order.
    pub(crate) fn availability(&self) -> Availability {
        if self.share.is_drained() {
            return Availability::Drained;
        }
        if !self.is_ready() {
            return Availability::NotReady;
        }
        if self.distrusted.load(Ordering::Relaxed) && self.health.state() != HealthState::Healthy {
            return Availability::Stale;
        }
        match self.breaker.state() {
            BreakerState::Open => Availability::Resting,
            BreakerState::HalfOpen | BreakerState::Closed if !self.is_in_service() => Availability::Unhealthy,
            BreakerState::HalfOpen => Availability::Probing,
            BreakerState::Closed => Availability::Available,
        }
    }

    /// Whether it is neither unhealthy by its checks nor ejected.
    pub(crate) fn is_in_service(&self) -> bool {
        !self.health.is_unhealthy() && !self.ejection.is_ejected()
    }

    /// Sets whether its source wants it to take requests. Returns whether it has just become ready.
    pub(crate) fn become_ready(&self, ready: bool) -> bool {
        self.not_ready.swap(!ready, Ordering::Relaxed) && ready
    }

    /// Sets whether it takes requests only as long as its checks pass.
    pub(crate) fn distrust(&self, distrusted: bool) {
        self.distrusted.store(distrusted, Ordering::Relaxed);
    }

    /// Whether neither an operator nor the source excludes it from taking requests.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.share.is_drained() && self.is_ready()
    }

    fn is_ready(&self) -> bool {
        !self.not_ready.load(Ordering::Relaxed) && !self.has_left()
    }

    /// Whether it has left its set. Then its connections are closed: idle ones at once, others when they become
    /// free.
    pub(crate) fn has_left(&self) -> bool {
        self.left.load(Ordering::Relaxed)
    }

    /// Marks that it has left its set for good. If the source reports it again, that is a new endpoint.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    /// The fault of a request that waited at it when its checks failed. It does not count as a failure of the endpoint,
    /// because the checks have taken it out of service already.
    pub(crate) fn unhealthy(&self) -> Fault {
        Fault::new(FaultKind::UpstreamReset)
            .cause(format!("{}: its health checks failed while it was waited for", self.name))
    }

    /// Tells every core to close the idle connections. Connections in use are kept, since they have shown that
    /// they are alive.
    pub(crate) fn close_idle(&self) {
        self.purges.fetch_add(1, Ordering::Relaxed);
    }
}

/// Adds the brackets that an IPv6 address needs before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
