//! The settings of sources of endpoints.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{Secret, UpstreamTls};

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
    /// The keys under a prefix in etcd.
    Etcd(EtcdSource),
    /// The instances of a service in Consul.
    Consul(ConsulSource),
    /// The EndpointSlices of a service in Kubernetes.
    Kubernetes(KubernetesSource),
}

impl DiscoverySource {
    /// The name of the source, as in the configuration.
    pub fn kind(&self) -> &'static str {
        match self {
            DiscoverySource::File(_) => "file",
            DiscoverySource::Dns(_) => "dns",
            DiscoverySource::Srv(_) => "srv",
            DiscoverySource::Etcd(_) => "etcd",
            DiscoverySource::Consul(_) => "consul",
            DiscoverySource::Kubernetes(_) => "kubernetes",
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
            _ => None,
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

/// The servers of a registry, and how they are reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryServers {
    /// Host and port of each; at least one.
    pub servers: Vec<(String, u16)>,
    /// TLS; `None`: plain text.
    pub tls: Option<UpstreamTls>,
}

/// The keys under a prefix in etcd.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdSource {
    /// The members of the cluster.
    pub servers: RegistryServers,
    /// The prefix, which ends in `/`.
    pub prefix: String,
    /// User name and password.
    pub user: Option<(String, Secret)>,
}

/// The instances of a service in Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulSource {
    /// The agents.
    pub servers: RegistryServers,
    /// The name of the service.
    pub service: String,
    /// The datacenter, if not that of the agent.
    pub datacenter: Option<String>,
    /// The tags that an instance must have.
    pub tags: Vec<String>,
    /// Whether all checks of an instance must pass.
    pub passing: bool,
    /// The node from which distances are seen, and how many instances come before all others.
    pub near: Option<(String, usize)>,
    /// How long ago a server that answers may have heard from the leader; `None`: only the leader answers.
    pub stale: Option<Duration>,
    /// The file with the token.
    pub token_file: Option<PathBuf>,
}

/// The EndpointSlices of a service in Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSource {
    /// The API servers; `None`: the one of the pod's environment.
    pub servers: Option<RegistryServers>,
    /// The name of the service.
    pub service: String,
    /// Its namespace; `None`: that of the pod.
    pub namespace: Option<String>,
    /// The name or the number of the port; `None`: the only one.
    pub port: Option<String>,
    /// The zone of the gateway, for the hints of slices.
    pub zone: Option<String>,
    /// The file with the token; `None`: that of the pod's service account if `servers` is `None`, otherwise none.
    pub token_file: Option<PathBuf>,
}
