//! `[admin]`: the admin listener.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{HostName, ListenAddress, Scalar, Text};

/// The admin listener: `/healthz`, `/readyz`, `/metrics`, status, and changes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Admin {
    /// The address of the admin listener, or `"off"`. Without `read_token`, the address must not be reachable for
    /// strangers.
    #[schemars(length(min = 1))]
    address: String,
    /// Path of a Unix socket (mode 0600) over which the command line makes changes. Without it there is none.
    #[schemars(length(min = 1))]
    socket: Option<String>,
    /// The bearer token that changes over TCP need, best written as `"${file:/run/secrets/admin-token}"`. Without it,
    /// changes go by the socket only.
    token: Option<String>,
    /// The bearer token that reading over TCP needs: metrics, status, upstreams, the cache. Without it, everybody who reaches the
    /// address may read. `token` may read too, and `/healthz` and `/readyz` need none.
    read_token: Option<String>,
    /// Host names under which the admin listener may be addressed, besides IP addresses and `localhost`. Other
    /// values of `Host` are refused, so that web pages cannot reach it under names of their own (DNS rebinding).
    hosts: Vec<Text<HostName>>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:9900".to_owned(),
            socket: None,
            token: None,
            read_token: None,
            hosts: Vec::new(),
        }
    }
}

/// Shorter tokens can be guessed.
const SHORTEST_TOKEN: usize = 16;

impl Section for Admin {
    type Meant = model::Admin;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Admin> {
        let tokens = [("token", &self.token), ("read_token", &self.read_token)];
        for (key, token) in tokens.into_iter().filter_map(|(key, token)| Some((key, token.as_ref()?))) {
            let at = child(at, key);
            if token.len() < SHORTEST_TOKEN {
                let hint = Some("make one with `openssl rand -hex 32`".to_owned());
                scope.report(&at, format!("the token has fewer than {SHORTEST_TOKEN} characters"), hint);
            } else if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                scope.report(&at, "the token has characters that a header cannot carry", None);
            }
        }
        let address = self.address(&child(at, "address"), scope);
        Some(model::Admin {
            address: address?,
            socket: self.socket.map(|socket| scope.path(&child(at, "socket"), &socket)),
            token: self.token,
            read_token: self.read_token,
            hosts: self.hosts.into_iter().map(|host| host.value.0).collect(),
        })
    }
}

impl Admin {
    fn address(&self, at: &str, scope: &mut Scope) -> Option<Option<SocketAddr>> {
        if self.address == "off" {
            return Some(None);
        }
        match ListenAddress::read(&self.address) {
            Ok(ListenAddress(address)) => Some(Some(address)),
            Err(why) => {
                let hint = self
                    .address
                    .starts_with("unix:")
                    .then(|| "write the path of a Unix socket as `socket`".to_owned());
                scope.report(at, format!("expected {}, or \"off\": {why}", ListenAddress::WHAT), hint);
                None
            }
        }
    }
}
