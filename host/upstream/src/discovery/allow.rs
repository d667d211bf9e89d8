//! Which addresses a source may give.
//!
//! The data of a source is not trusted. Without a rule, a compromised name server or registry could make the
//! gateway send requests to its own admin listener, to the metadata service of a cloud, or to other services of
//! its host.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use tokio::sync::watch;

/// The most characters of a host in a message. The longest host name has as many.
const LONGEST_QUOTE: usize = 253;

/// The rule. By default all addresses are allowed except those of this host and of this link.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Allow {
    /// The networks whose addresses are allowed. `None` allows all addresses except unspecified, loopback,
    /// link-local and multicast addresses.
    pub networks: Option<Vec<IpNet>>,
    /// The listeners of the gateway itself, which are never allowed.
    pub own: OwnAddresses,
}

/// The addresses at which the gateway itself listens, the admin listener included. Clones share them. A listener at
/// an unspecified address excludes its port at every address of this host.
#[derive(Debug, Clone)]
pub struct OwnAddresses(Arc<watch::Sender<Vec<SocketAddr>>>);

impl Default for OwnAddresses {
    fn default() -> Self {
        OwnAddresses(Arc::new(watch::Sender::new(Vec::new())))
    }
}

/// The same addresses now.
impl PartialEq for OwnAddresses {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || *self.0.borrow() == *other.0.borrow()
    }
}

impl Eq for OwnAddresses {}

impl OwnAddresses {
    /// Replaces the addresses. Endpoints at them are taken out of the sets in service.
    pub fn replace(&self, addresses: Vec<SocketAddr>) {
        self.0.send_if_modified(|before| {
            let changed = *before != addresses;
            *before = addresses;
            changed
        });
    }

    /// Notices when the addresses change.
    pub(crate) fn watch(&self) -> watch::Receiver<Vec<SocketAddr>> {
        self.0.subscribe()
    }

    fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.0.borrow().iter().any(|listener| is_at(*listener, address, port))
    }
}

impl Allow {
    /// Checks whether an endpoint may have this address.
    ///
    /// # Errors
    /// The reason if it may not. Host names are refused, because a name may resolve to another address after this
    /// check.
    pub fn check(&self, host: &str, port: u16) -> Result<(), String> {
        let address: IpAddr = host
            .parse()
            .map_err(|_| format!("{} is not an address; sources give addresses", quoted(host)))?;
        let address = address.to_canonical();
        if self.own.contains(address, port) {
            return Err(format!("{address} with port {port} is a listener of this gateway"));
        }
        match &self.networks {
            Some(networks) if networks.iter().any(|network| network.contains(&address)) => Ok(()),
            Some(_) => Err(format!("{address} is in none of the allowed networks")),
            None => match own(address) {
                Some(what) => Err(format!("{address} is {what} address, which has to be allowed by name")),
                None => Ok(()),
            },
        }
    }
}

/// A host as it is quoted in messages: escaped and shortened, since it may come from an untrusted source.
pub(crate) fn quoted(host: &str) -> String {
    let short: String = host.chars().take(LONGEST_QUOTE).collect();
    let more = if short.len() < host.len() { "…" } else { "" };
    format!("`{}{more}`", short.escape_debug())
}

fn is_at(listener: SocketAddr, address: IpAddr, port: u16) -> bool {
    let ip = listener.ip().to_canonical();
    listener.port() == port && (ip == address || (ip.is_unspecified() && is_of_this_host(address)))
}

/// Whether an address belongs to this host. A socket can be bound to exactly the addresses of its host.
fn is_of_this_host(address: IpAddr) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || std::net::UdpSocket::bind(SocketAddr::new(address, 0)).is_ok()
}

/// The kind of an address that is valid on this host or this link only; `None` for all other addresses.
fn own(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_unicast_link_local() || is_embedded(address),
    };
    match address {
        address if address.is_unspecified() => Some("an unspecified"),
        address if address.is_loopback() => Some("a loopback"),
        address if address.is_multicast() => Some("a multicast"),
        // 0.0.0.0/8 is "this host on this network" (RFC 1122 section 3.2.1.3).
        IpAddr::V4(address) if address.octets()[0] == 0 => Some("an unspecified"),
        _ if link_local => Some("a link-local"),
        _ => None,
    }
}

/// Whether an IPv6 address contains an IPv4 address of this host or link, as an IPv4-compatible address (RFC 4291
/// section 2.5.5.1) or with the well-known prefix of translators (RFC 6052 section 2.1). Mapped addresses were
/// converted before.
fn is_embedded(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let compatible = segments[..6] == [0; 6];
    let translated = segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0];
    let [.., high, low] = segments;
    let inner = std::net::Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    (compatible || translated) && own(IpAddr::V4(inner)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(allow: &Allow, host: &str) -> bool {
        allow.check(host, 80).is_err()
    }

    #[test]
    fn by_default_nothing_of_this_host_and_link_is_allowed() {
        let allow = Allow::default();
        for host in [
            "127.0.0.1",
            "127.8.9.1",
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "localhost",
            "metadata.example",
            "[::1]",
            "127.1",
            "0x7f000001",
            "",
        ] {
            assert!(refused(&allow, host), "{host}");
        }
        for host in ["10.0.0.1", "192.0.2.1", "2001:db8::1", "64:ff9b::a00:1", "fd00::1"] {
            assert_eq!(allow.check(host, 80), Ok(()), "{host}");
        }
    }

    #[test]
    fn networks_are_the_only_ones_and_listeners_are_never_allowed() {
        let networks = Some(vec!["127.0.0.0/8".parse().unwrap(), "fe80::/10".parse().unwrap()]);
        let own = OwnAddresses::default();
        own.replace(["0.0.0.0:9900", "10.0.0.1:8080", "[::]:8443"].map(|text| text.parse().unwrap()).into());
        let allow = Allow { networks, own };
        assert!(refused(&allow, "10.0.0.1") && !refused(&allow, "127.0.0.1") && !refused(&allow, "fe80::1"));
        assert!(!refused(&allow, "::ffff:127.0.0.1"), "the same address");
        assert!(allow.check("127.0.0.1", 9900).is_err() && allow.check("::ffff:127.3.4.5", 8443).is_err());
        let anywhere = Allow { networks: None, ..allow };
        assert!(anywhere.check("10.0.0.1", 8080).is_err() && anywhere.check("10.0.0.1", 8081).is_ok());
    }
}
