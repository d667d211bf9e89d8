//! `discover.dns` and `discover.srv`: names that are looked up in DNS.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, EndpointAddress, HostName, Text};
use crate::written::Scope;

/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// Names that are looked up: one, several, or a table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Names<N> {
    One(N),
    Several(#[schemars(length(min = 1))] Vec<N>),
    Table(NamesTable<N>),
}

/// Names, and how they are looked up.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct NamesTable<N> {
    /// The names: with their ports under `dns`, e.g. `["users.internal:8080"]`, without under `srv`, e.g.
    /// `["_http._tcp.users.internal"]`.
    #[schemars(length(min = 1))]
    names: Vec<N>,
    /// The name servers, e.g. `["10.0.0.2"]` or `["10.0.0.2:5353"]`. Without it, those of `/etc/resolv.conf`.
    #[serde(default)]
    servers: Vec<String>,
    /// The shortest time until a name is looked up again, whatever its TTL is.
    #[serde(default = "shortest")]
    min_ttl: Text<Duration>,
    /// The longest time until a name is looked up again, whatever its TTL is.
    #[serde(default = "longest")]
    max_ttl: Text<Duration>,
}

fn shortest() -> Text<Duration> {
    Text::of("5s")
}

fn longest() -> Text<Duration> {
    Text::of("5m")
}

impl<N> Names<N> {
    /// The names, the pointer of the list if it is one, and how they are looked up.
    fn parts(self, at: &str, scope: &mut Scope) -> (Vec<N>, Option<String>, model::DnsLookup) {
        let usual = || model::DnsLookup {
            servers: Vec::new(),
            min_ttl: shortest().value.0,
            max_ttl: longest().value.0,
        };
        match self {
            Names::One(name) => (vec![name], None, usual()),
            Names::Several(names) => (names, Some(at.to_owned()), usual()),
            Names::Table(NamesTable { names, servers, min_ttl, max_ttl }) => {
                (names, Some(child(at, "names")), lookup(servers, min_ttl, max_ttl, at, scope))
            }
        }
    }
}

impl Names<Text<EndpointAddress>> {
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (names, list, lookup) = self.parts(at, scope);
        let mut meant: Vec<(String, u16)> = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let at = list.as_ref().map_or(at.to_owned(), |list| child(list, &index.to_string()));
            let EndpointAddress { host, port, scheme } = name.value;
            if host.parse::<IpAddr>().is_ok() {
                let hint = "write addresses under `endpoints`".to_owned();
                scope.report(&at, "an address is not looked up in DNS", Some(hint));
            }
            if scheme.is_some() {
                let hint = "write `host:port`, and `tls` for HTTPS".to_owned();
                scope.report(&at, "a name that is looked up has no scheme", Some(hint));
            }
            if meant.contains(&(host.clone(), port)) {
                scope.report(&at, "this name is in the list twice", None);
            }
            meant.push((host, port));
        }
        model::DiscoverySource::Dns(model::DnsSource { names: meant, lookup })
    }
}

impl Names<Text<HostName>> {
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (names, _, lookup) = self.parts(at, scope);
        let names: Vec<String> = names.into_iter().map(|name| name.value.0).collect();
        if names.iter().any(|name| name.parse::<IpAddr>().is_ok()) {
            scope.report(at, "an address has no SRV records", None);
        }
        model::DiscoverySource::Srv(model::SrvSource { names, lookup })
    }
}

fn lookup(
    servers: Vec<String>,
    min_ttl: Text<Duration>,
    max_ttl: Text<Duration>,
    at: &str,
    scope: &mut Scope,
) -> model::DnsLookup {
    let (min_ttl, max_ttl) = (min_ttl.value.0, max_ttl.value.0);
    if min_ttl < std::time::Duration::from_secs(1) {
        let message = "`min_ttl` must be at least one second: a name must not be asked for without a pause";
        scope.report(&child(at, "min_ttl"), message, None);
    }
    if max_ttl < min_ttl {
        scope.report(&child(at, "max_ttl"), "`max_ttl` is shorter than `min_ttl`", None);
    }
    let mut addresses = Vec::new();
    for (index, server) in servers.into_iter().enumerate() {
        let address = server.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT));
        match address.or_else(|_| server.parse::<SocketAddr>()) {
            Ok(address) => addresses.push(address),
            Err(_) => {
                let hint =
                    "write `\"10.0.0.2\"` or `\"10.0.0.2:53\"`, IPv6 with a port in brackets".to_owned();
                let at = child(&child(at, "servers"), &index.to_string());
                scope.report(&at, format!("`{server}` is not the address of a name server"), Some(hint));
            }
        }
    }
    model::DnsLookup { servers: addresses, min_ttl, max_ttl }
}
