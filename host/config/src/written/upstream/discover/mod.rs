//! `upstreams.NAME.discover`: the source of the endpoints. Each kind is a file.

mod consul;
mod etcd;
mod kubernetes;
mod names;
mod servers;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{DurationOrOff, EndpointAddress, HostName, Net, Text};
use crate::written::Scope;
use consul::Consul;
use etcd::Etcd;
use kubernetes::Kubernetes;
use names::Names;

/// The keys that name a source.
pub(crate) const SOURCES: [&str; 6] = ["file", "dns", "srv", "etcd", "consul", "kubernetes"];

/// The source of the endpoints: exactly one of `file`, `dns`, `srv`, `etcd`, `consul` and `kubernetes`.
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
    dns: Option<Names<Text<EndpointAddress>>>,
    /// Names of SRV records (RFC 2782): each address of a target is an endpoint, with the priority, the weight and
    /// the port of its record. One name, a list of them, or a table with `names`, `servers`, `min_ttl` and
    /// `max_ttl`.
    srv: Option<Names<Text<HostName>>>,
    /// The keys under a prefix in etcd (3.4 or later): each is an endpoint.
    etcd: Option<Etcd>,
    /// A service in Consul: each instance that passes its checks is an endpoint, with its weight. The name of the
    /// service, or a table.
    consul: Option<Consul>,
    /// A service in Kubernetes: each endpoint of its EndpointSlices. The name of the service, or a table. If the gateway
    /// has a `zone`, the slices' hints for that zone are followed.
    kubernetes: Option<Kubernetes>,
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

impl Default for Discover {
    fn default() -> Self {
        Discover {
            file: None,
            dns: None,
            srv: None,
            etcd: None,
            consul: None,
            kubernetes: None,
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
        scope.exclude(at, &SOURCES);
        if self.min_endpoints > self.max_endpoints {
            scope.report(at, "`min_endpoints` is more than `max_endpoints`, so every set is refused", None);
        }
        let source = if let Some(file) = self.file {
            Some(meant_file(&file, &child(at, "file"), scope))
        } else if let Some(dns) = self.dns {
            Some(dns.meant(&child(at, "dns"), scope))
        } else if let Some(srv) = self.srv {
            Some(srv.meant(&child(at, "srv"), scope))
        } else if let Some(etcd) = self.etcd {
            Some(etcd.meant(&child(at, "etcd"), scope))
        } else if let Some(consul) = self.consul {
            Some(consul.meant(&child(at, "consul"), scope))
        } else {
            self.kubernetes.map(|kubernetes| kubernetes.meant(&child(at, "kubernetes"), scope))
        };
        if source.is_none() {
            let hint = "write one of `file`, `dns`, `srv`, `etcd`, `consul` and `kubernetes`, e.g. `dns = \"host:port\"`";
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
    fn registries_have_servers_and_credentials_that_stay_out_of_logs() {
        let config = config(
            "discover.etcd = { servers = [\"https://a\", \"https://b:1\"], prefix = \"/a/\", user = \"u\", password = \"pass\" }",
        );
        let Some(discover) = &config.upstreams["u"].discover else { panic!("a source") };
        let DiscoverySource::Etcd(etcd) = &discover.source else { panic!("{discover:?}") };
        assert_eq!(etcd.servers.servers, [("a".to_owned(), 443), ("b".to_owned(), 1)]);
        assert!(
            etcd.servers.tls.is_some() && etcd.user.as_ref().is_some_and(|user| user.1.bytes() == b"pass")
        );
        assert!(!format!("{discover:?}").contains("pass"));
        for text in [
            "discover = { consul = \"users\" }",
            "discover.consul = { service = \"users\", servers = [\"127.0.0.1:8500\"], passing = true, stale = \"off\" }",
        ] {
            let config = self::config(text);
            let Some(discover) = &config.upstreams["u"].discover else { panic!("{text}") };
            let DiscoverySource::Consul(consul) = &discover.source else { panic!("{discover:?}") };
            assert_eq!(consul.servers.servers, [("127.0.0.1".to_owned(), 8500)], "{text}");
            assert!(consul.passing && consul.near.is_none() && consul.stale.is_none(), "{text}");
        }
        let text = "discover.kubernetes = { service = \"users\", port = \"http\" }\n[gateway]\nzone = \"z\"";
        let config = self::config(text);
        let Some(discover) = &config.upstreams["u"].discover else { panic!("{text}") };
        let DiscoverySource::Kubernetes(kubernetes) = &discover.source else { panic!("{discover:?}") };
        assert_eq!((kubernetes.zone.as_deref(), &kubernetes.servers), (Some("z"), &None));
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
            ("discover = { consul = \"a\", kubernetes = \"a\" }", "exclude each other"),
            ("discover.etcd = { servers = [], prefix = \"/a/\" }", "servers"),
            ("discover.etcd = { servers = [\"a:1\"], prefix = \"/a\" }", "write `/a/`"),
            ("discover.etcd = { servers = [\"a:1\", \"a:1\"], prefix = \"/a/\" }", "twice"),
            (
                "discover.etcd = { servers = [\"https://a\", \"b:1\"], prefix = \"/a/\" }",
                "all `https://` or all not",
            ),
            ("discover.etcd = { servers = [\"https://a\"], prefix = \"/a/\", tls = false }", "contradicts"),
            ("discover.etcd = { servers = [\"a:1\"], prefix = \"/a/\", user = \"u\" }", "needs a `password`"),
            ("discover.etcd = { servers = [\"a:1\"], prefix = \"/a/\", password = \"p\" }", "needs a `user`"),
            (
                "discover.etcd = { servers = [\"a:1\"], prefix = \"/a/\", user = \"u\", password = \"p\" }",
                "in plain text",
            ),
            (
                "discover.etcd = { servers = [\"a:1\"], prefix = \"/a/\", tls = { insecure_skip_verify = true } }",
                "insecure_skip_verify",
            ),
            ("discover = { consul = \"\" }", "1 to 253 characters"),
            ("discover.consul = { service = \"a\", nearest = 2 }", "needs `near`"),
            ("discover.consul = { service = \"a\", token_file = \"nowhere\" }", "cannot read"),
            ("discover.consul = { service = \"a\", stale = \"0s\" }", "longer than 0"),
            ("discover = { kubernetes = \"../pods\" }", "not the name of a service"),
            ("discover.kubernetes = { namespace = \"a\" }", "missing key `service`"),
            ("discover.kubernetes = { service = \"a\", namespace = \"a/b\" }", "not the name of a namespace"),
            ("discover.kubernetes = { service = \"a\", tls = true }", "needs `servers`"),
        ] {
            let told = problem(text);
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
