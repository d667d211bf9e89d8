//! `[[listeners]]`: the addresses on which the gateway accepts connections.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::filter::{self, Filter};
use super::limits::Limits;
use super::proxy_protocol::ProxyProtocol;
use super::tls::ListenerTls;
use super::{Scope, Section};
use crate::model;
use crate::pointer::child;
use crate::scalar::{ListenAddress, Name, Scalar, Text};

/// An address on which the gateway accepts connections.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Listener {
    /// A unique name. Without it, the address.
    name: Option<Text<Name>>,
    /// Where to listen. Without it, `0.0.0.0:8080`, or `0.0.0.0:8443` with TLS. `[::]:8080` accepts IPv6 as well.
    address: Option<Text<ListenAddress>>,
    /// The protocol: `http` (HTTP/1.1 and HTTP/2), or `tcp`, whose connections are forwarded without a look at what is in
    /// them: see [TCP and TLS passthrough](../tcp.md).
    #[schemars(with = "Protocol")]
    protocol: Option<Protocol>,
    /// The PROXY protocol, by which a proxy in front tells who the client is. Without it, connections begin with what the
    /// client sends.
    proxy_protocol: Option<ProxyProtocol>,
    /// TLS, which ends here. Without it the listener speaks cleartext, or its TCP routes get the TLS of clients as it comes.
    tls: Option<ListenerTls>,
    /// Whether HTTP/2 is offered: by ALPN over TLS, by prior knowledge in cleartext. The default is true.
    http2: Option<bool>,
    /// Whether an HTTP/1.1 client may half-close the connection (TCP FIN, TLS `close_notify`) before it has its
    /// response, as `printf ... | nc -N` does. The default is false: such a client counts as gone, and what its
    /// request waits for is cancelled. A response that waits for nothing is still sent.
    half_close: bool,
    /// When the listener stops accepting in a drain: at once (`first`), or when no request and no tunnel is in
    /// flight on the listeners that drain first (`last`), at most `gateway.drain_timeout` later. Those requests
    /// may need new calls through this listener. The default is `last` for a loopback address while another
    /// listener has another address, else `first`.
    #[schemars(with = "DrainOrder")]
    drain: Option<DrainOrder>,
    /// Limits on what clients may send here. Keys that are not set have the values of `gateway.limits`.
    #[schemars(with = "Option<Limits>")]
    limits: Option<Map<String, Value>>,
    /// Bindings (or plugins, with default settings) that apply to every request of this listener.
    plugins: Vec<String>,
    /// Filters that apply to every request of this listener.
    filters: Vec<Filter>,
}

/// What clients of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Protocol {
    Http,
    Tcp,
}

/// The keys of a listener that are about requests.
const OF_REQUESTS: [&str; 4] = ["http2", "half_close", "plugins", "filters"];

/// When a listener stops accepting in a drain.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum DrainOrder {
    First,
    Last,
}

impl Section for Listener {
    type Meant = model::Listener;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Listener> {
        scope.check_bindings(&child(at, "plugins"), &self.plugins);
        let address =
            self.address.map_or_else(|| default_address(self.tls.is_some()), |address| address.value.0);
        let limits = limits(self.limits, &child(at, "limits"), scope);
        let protocol = match self.protocol {
            Some(Protocol::Tcp) => model::ListenerProtocol::Tcp,
            Some(Protocol::Http) | None => model::ListenerProtocol::Http,
        };
        if protocol == model::ListenerProtocol::Tcp {
            for key in OF_REQUESTS {
                let at = child(at, key);
                if scope.is_written(&at) {
                    let message = format!("`{key}` is about requests, but this listener takes connections");
                    scope.report_key(&at, message, Some("leave it out".to_owned()));
                }
            }
        }
        Some(model::Listener {
            name: self.name.map_or_else(|| address.to_string(), |name| name.value.0),
            address,
            protocol,
            proxy_protocol: self.proxy_protocol.map(|proxy| proxy.meant(&child(at, "proxy_protocol"), scope)),
            tls: self.tls.map(|tls| tls.meant(&child(at, "tls"), scope)),
            http2: self.http2.unwrap_or(true),
            half_close: self.half_close,
            // The default depends on the other listeners: see `order_drain`.
            drain: match self.drain {
                Some(DrainOrder::Last) => model::DrainOrder::Last,
                Some(DrainOrder::First) | None => model::DrainOrder::First,
            },
            limits: limits?,
            plugins: self.plugins,
            filters: filter::all(&self.filters, &child(at, "filters"), scope),
        })
    }
}

/// The limits of a listener: its own keys, else those of the gateway, else the defaults.
fn limits(own: Option<Map<String, Value>>, at: &str, scope: &mut Scope) -> Option<model::Limits> {
    let mut limits =
        scope.document.get("/gateway/limits").and_then(Value::as_object).cloned().unwrap_or_default();
    limits.extend(own.unwrap_or_default());
    // Mistakes in the gateway's own limits are reported there.
    serde_json::from_value::<Limits>(Value::Object(limits)).ok()?.meant(at, scope)
}

/// The names of the listeners, valid or not.
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

/// What the route of a listener has to know of it.
pub(crate) struct Kind {
    pub(crate) name: String,
    /// Whether it takes connections instead of requests.
    pub(crate) tcp: bool,
    pub(crate) tls: bool,
}

/// The kinds of the listeners, valid or not. Without any listener there is the default one, for HTTP.
pub(crate) fn kinds(scope: &Scope) -> Vec<Kind> {
    let written = scope.document.value.get("listeners").and_then(Value::as_array);
    let kinds = names(scope).into_iter().zip(written.into_iter().flatten()).map(|(name, listener)| Kind {
        name,
        tcp: listener.get("protocol").and_then(Value::as_str) == Some("tcp"),
        tls: listener.get("tls").is_some(),
    });
    kinds.collect()
}

/// The name of the listener that a configuration without listeners has.
pub(crate) fn default_name() -> String {
    default_address(false).to_string()
}

fn default_address(tls: bool) -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], if tls { 8443 } else { 8080 }))
}

/// Every listener; if none is configured, the default one, if `default`.
pub(crate) fn all(scope: &mut Scope, admin: Option<SocketAddr>, default: bool) -> Vec<model::Listener> {
    if !scope.is_written("/listeners/0") {
        let listener = default.then(|| Listener::default().meant("/listeners", scope)).flatten();
        return listener.into_iter().collect();
    }
    let mut listeners = scope.list::<Listener>("listeners");
    order_drain(&mut listeners, scope);
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

/// Sets the default drain order of listeners without one. A gateway that is both the edge and the mesh between
/// services must serve calls of the services until the edge has no request in flight.
fn order_drain(listeners: &mut [(String, model::Listener)], scope: &Scope) {
    let is_loopback = |listener: &model::Listener| listener.address.ip().to_canonical().is_loopback();
    let has_edge = listeners.iter().any(|(_, listener)| !is_loopback(listener));
    for (at, listener) in listeners {
        if has_edge && is_loopback(listener) && !scope.is_written(&child(at, "drain")) {
            listener.drain = model::DrainOrder::Last;
        }
    }
}

/// Whether two listeners cannot both bind their addresses. Port 0 is a new port each time.
fn clash(one: SocketAddr, other: SocketAddr) -> bool {
    // `[::]` accepts IPv4 connections too.
    let takes =
        |one: SocketAddr, other: SocketAddr| one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    let same = one.ip() == other.ip() || takes(one, other) || takes(other, one);
    one.port() != 0 && one.port() == other.port() && same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_listeners_drain_last_where_another_is_not_loopback() {
        use model::DrainOrder::{First, Last};
        let cases = [
            (
                "[[listeners]]\naddress = \"127.0.0.1:1\"\n[[listeners]]\naddress = \"[::1]:2\"",
                [First, First],
            ),
            (
                "[[listeners]]\naddress = \"0.0.0.0:1\"\n[[listeners]]\naddress = \"127.9.9.9:2\"",
                [First, Last],
            ),
            ("[[listeners]]\naddress = \"[::1]:1\"\n[[listeners]]\naddress = \"192.0.2.7:2\"", [Last, First]),
            ("[[listeners]]\naddress = \"[::]:1\"\n[[listeners]]\naddress = \"10.0.0.1:2\"", [First, First]),
            (
                "[[listeners]]\naddress = \"0.0.0.0:1\"\ndrain = \"last\"\n\
                 [[listeners]]\naddress = \"127.0.0.1:2\"\ndrain = \"first\"",
                [Last, First],
            ),
        ];
        for (text, expected) in cases {
            let loaded = crate::parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
            let orders: Vec<_> = loaded.config.listeners.iter().map(|listener| listener.drain).collect();
            assert_eq!(orders, expected, "{text}");
        }
    }

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
