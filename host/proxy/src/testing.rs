//! Exchanges without sockets, for unit tests.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Response;
use witgate_config::model::Config;
use witgate_exchange::arrival::{Arrival, Ingress, Source};
use witgate_exchange::body::Body;
use witgate_exchange::head::RequestHead;
use witgate_telemetry::Telemetry;

use crate::gateway::Gateway;
use crate::pipeline::exchange::Exchange;
use crate::snapshot::Snapshot;
use crate::state::memory::MemoryCounter;
pub(crate) use witgate_exchange::testing::*;
pub(crate) use witgate_upstream::testing::{config, upstream, upstreams};

/// A snapshot of a configuration without routes, upstreams and plugins.
pub(crate) fn snapshot(config: Config) -> Snapshot {
    let upstreams = upstreams(config.gateway.body_memory, []);
    Snapshot {
        version: 1,
        identity_headers: crate::snapshot::identity_headers(&config),
        config: Arc::new(config),
        routers: Default::default(),
        tcp: Default::default(),
        tells_clients: false,
        upstreams,
        counter: Arc::new(MemoryCounter::default()),
        cache: None,
        plugins: BTreeMap::new(),
        wrappers: BTreeMap::new(),
        brokers: BTreeMap::new(),
        consumers: BTreeMap::new(),
    }
}

/// The response after [`Exchange::finish`].
pub(crate) fn finished(mut exchange: Exchange, response: Response<Body>) -> Response<Body> {
    exchange.finish(response)
}

/// An exchange over a head on a listener called `web`, with telemetry and snapshot.
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
