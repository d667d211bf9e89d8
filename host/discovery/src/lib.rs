//! Sources of endpoints: where an upstream with `discover` gets its endpoints from.
//!
//! | file | source | choose it for |
//! |---|---|---|
//! | `file` | [`file::KIND`] | endpoints that a program or a person writes to a file of this machine |
//! | `dns` | [`dns::DNS`], [`dns::SRV`] | endpoints that a name server knows, e.g. that of a container platform |
//! | `etcd` | [`etcd::KIND`] | endpoints that register themselves under a prefix of keys, with a lease |
//! | `consul` | [`consul::KIND`] | the instances of a service that pass the checks of Consul's agents |
//! | `kubernetes` | [`kubernetes::KIND`] | the pods of a service, with their readiness and zones |
//!
//! [`SetFolder`] keeps the last good sets for the next process.
//!
//! Fixed lists need no library and are part of the data path. The trait is
//! [`Source`](witgate_exchange::contracts::discovery::Source). Each source is a Cargo feature, because only it needs
//! its client library.
//!
//! Sources run beside the data path: they report sets to a sink, which checks them and keeps the last good one. What
//! a source reads comes from outside of this process, so its size and form are checked where it is read.

use std::sync::Arc;

use witgate_exchange::contracts::discovery::{Resolver, SourceKind};

#[cfg(feature = "consul")]
pub mod consul;
#[cfg(feature = "dns")]
pub mod dns;
#[cfg(any(feature = "file", feature = "etcd"))]
mod endpoint;
#[cfg(feature = "etcd")]
pub mod etcd;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "kubernetes")]
pub mod kubernetes;
#[cfg(any(feature = "etcd", feature = "consul", feature = "kubernetes"))]
mod registry;
mod saved;
#[cfg(any(feature = "file", feature = "etcd", feature = "consul", feature = "kubernetes"))]
mod text;

pub use saved::SetFolder;

/// Every source of this crate that was compiled in.
pub const SOURCES: &[SourceKind] = &[
    #[cfg(feature = "file")]
    file::KIND,
    #[cfg(feature = "dns")]
    dns::DNS,
    #[cfg(feature = "dns")]
    dns::SRV,
    #[cfg(feature = "etcd")]
    etcd::KIND,
    #[cfg(feature = "consul")]
    consul::KIND,
    #[cfg(feature = "kubernetes")]
    kubernetes::KIND,
];

/// The resolver of the host names in fixed lists. `None` if DNS was not compiled in: then the system is asked.
pub fn resolver() -> Option<Arc<dyn Resolver>> {
    #[cfg(feature = "dns")]
    return Some(Arc::new(dns::HostResolver));
    #[cfg(not(feature = "dns"))]
    None
}

#[cfg(test)]
mod tests {
    use super::SOURCES;

    #[test]
    fn every_source_has_a_name_of_its_own() {
        for (index, row) in SOURCES.iter().enumerate() {
            assert!(!row.summary.is_empty());
            assert!(SOURCES[..index].iter().all(|other| other.kind != row.kind), "{}", row.kind);
        }
    }
}
