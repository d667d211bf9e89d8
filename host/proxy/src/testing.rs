//! Exchanges without sockets, for unit tests.

pub(crate) mod collector;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Response;
use witgate_config::model::{self, Config, LogLevel};
use witgate_exchange::arrival::{Arrival, Ingress, Source};
use witgate_exchange::body::Body;
use witgate_exchange::head::RequestHead;
use witgate_exchange::replay::memory::BodyMemory;
use witgate_telemetry::Telemetry;

use crate::gateway::Gateway;
use crate::pipeline::exchange::Exchange;
use crate::snapshot::Snapshot;
use crate::state::memory::MemoryCounter;
use crate::upstream::{Upstream, Upstreams};
pub(crate) use witgate_exchange::testing::*;

/// A configuration without listeners, routes or upstreams.
pub(crate) fn config() -> Config {
    Config {
        gateway: model::Gateway {
            workers: 1,
            zone: None,
            trusted_proxies: Vec::new(),
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(1),
            drain_idle: Duration::from_millis(200),
            plugin_folder: PathBuf::new(),
            cache_folder: None,
            compile: model::CompileLimits::default(),
            start: model::Start::Strict,
            identity_headers: BTreeMap::new(),
            plugins: Vec::new(),
            filters: Vec::new(),
            counter: None,
            secrets: Vec::new(),
            limits: limits(),
            body_memory: usize::MAX,
            allow_empty: false,
            encoded_slashes: model::EncodedSlashes::Refuse,
            underscores_in_headers: false,
        },
        admin: model::Admin { address: None, socket: None, token: None, hosts: Vec::new() },
        telemetry: model::Telemetry {
            access_log: None,
            access_log_queue: 1024,
            log_level: LogLevel::Info,
            otlp: None,
        },
        listeners: Vec::new(),
        routes: Vec::new(),
        upstreams: BTreeMap::new(),
        plugins: BTreeMap::new(),
        bindings: BTreeMap::new(),
        state: BTreeMap::new(),
        data: BTreeMap::new(),
    }
}

/// An upstream with these endpoints and otherwise default settings.
pub(crate) fn upstream(endpoints: &[SocketAddr]) -> model::Upstream {
    let endpoints: Vec<model::Endpoint> = endpoints
        .iter()
        .map(|address| model::Endpoint {
            host: address.ip().to_string(),
            port: address.port(),
            weight: 1,
            priority: 0,
            zone: None,
        })
        .collect();
    let loaded = witgate_config::parse_str("[upstreams.any]\nendpoints = [\"127.0.0.1:1\"]\n");
    let mut config = loaded.unwrap_or_else(|failure| panic!("{:?}", failure.problems)).config;
    model::Upstream { endpoints, ..config.upstreams.remove("any").expect("it was declared") }
}

/// These upstreams, which may keep so many bytes of request bodies.
pub(crate) fn upstreams(
    body_memory: usize,
    by_name: impl IntoIterator<Item = (Arc<str>, Arc<Upstream>)>,
) -> Arc<Upstreams> {
    Arc::new(Upstreams::new(by_name.into_iter().collect(), BodyMemory::new(body_memory, None)))
}

/// A snapshot of a configuration without routes, upstreams and plugins.
pub(crate) fn snapshot(config: Config) -> Snapshot {
    let upstreams = upstreams(config.gateway.body_memory, []);
    Snapshot {
        version: 1,
        identity_headers: crate::snapshot::identity_headers(&config),
        config: Arc::new(config),
        routers: Default::default(),
        upstreams,
        counter: Arc::new(MemoryCounter::default()),
        plugins: BTreeMap::new(),
    }
}

/// The response after [`Exchange::finish`].
pub(crate) fn finished(mut exchange: Exchange, response: Response<Body>) -> Response<Body> {
    exchange.finish(response)
}

/// An exchange over a head, on a listener called `web`.
pub(crate) fn exchange(head: RequestHead) -> Exchange {
    exchange_with(&Telemetry::new(), snapshot(config()), head)
}

/// An exchange over a head, with telemetry and snapshot.
pub(crate) fn exchange_with(telemetry: &Arc<Telemetry>, snapshot: Snapshot, head: RequestHead) -> Exchange {
    let snapshot = Arc::new(snapshot);
    let ingress = Ingress::new(Source::Test, "web".into(), Some(head.client.peer), limits());
    let gateway = gateway(telemetry, Arc::clone(&snapshot));
    Exchange::begin(facts(head), Arrival::new(Rc::new(ingress)), &gateway, snapshot)
}

/// A gateway that serves by this snapshot.
pub(crate) fn gateway(telemetry: &Arc<Telemetry>, snapshot: Arc<Snapshot>) -> Gateway {
    Gateway::new(Arc::clone(telemetry), Arc::new(ArcSwap::new(snapshot)))
}
