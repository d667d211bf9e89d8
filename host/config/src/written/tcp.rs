//! Routes that take connections instead of requests, and what they have to do with listeners.

use super::one_or_many::OneOrMany;
use super::route_action::forward_to;
use super::{Scope, listener};
use crate::model::{self, Action, ListenerProtocol, TcpForward};
use crate::pointer::child;
use crate::scalar::{HostPattern, Text};

/// The keys of a route that are about HTTP requests.
const OF_REQUESTS: [&str; 28] = [
    "host",
    "hosts",
    "path",
    "prefix",
    "method",
    "methods",
    "headers",
    "query",
    "rewrite",
    "strip_prefix",
    "preserve_host",
    "retry",
    "mirror",
    "redirect",
    "respond",
    "plugins",
    "filters",
    "auth",
    "body_limit",
    "merge_slashes",
    "grpc",
    "grpc_bridge",
    "transcode",
    "publish",
    "allow",
    "deny",
    "dry_run",
    "cache",
];

/// The listeners of a route that takes connections; `None` if it takes requests. Such a route has `sni` or `alpn`, or all
/// its listeners are for TCP. `named`: the listeners that it names.
pub(crate) fn listeners(named: &[String], at: &str, scope: &mut Scope) -> Option<Vec<String>> {
    let all = listener::kinds(scope);
    let conditional = ["sni", "alpn"].iter().any(|key| scope.is_written(&child(at, key)));
    let of_route: Vec<_> =
        all.iter().filter(|listener| named.is_empty() || named.contains(&listener.name)).collect();
    let is_tcp = match named.is_empty() {
        true => !all.is_empty() && all.iter().all(|listener| listener.tcp),
        false => of_route.iter().any(|listener| listener.tcp),
    };
    if !conditional && !is_tcp {
        return None;
    }
    if named.is_empty() {
        let takes = of_route.iter().filter(|listener| listener.tcp || (conditional && listener.tls));
        return Some(takes.map(|listener| listener.name.clone()).collect());
    }
    for listener in of_route.iter().filter(|listener| !listener.tcp) {
        let name = &listener.name;
        if !listener.tls {
            let hint = "give the listener `tls`, or `protocol = \"tcp\"`".to_owned();
            let message =
                format!("listener `{name}` speaks HTTP without TLS: it has no connections for this route");
            scope.report(&child(at, "listeners"), message, Some(hint));
        } else if !conditional {
            let hint = "name the connections: `sni = \"db.example.com\"`".to_owned();
            let message = format!("this route would take every connection of the HTTP listener `{name}`");
            scope.report(&child(at, "listeners"), message, Some(hint));
        }
    }
    Some(named.to_vec())
}

/// The keys of a route that takes connections.
pub(crate) struct Keys {
    pub(crate) sni: Option<OneOrMany<Text<HostPattern>>>,
    pub(crate) alpn: Option<OneOrMany<String>>,
    pub(crate) upstream: Option<String>,
    pub(crate) upstreams: Option<std::collections::BTreeMap<String, u32>>,
}

/// The action of a route that takes connections.
pub(crate) fn meant(keys: Keys, at: &str, scope: &mut Scope) -> Option<Action> {
    for key in OF_REQUESTS {
        let at = child(at, key);
        if scope.is_written(&at) {
            let hint = "leave it out; connections differ by `sni` and `alpn`".to_owned();
            scope.report_key(
                &at,
                format!("`{key}` is about requests, but this route takes connections"),
                Some(hint),
            );
        }
    }
    scope.exclude(at, &["upstream", "upstreams"]);
    let sni: Vec<String> =
        keys.sni.map(OneOrMany::into_vec).unwrap_or_default().into_iter().map(|name| name.value.0).collect();
    for name in sni.iter().filter(|name| name.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok()) {
        scope.report(
            &child(at, "sni"),
            format!("`{name}` is an address, and no client sends it as a server name"),
            None,
        );
    }
    let alpn = keys.alpn.map(OneOrMany::into_vec).unwrap_or_default();
    for name in alpn.iter().filter(|name| name.is_empty() || name.len() > 255) {
        scope.report(&child(at, "alpn"), format!("`{name}` is no protocol: a name has 1 to 255 bytes"), None);
    }
    for (key, empty) in [("sni", sni.is_empty()), ("alpn", alpn.is_empty())] {
        if empty && scope.is_written(&child(at, key)) {
            scope.report(
                &child(at, key),
                "the list is empty",
                Some("leave the key out for any connection".to_owned()),
            );
        }
    }
    let upstreams = forward_to(keys.upstream, keys.upstreams, at, scope, true);
    if upstreams.is_empty() {
        scope.report(at, "this route does not say where connections go", Some("set `upstream`".to_owned()));
        return None;
    }
    Some(Action::Tcp(TcpForward { sni, alpn, upstreams }))
}

/// A name made from what a route matches, e.g. `tcp db.example.com`.
pub(crate) fn derived_name(forward: &TcpForward) -> String {
    let words = [forward.sni.join("|"), forward.alpn.join("|")];
    let words = words.into_iter().filter(|word| !word.is_empty());
    std::iter::once("tcp".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Checks the routes of each listener for TCP, and gives it the application protocols that they name.
pub(crate) fn settle(listeners: &mut [model::Listener], routes: &[model::Route], scope: &mut Scope) {
    let names = listener::names(scope);
    for listener in listeners {
        let of_listener = routes.iter().filter_map(|route| match &route.action {
            Action::Tcp(forward) if route.listeners.contains(&listener.name) => Some((route, forward)),
            _ => None,
        });
        let of_listener: Vec<_> = of_listener.collect();
        let index = names.iter().position(|name| *name == listener.name).unwrap_or_default();
        let at = format!("/listeners/{index}");
        if listener.protocol == ListenerProtocol::Tcp && of_listener.is_empty() && !scope.has_findings() {
            let hint = format!("add one: [[routes]] listeners = {:?}, upstream = \"NAME\"", listener.name);
            scope.report(
                &at,
                format!("no route takes the connections of listener `{}`", listener.name),
                Some(hint),
            );
        }
        for (index, (route, forward)) in of_listener.iter().enumerate() {
            let same = |(_, other): &&(&model::Route, &TcpForward)| {
                other.sni == forward.sni && other.alpn == forward.alpn
            };
            if let Some((first, _)) = of_listener[..index].iter().find(same) {
                let message = format!(
                    "route `{}` can never be taken: route `{}` takes the same connections of listener `{}`",
                    route.name, first.name, listener.name
                );
                scope.report(&at, message, Some("give them different `sni` or `alpn`".to_owned()));
            }
        }
        if listener.protocol == ListenerProtocol::Tcp
            && let Some(tls) = &mut listener.tls
        {
            for protocol in of_listener.iter().flat_map(|(_, forward)| &forward.alpn) {
                if !tls.alpn.contains(protocol) {
                    tls.alpn.push(protocol.clone());
                }
            }
        }
    }
}
