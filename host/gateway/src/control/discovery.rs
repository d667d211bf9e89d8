//! The sources of endpoints of this build, and the addresses that none of them may give.

use std::net::SocketAddr;
use std::sync::Arc;

use witgate_config::Config;
use witgate_discovery::SetFolder;
use witgate_upstream::discovery::{Discovery, SavedSets};

use super::Control;

/// Everything that upstreams need in order to discover endpoints, for commands that serve nothing.
pub(super) fn of_this_build() -> Discovery {
    let basic = Discovery::default();
    let resolver = witgate_discovery::resolver().unwrap_or_else(|| basic.resolver.clone());
    Discovery { sources: witgate_discovery::SOURCES, resolver, ..basic }
}

/// As [`of_this_build`], for a gateway, which keeps the last good sets for its next start.
pub(super) fn serving(config: &Config) -> Discovery {
    let folder = config.gateway.cache_folder.as_ref().map(|cache| cache.join("endpoints"));
    let saved = folder.map(|folder| Arc::new(SetFolder::at(folder)) as Arc<dyn SavedSets>);
    Discovery { saved, ..of_this_build() }
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
