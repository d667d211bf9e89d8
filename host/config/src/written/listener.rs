//! `[[listeners]]`: the doors.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::filter::{self, Filter};
use super::limits::Limits;
use super::tls::ListenerTls;
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{ListenAddress, Name, Scalar, Text};

/// A door: an address on which the gateway accepts connections.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listener {
    /// A unique name. Without it, the address.
    name: Option<Text<Name>>,
    /// Where to listen. Without it, `0.0.0.0:8080`, or `0.0.0.0:8443` with TLS. `[::]:8080` takes IPv6 as well.
    address: Option<Text<ListenAddress>>,
    /// TLS. Without it the listener speaks cleartext.
    tls: Option<ListenerTls>,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, by prior knowledge in cleartext. The default is true.
    http2: Option<bool>,
    /// Limits on what clients may send here. What is not set here is as in `gateway.limits`.
    #[schemars(with = "Option<Limits>")]
    limits: Option<Map<String, Value>>,
    /// Bindings (or plugins, with default settings) that apply to every request of this listener.
    plugins: Vec<String>,
    /// Filters that apply to every request of this listener.
    filters: Vec<Filter>,
}

impl Section for Listener {
    type Meant = model::Listener;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Listener> {
        scope.check_bindings(&child(at, "plugins"), &self.plugins);
        let address =
            self.address.map_or_else(|| default_address(self.tls.is_some()), |address| address.value.0);
        let limits = limits(self.limits, &child(at, "limits"), scope);
        Some(model::Listener {
            name: self.name.map_or_else(|| address.to_string(), |name| name.value.0),
            address,
            tls: self.tls.map(|tls| tls.meant(&child(at, "tls"), scope)),
            http2: self.http2.unwrap_or(true),
            limits: limits?,
            plugins: self.plugins,
            filters: filter::all(&self.filters, &child(at, "filters"), scope),
        })
    }
}

/// The limits of a listener: what it sets, over what the gateway sets, over the defaults.
fn limits(own: Option<Map<String, Value>>, at: &str, scope: &mut Scope) -> Option<model::Limits> {
    let mut limits =
        scope.document.get("/gateway/limits").and_then(Value::as_object).cloned().unwrap_or_default();
    limits.extend(own.unwrap_or_default());
    // The gateway's own limits may be wrong, which is reported there.
    serde_json::from_value::<Limits>(Value::Object(limits)).ok()?.meant(at, scope)
}

/// The names of the listeners, whether they are right or wrong.
pub(crate) fn names(scope: &Scope) -> Vec<String> {
    let written = scope.document.value.get("listeners").and_then(Value::as_array);
    let names = written.into_iter().flatten().map(|listener| {
        let key = |key: &str| listener.get(key).and_then(Value::as_str);
        let address = key("address").and_then(|address| ListenAddress::read(address).ok());
        let default = || default_address(listener.get("tls").is_some()).to_string();
        key("name")
            .map_or_else(|| address.map_or_else(default, |address| address.0.to_string()), str::to_owned)
    });
    names.collect()
}

fn default_address(tls: bool) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], if tls { 8443 } else { 8080 }))
}

/// Every listener; where none is written, the default one, if there is to be one.
pub(crate) fn all(scope: &mut Scope, admin: Option<SocketAddr>, default: bool) -> Vec<model::Listener> {
    if !scope.is_written("/listeners/0") {
        let listener = default.then(|| Listener::default().meant("/listeners", scope)).flatten();
        return listener.into_iter().collect();
    }
    let listeners = scope.list::<Listener>("listeners");
    for (index, (at, listener)) in listeners.iter().enumerate() {
        for (other_at, other) in &listeners[..index] {
            if listener.name == other.name {
                scope.report_with(
                    &child(at, "name"),
                    format!("the name `{}` is taken", listener.name),
                    &child(other_at, "name"),
                    "it is taken",
                );
            }
            if clash(listener.address, other.address) {
                scope.report_with(
                    &child(at, "address"),
                    format!("{} is taken", listener.address),
                    &child(other_at, "address"),
                    "it is taken",
                );
            }
        }
        if let Some(admin) = admin.filter(|admin| clash(*admin, listener.address)) {
            scope.report_with(
                &child(at, "address"),
                format!("{admin} is the address of the admin listener"),
                "/admin/address",
                "the admin listener is declared",
            );
        }
    }
    listeners.into_iter().map(|(_, listener)| listener).collect()
}

/// Whether two listeners would take each other's connections. Port 0 is a new port each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` takes IPv4 connections too.
    let takes =
        |one: SocketAddr, other: SocketAddr| one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let same = one.ip() == other.ip() || takes(one, other) || takes(other, one);
    one.port() != 0 && one.port() == other.port() && same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_by_port_and_wildcard() {
        let cases = [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
        ];
        for (one, other, expected) in cases {
            let parse = |text: &str| text.parse().expect("an address");
            assert_eq!(clash(parse(one), parse(other)), expected, "{one} {other}");
        }
    }
}
