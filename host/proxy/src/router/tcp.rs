//! Chooses the route of a connection, by the server name (SNI) and the application protocols (ALPN) of its ClientHello.
//!
//! All conditions of a route must hold. Of several routes whose conditions hold, the most specific is taken: an exact server
//! name, then a wildcard (`*.example` stands for exactly one label), then none; with equal names, one that names protocols
//! comes before one that does not; then the order written decides.

use std::sync::Arc;
use std::time::Duration;

use witgate_config::Config;
use witgate_config::model::{Action, Listener, Route, TcpForward};
use witgate_exchange::names::Named;
use witgate_upstream::{Upstream, Upstreams};
use witgate_wire::client_hello::ClientHello;

/// A route that takes connections.
pub struct TcpRoute {
    /// Its name.
    pub name: Arc<str>,
    /// The longest time of a session; `None`: unlimited.
    pub lifetime: Option<Duration>,
    alpn: Vec<Box<[u8]>>,
    /// With the sum of the weights up to and including each.
    upstreams: Vec<(u32, Arc<Upstream>)>,
}

/// The routes of one listener that take connections.
#[derive(Default)]
pub struct TcpRouter {
    exact: Named<Box<str>, Vec<Arc<TcpRoute>>>,
    /// By what follows `*.`.
    wildcard: Named<Box<str>, Vec<Arc<TcpRoute>>>,
    any: Vec<Arc<TcpRoute>>,
    /// Whether a route can only be chosen with the ClientHello.
    pub needs_hello: bool,
}

impl TcpRouter {
    /// The routers of all listeners that have such routes, by listener.
    pub fn of_all(config: &Config, upstreams: &Upstreams) -> Named<String, TcpRouter> {
        let mut routers: Named<String, TcpRouter> = Named::default();
        for listener in &config.listeners {
            for (route, forward) in of_listener(config, listener) {
                routers.entry(listener.name.clone()).or_default().add(route, forward, upstreams);
            }
        }
        routers
    }

    fn add(&mut self, route: &Route, forward: &TcpForward, upstreams: &Upstreams) {
        let mut sum = 0;
        let weighted =
            forward.upstreams.iter().filter(|(_, weight)| *weight > 0).filter_map(|(name, weight)| {
                sum += weight;
                Some((sum, upstreams.get(name.as_str())?.clone()))
            });
        let compiled = Arc::new(TcpRoute {
            name: route.name.as_str().into(),
            lifetime: route.timeout,
            alpn: forward.alpn.iter().map(|protocol| protocol.as_bytes().into()).collect(),
            upstreams: weighted.collect(),
        });
        self.needs_hello |= !(forward.sni.is_empty() && forward.alpn.is_empty());
        if forward.sni.is_empty() {
            insert(&mut self.any, &compiled);
        }
        for name in &forward.sni {
            let routes = match name.strip_prefix("*.") {
                Some(parent) => self.wildcard.entry(parent.into()).or_default(),
                None => self.exact.entry(name.as_str().into()).or_default(),
            };
            insert(routes, &compiled);
        }
    }

    /// The route of a connection with this hello.
    pub fn find(&self, hello: &ClientHello) -> Option<&Arc<TcpRoute>> {
        let name = hello.server_name.as_deref();
        let offers = |route: &&Arc<TcpRoute>| {
            route.alpn.is_empty() || hello.alpn.iter().any(|offered| route.alpn.contains(offered))
        };
        let named = name.into_iter().flat_map(|name| self.named(name));
        named.chain(&self.any).find(offers)
    }

    /// Whether every connection with this server name takes a route that names it.
    pub fn takes(&self, host: &str) -> bool {
        self.named(host).any(|route| route.alpn.is_empty())
    }

    /// The routes that name a host, the more specific first.
    fn named(&self, host: &str) -> impl Iterator<Item = &Arc<TcpRoute>> {
        let parent = host.split_once('.').and_then(|(_, parent)| self.wildcard.get(parent));
        self.exact.get(host).into_iter().chain(parent).flatten()
    }
}

/// The routes of a listener that take connections.
fn of_listener<'a>(
    config: &'a Config,
    listener: &'a Listener,
) -> impl Iterator<Item = (&'a Route, &'a TcpForward)> {
    config.routes.iter().filter_map(|route| match &route.action {
        Action::Tcp(forward) if route.listeners.contains(&listener.name) => Some((route, forward)),
        _ => None,
    })
}

/// Those that name protocols stay before those that do not.
fn insert(routes: &mut Vec<Arc<TcpRoute>>, route: &Arc<TcpRoute>) {
    let at = match route.alpn.is_empty() {
        true => routes.len(),
        false => routes.iter().position(|other| other.alpn.is_empty()).unwrap_or(routes.len()),
    };
    routes.insert(at, route.clone());
}

impl TcpRoute {
    /// The upstream of one connection, in proportion to the weights.
    pub fn upstream(&self) -> Option<&Arc<Upstream>> {
        if let [(_, only)] = &self.upstreams[..] {
            return Some(only);
        }
        let sum = self.upstreams.last()?.0;
        let drawn = fastrand::u32(..sum);
        self.upstreams.iter().find(|(below, _)| drawn < *below).map(|(_, upstream)| upstream)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn router(routes: &[(&str, &[&str], &[&str])]) -> TcpRouter {
        let upstreams = testing::upstreams(0, []);
        let mut router = TcpRouter::default();
        for (name, sni, alpn) in routes {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let forward = TcpForward { sni: owned(sni), alpn: owned(alpn), upstreams: Vec::new() };
            let route = Route { name: (*name).to_owned(), ..crate::listener::tests::route("") };
            router.add(&route, &forward, &upstreams);
        }
        router
    }

    fn found<'r>(router: &'r TcpRouter, name: Option<&str>, alpn: &[&str]) -> Option<&'r str> {
        let alpn = alpn.iter().map(|protocol| protocol.as_bytes().into()).collect();
        let hello = ClientHello { server_name: name.map(Box::from), alpn };
        router.find(&hello).map(|route| &*route.name)
    }

    #[test]
    fn the_most_specific_route_whose_conditions_hold_is_taken() {
        let router = router(&[
            ("any", &[], &[]),
            ("any postgres", &[], &["postgresql"]),
            ("parent", &["*.example"], &[]),
            ("exact", &["db.example"], &["postgresql", "h2"]),
        ]);
        assert!(router.needs_hello);
        assert_eq!(found(&router, Some("db.example"), &["x", "h2"]), Some("exact"));
        assert_eq!(found(&router, Some("db.example"), &[]), Some("parent"));
        assert_eq!(found(&router, Some("a.example"), &["postgresql"]), Some("parent"));
        assert_eq!(found(&router, Some("a.b.example"), &["postgresql"]), Some("any postgres"));
        assert_eq!(found(&router, Some("example"), &[]), Some("any"));
        assert_eq!(found(&router, None, &[]), Some("any"));
        assert!(router.takes("a.example") && !router.takes("b.a.example") && !router.takes("example"));
    }

    #[test]
    fn a_name_that_only_some_protocols_take_is_left_to_others() {
        let router = router(&[("challenge", &["www.example"], &["acme-tls/1"])]);
        assert_eq!(found(&router, Some("www.example"), &["acme-tls/1"]), Some("challenge"));
        assert_eq!(found(&router, Some("www.example"), &["h2"]), None);
        assert_eq!(found(&router, None, &["acme-tls/1"]), None);
        assert!(!router.takes("www.example"));
    }
}
