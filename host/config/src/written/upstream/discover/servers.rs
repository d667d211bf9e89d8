//! The servers of a registry, and how they are reached. What is the same for etcd, Consul and Kubernetes.

use std::net::IpAddr;

use crate::model;
use crate::pointer::child;
use crate::scalar::{EndpointAddress, Scheme, Text};
use crate::written::Scope;
use crate::written::tls::SourceTls;

/// The most servers of a registry.
const MOST: usize = 32;

/// The keys of a source that say how its servers are reached.
pub(super) struct Reach {
    pub(super) servers: Vec<Text<EndpointAddress>>,
    pub(super) tls: Option<SourceTls>,
    pub(super) allow_plaintext: bool,
    /// Whether the gateway sends a password or a token.
    pub(super) has_credentials: bool,
}

impl Reach {
    /// Converts it to the model. `at` is the pointer of the table of the source.
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::RegistryServers {
        let at_servers = child(at, "servers");
        let mut servers: Vec<(String, u16)> = Vec::new();
        let mut https = None;
        if self.servers.len() > MOST {
            scope.report(&at_servers, format!("a source has at most {MOST} servers"), None);
        }
        for (index, server) in self.servers.into_iter().enumerate() {
            let at = child(&at_servers, &index.to_string());
            let EndpointAddress { host, port, scheme } = server.value;
            let scheme = scheme.map(|scheme| scheme == Scheme::Https);
            if index > 0 && scheme != https {
                scope.report(&at, "the servers of a source are all `https://` or all not", None);
            }
            https = scheme;
            if servers.contains(&(host.clone(), port)) {
                scope.report(&at, "this server is in the list twice", None);
            }
            servers.push((host, port));
        }
        let at_tls = child(at, "tls");
        let tls = match (self.tls, https) {
            (None, Some(true)) => SourceTls::Switch(true).meant(&at_tls, scope),
            (None, _) => None,
            (Some(written), https) => {
                let tls = written.meant(&at_tls, scope);
                if https.is_some_and(|https| https != tls.is_some()) {
                    let hint = Some("leave the scheme of the servers out, or this key".to_owned());
                    scope.report_key(&at_tls, "`tls` contradicts the scheme of the servers", hint);
                }
                tls
            }
        };
        let far = servers.iter().find(|(host, _)| !is_loopback(host));
        if let Some((host, _)) =
            far.filter(|_| tls.is_none() && self.has_credentials && !self.allow_plaintext)
        {
            let hint = "set `tls = true`, or `allow_plaintext = true` if nobody else can read that network";
            let message = format!("credentials would be sent to `{host}` in plain text");
            scope.report(&at_servers, message, Some(hint.to_owned()));
        }
        model::RegistryServers { servers, tls }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Checks a name that becomes part of a request: neither empty nor long, and printable.
pub(super) fn check_text(what: &str, text: &str, at: &str, scope: &mut Scope) {
    if text.is_empty() || text.len() > 253 || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let message = format!("the {what} has 1 to 253 characters and no blanks");
        scope.report(at, message, None);
    }
}
