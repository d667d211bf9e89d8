//! `upstreams.NAME.discover`: the source of the endpoints.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Duration, DurationOrOff, EndpointAddress, HostName, Net, Text};
use crate::written::Scope;

/// The port of DNS (RFC 1035 section 4.2).
const DNS_PORT: u16 = 53;

/// The source of the endpoints: exactly one of `file`, `dns` and `srv`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Discover {
    /// A file that lists the endpoints, `.toml` or `.json`, with the key `endpoints` as in an upstream: a list of
    /// `"address:port"`, or of tables with `address`, `name`, `weight`, `priority`, `zone` and `ready`. It is
    /// watched; replace it by renaming another file over it.
    #[schemars(length(min = 1))]
    file: Option<String>,
    /// Host names with their ports: each address (A and AAAA records) is an endpoint. One `"host:port"`, a list of
    /// them, or a table with `names`, `servers`, `min_ttl` and `max_ttl`. Search domains, `ndots` and `/etc/hosts`
    /// apply.
    dns: Option<Dns>,
    /// Names of SRV records (RFC 2782): each address of a target is an endpoint, with the priority, the weight and
    /// the port of its record. One name, a list of them, or a table with `names`, `servers`, `min_ttl` and
    /// `max_ttl`.
    srv: Option<Srv>,
    /// The networks whose addresses are accepted, e.g. `["10.0.0.0/8"]`. Without it, all addresses except those of
    /// this host and this link (loopback, link-local, unspecified, multicast). The gateway's own listeners are never
    /// accepted. Endpoints at other addresses are left out, and `witgate upstreams` shows them.
    #[schemars(length(min = 1))]
    allow: Option<Vec<Text<Net>>>,
    /// A set in which fewer endpoints serve is refused, and the last good one stays in service. With 0 an empty set
    /// is believed.
    #[schemars(range(max = 100_000))]
    min_endpoints: usize,
    /// A set with more endpoints is refused, and the last good one stays in service.
    #[schemars(range(min = 1, max = 100_000))]
    max_endpoints: usize,
    /// How long after the source last confirmed its set the endpoints are trusted. After that an endpoint serves
    /// only if its active checks pass, or if it proves its identity by TLS, because its address may belong to
    /// something else by then. `"off"` means without a limit.
    keep_stale: Text<DurationOrOff>,
}

/// Host names whose addresses are the endpoints.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Dns {
    Name(Text<EndpointAddress>),
    Names(#[schemars(length(min = 1))] Vec<Text<EndpointAddress>>),
    Table(DnsTable),
}

/// Host names whose addresses are the endpoints, and how they are looked up.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DnsTable {
    /// The names with their ports, e.g. `["users.internal:8080"]`.
    #[schemars(length(min = 1))]
    names: Vec<Text<EndpointAddress>>,
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

/// Names of SRV records.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Srv {
    Name(Text<HostName>),
    Names(#[schemars(length(min = 1))] Vec<Text<HostName>>),
    Table(SrvTable),
}

/// Names of SRV records, and how they are looked up.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SrvTable {
    /// The names, e.g. `["_http._tcp.users.internal"]`.
    #[schemars(length(min = 1))]
    names: Vec<Text<HostName>>,
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

impl Default for Discover {
    fn default() -> Self {
        Discover {
            file: None,
            dns: None,
            srv: None,
            allow: None,
            min_endpoints: 1,
            max_endpoints: 10_000,
            keep_stale: Text::of("24h"),
        }
    }
}

impl Discover {
    /// Converts it to the model. `None` if it names no source.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Discover> {
        scope.exclude(at, &["file", "dns", "srv"]);
        if self.min_endpoints > self.max_endpoints {
            scope.report(at, "`min_endpoints` is more than `max_endpoints`, so every set is refused", None);
        }
        let source = if let Some(file) = self.file {
            Some(meant_file(&file, &child(at, "file"), scope))
        } else if let Some(dns) = self.dns {
            Some(dns.meant(&child(at, "dns"), scope))
        } else {
            self.srv.map(|srv| srv.meant(&child(at, "srv"), scope))
        };
        if source.is_none() {
            let hint = "write one of `file = \"endpoints.toml\"`, `dns = \"host:port\"` and `srv = \"_http._tcp.host\"`";
            scope.report(at, "`discover` names no source", Some(hint.to_owned()));
        }
        Some(model::Discover {
            source: source?,
            allow: self.allow.map(|networks| networks.into_iter().map(|network| network.value.0).collect()),
            min_endpoints: self.min_endpoints,
            max_endpoints: self.max_endpoints,
            keep_stale: self.keep_stale.value.0,
        })
    }
}

fn meant_file(file: &str, at: &str, scope: &mut Scope) -> model::DiscoverySource {
    let path = scope.path(at, file);
    if !path.extension().is_some_and(|extension| extension == "toml" || extension == "json") {
        let hint = "its name ends in `.toml` or `.json`, which says how it is read".to_owned();
        scope.report(at, "a file of endpoints is TOML or JSON", Some(hint));
    }
    model::DiscoverySource::File(path)
}

impl Dns {
    fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (names, at_names, lookup) = match self {
            Dns::Name(name) => (vec![name], None, usual_lookup()),
            Dns::Names(names) => (names, Some(at.to_owned()), usual_lookup()),
            Dns::Table(DnsTable { names, servers, min_ttl, max_ttl }) => {
                (names, Some(child(at, "names")), lookup(servers, min_ttl, max_ttl, at, scope))
            }
        };
        let mut meant: Vec<(String, u16)> = Vec::new();
        for (index, name) in names.into_iter().enumerate() {
            let at = at_names.as_ref().map_or(at.to_owned(), |list| child(list, &index.to_string()));
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

impl Srv {
    fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (names, lookup) = match self {
            Srv::Name(name) => (vec![name], usual_lookup()),
            Srv::Names(names) => (names, usual_lookup()),
            Srv::Table(SrvTable { names, servers, min_ttl, max_ttl }) => {
                (names, lookup(servers, min_ttl, max_ttl, at, scope))
            }
        };
        let names: Vec<String> = names.into_iter().map(|name| name.value.0).collect();
        if names.iter().any(|name| name.parse::<IpAddr>().is_ok()) {
            scope.report(at, "an address has no SRV records", None);
        }
        model::DiscoverySource::Srv(model::SrvSource { names, lookup })
    }
}

fn usual_lookup() -> model::DnsLookup {
    let (min_ttl, max_ttl) = (shortest().value.0, longest().value.0);
    model::DnsLookup { servers: Vec::new(), min_ttl, max_ttl }
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

/// Sets the name that TLS expects of endpoints. It is always the configuration's: a source that could choose it
/// could send requests to any host with a valid certificate.
pub(super) fn check_name(
    discover: &model::Discover,
    tls: &mut model::UpstreamTls,
    at: &str,
    scope: &mut Scope,
) {
    if tls.server_name.is_some() || tls.insecure_skip_verify {
        return;
    }
    match discover.source.host() {
        Some((name, _)) => tls.server_name = Some(name.to_owned()),
        None => {
            let hint =
                "write `tls = { server_name = \"NAME\" }` with the name in the certificates of the endpoints";
            let message = "with TLS, endpoints that are discovered need a `server_name`";
            scope.report(at, message, Some(hint.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::DiscoverySource;
    use crate::{Config, parse_str};

    fn config(upstream: &str) -> Config {
        let text = format!("[upstreams.u]\n{upstream}\n");
        parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    fn problem(upstream: &str) -> String {
        let Err(failure) = parse_str(&format!("[upstreams.u]\n{upstream}\n")) else {
            panic!("it is refused: {upstream}")
        };
        failure.render(false)
    }

    #[test]
    fn each_source_is_written_in_a_word_or_in_a_table() {
        let upstream = &config("discover = { file = \"endpoints.json\" }").upstreams["u"];
        let discover = upstream.discover.as_ref().expect("a source");
        assert!(upstream.endpoints.is_empty());
        assert_eq!((discover.min_endpoints, discover.max_endpoints, &discover.allow), (1, 10_000, &None));
        assert_eq!(discover.keep_stale.map(|time| time.as_secs()), Some(86_400));
        for text in [
            "discover = { dns = \"users.internal:80\" }",
            "discover = { dns = [\"users.internal:80\"] }",
            "discover.dns = { names = [\"users.internal:80\"], servers = [], min_ttl = \"5s\", max_ttl = \"5m\" }",
        ] {
            let config = config(text);
            let Some(discover) = &config.upstreams["u"].discover else { panic!("{text}") };
            assert_eq!(discover.source.host(), Some(("users.internal", 80)), "{text}");
        }
        let config = config(
            "discover = { srv = { names = [\"_http._tcp.users\"], servers = [\"10.0.0.2\", \"[::1]:5353\"] }, \
             keep_stale = \"off\", allow = [\"10.0.0.0/8\"] }",
        );
        let Some(discover) = &config.upstreams["u"].discover else { panic!("a source") };
        let DiscoverySource::Srv(srv) = &discover.source else { panic!("{discover:?}") };
        assert_eq!(
            srv.lookup.servers,
            ["10.0.0.2:53", "[::1]:5353"].map(|text| text.parse().expect("it is one"))
        );
        assert_eq!((discover.keep_stale, discover.allow.as_ref().map(Vec::len)), (None, Some(1)));
    }

    #[test]
    fn the_name_that_tls_expects_is_that_of_the_configuration() {
        let tls = |text: &str| config(text).upstreams["u"].tls.clone().and_then(|tls| tls.server_name);
        assert_eq!(tls("tls = true\ndiscover = { dns = \"users:443\" }").as_deref(), Some("users"));
        let named = "tls = { server_name = \"a.b\" }\ndiscover = { dns = \"users:443\" }";
        assert_eq!(tls(named).as_deref(), Some("a.b"));
        let told = problem("tls = true\ndiscover = { srv = \"_https._tcp.users\" }");
        assert!(told.contains("need a `server_name`") && told.contains("help: write"), "{told}");
    }

    #[test]
    fn mistakes_are_told_with_what_to_do() {
        for (text, words) in [
            ("", "neither `endpoints` nor `discover`"),
            ("discover = {}", "`discover` names no source"),
            ("endpoints = [\"a:1\"]\ndiscover = { dns = \"a:1\" }", "exclude each other"),
            ("discover = { dns = \"a:1\", srv = \"a\" }", "exclude each other"),
            ("discover = { file = \"endpoints.yaml\" }", "ends in `.toml` or `.json`"),
            ("discover = { dns = \"10.0.0.1:80\" }", "write addresses under `endpoints`"),
            ("discover = { dns = \"users\" }", "port is missing"),
            ("discover = { dns = \"https://users\" }", "has no scheme"),
            ("discover = { dns = [\"a:1\", \"a:1\"] }", "twice"),
            ("discover = { dns = [] }", "dns"),
            (
                "discover = { dns = { names = [\"a:1\"], servers = [\"dns.internal\"] } }",
                "not the address of a name server",
            ),
            ("discover = { dns = { names = [\"a:1\"], min_ttl = \"0s\" } }", "at least one second"),
            ("discover = { dns = { names = [\"a:1\"], max_ttl = \"1s\" } }", "shorter than `min_ttl`"),
            ("discover = { srv = \"10.0.0.1\" }", "no SRV records"),
            ("discover = { dns = \"a:1\", allow = [\"10.0.0.1/8\"] }", "beyond its prefix"),
            ("discover = { dns = \"a:1\", min_endpoints = 5, max_endpoints = 2 }", "every set is refused"),
            ("discover = { files = \"a.toml\" }", "`file`"),
        ] {
            let told = problem(text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
