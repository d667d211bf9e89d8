//! The sources of endpoints of this build, and the addresses that none of them may give.

use std::net::SocketAddr;

use witgate_proxy::upstream::discovery::Discovery;

use super::Control;

/// Everything that upstreams need in order to discover endpoints.
pub(super) fn of_this_build() -> Discovery {
    let basic = Discovery::default();
    let resolver = witgate_discovery::resolver().unwrap_or_else(|| basic.resolver.clone());
    Discovery { sources: witgate_discovery::SOURCES, resolver, ..basic }
}

impl Control {
    /// Has no source give an address at which this gateway listens.
    pub(super) fn protect_own_addresses(&self) {
        let admin = self.status.admin.as_deref().and_then(|address| address.parse().ok());
        let listeners = self.data_plane.addresses().into_iter().map(|(_, address)| address);
        let addresses: Vec<SocketAddr> = listeners.chain(admin).collect();
        self.discovery.own.replace(addresses);
    }
}
