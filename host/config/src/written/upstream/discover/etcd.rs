//! `discover.etcd`: endpoints under a prefix of keys.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::servers::{Reach, check_text};
use crate::model;
use crate::pointer::child;
use crate::scalar::{EndpointAddress, Text};
use crate::written::Scope;
use crate::written::tls::SourceTls;

/// Endpoints in etcd.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Etcd {
    /// The members of the cluster, e.g. `["https://10.0.0.5:2379"]`. One is used at a time; if it fails, the next.
    #[schemars(length(min = 1))]
    servers: Vec<Text<EndpointAddress>>,
    /// The prefix of the keys, e.g. `"/services/users/"`, which ends in `/`. Each key is an endpoint. What follows the
    /// prefix is its name. The value is `address:port`, or JSON: the table of a file of endpoints (`address`,
    /// `weight`, `priority`, `zone`, `ready`), or what etcd's own libraries write (`Addr`).
    prefix: String,
    /// The user name, if etcd has authentication enabled. It needs a role that may read the prefix.
    #[serde(default)]
    user: Option<String>,
    /// The password, best written as `"${file:/run/secrets/etcd}"`.
    #[serde(default)]
    password: Option<String>,
    /// TLS: `true`, or a table. Implied by `https://`.
    #[serde(default)]
    tls: Option<SourceTls>,
    /// Whether the password may be sent without TLS to servers that are not on this host.
    #[serde(default)]
    allow_plaintext: bool,
}

impl Etcd {
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let at_prefix = child(at, "prefix");
        check_text("prefix", &self.prefix, &at_prefix, scope);
        if !self.prefix.ends_with('/') {
            let hint = format!("write `{}/`", self.prefix);
            let message = "the prefix does not end in `/`, so keys of other services may begin with it too";
            scope.report(&at_prefix, message, Some(hint));
        }
        let user = match (self.user, self.password) {
            (Some(user), Some(password)) => Some((user, model::Secret::new(password.into_bytes()))),
            (None, None) => None,
            (Some(_), None) => {
                scope.report(&child(at, "user"), "a `user` needs a `password`", None);
                None
            }
            (None, Some(_)) => {
                scope.report_key(&child(at, "password"), "a `password` needs a `user`", None);
                None
            }
        };
        let reach = Reach {
            servers: self.servers,
            tls: self.tls,
            allow_plaintext: self.allow_plaintext,
            has_credentials: user.is_some(),
        };
        let servers = reach.meant(at, scope);
        model::DiscoverySource::Etcd(model::EtcdSource { servers, prefix: self.prefix, user })
    }
}
