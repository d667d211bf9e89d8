//! The settings of sources of endpoints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `upstreams.NAME.discover`: where the endpoints come from, and which sets of endpoints are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discover {
    /// The source.
    pub source: DiscoverySource,
    /// The networks whose addresses are accepted. `None`: all addresses except unspecified, loopback, link-local and
    /// multicast addresses.
    pub allow: Option<Vec<IpNet>>,
    /// The fewest endpoints of a set that serve. A smaller set is refused.
    pub min_endpoints: usize,
    /// The most endpoints of a set. A larger set is refused.
    pub max_endpoints: usize,
    /// How long the last good set is trusted after the source has confirmed it; `None`: without a limit.
    pub keep_stale: Option<Duration>,
}

/// A source of endpoints with its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiscoverySource {
    /// A file that lists the endpoints.
    File(PathBuf),
    /// The A and AAAA records of names.
    Dns(DnsSource),
    /// The SRV records of names.
    Srv(SrvSource),
}

impl DiscoverySource {
    /// The name of the source, as in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            DiscoverySource::File(_) => "file",
            DiscoverySource::Dns(_) => "dns",
            DiscoverySource::Srv(_) => "srv",
        }
    }

    /// The one host name whose addresses are the endpoints, if there is exactly one. It is the value of `Host` and
    /// the name that TLS expects, unless the configuration gives others.
    pub fn host(&self) -> Option<(&str, u16)> {
        match self {
            DiscoverySource::Dns(DnsSource { names, .. }) => match names.as_slice() {
                [(name, port)] => Some((name, *port)),
                _ => None,
            },
            DiscoverySource::File(_) | DiscoverySource::Srv(_) => None,
        }
    }
}

/// The addresses of host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsSource {
    /// The names, each with the port of its endpoints.
    pub names: Vec<(String, u16)>,
    /// How they are looked up.
    pub lookup: DnsLookup,
}

/// The targets of SRV records (RFC 2782).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrvSource {
    /// The names, e.g. `_http._tcp.users.internal`.
    pub names: Vec<String>,
    /// How they and the names of their targets are looked up.
    pub lookup: DnsLookup,
}

/// How names are looked up in DNS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsLookup {
    /// The name servers. Empty: those of `/etc/resolv.conf`.
    pub servers: Vec<SocketAddr>,
    /// The shortest time until a name is looked up again.
    pub min_ttl: Duration,
    /// The longest time until a name is looked up again.
    pub max_ttl: Duration,
}
