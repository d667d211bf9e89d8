//! Tests of the whole pipeline, with native plugins and filters, and with an origin that is a function.

mod authentication;
mod bodies;
mod by_body;
mod callers;
mod composed;
mod credentials;
mod declined;
mod exported;
mod fake;
mod gate;
mod native;
mod order;
mod rate_limiting;
mod recorded;
mod remembered;
mod routing;
mod streams;
mod transformation;
mod when;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response};
use witgate_config::model::{self, Action, Auth, Forward, Rewrite};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::Binding;
use witgate_exchange::contracts::counter::Counter;
use witgate_exchange::fault::Fault;
use witgate_telemetry::Telemetry;
use witgate_upstream::Upstream;

use crate::filters::{Filter, Stage};
use crate::pipeline::exchange::Exchange;
use crate::pipeline::{self, Descent};
use crate::router::{Route, Rule, When};
use crate::state::memory::MemoryCounter;
use crate::testing;
use fake::Fake;

/// A gateway with one route.
struct Fixture {
    config: model::Config,
    route: model::Route,
    /// Native bindings, which come before the plugins.
    native: Vec<Arc<dyn Binding>>,
    plugins: Vec<Arc<Fake>>,
    filters: Vec<(Stage, Arc<dyn Filter>)>,
    /// The conditions of bindings, by name.
    conditions: BTreeMap<String, Arc<When>>,
    counter: Arc<dyn Counter>,
    /// Version of the snapshot.
    version: u64,
}

impl Fixture {
    /// A route to the upstream `users`, with these bindings. There is an upstream `orders` too.
    fn new(plugins: impl IntoIterator<Item = Fake>) -> Self {
        let mut config = testing::config();
        config.upstreams = BTreeMap::from([("users".into(), upstream()), ("orders".into(), upstream())]);
        let forward = Forward {
            upstreams: vec![("users".into(), 1)],
            rewrite: Rewrite::Keep,
            preserve_host: false,
            retry: Default::default(),
            mirror: None,
            bridge: Default::default(),
            transcode: None,
        };
        let route = model::Route {
            name: "all".into(),
            matches: model::RouteMatch::default(),
            action: Action::Forward(forward),
            listeners: Vec::new(),
            plugins: Vec::new(),
            filters: Vec::new(),
            auth: Auth::Required,
            timeout: None,
            body_bytes: None,
            callers: model::Callers::default(),
            merge_slashes: true,
            cache: None,
        };
        let plugins = plugins.into_iter().map(Arc::new).collect();
        Fixture {
            config,
            route,
            native: Vec::new(),
            plugins,
            filters: Vec::new(),
            conditions: BTreeMap::new(),
            counter: Arc::new(MemoryCounter::default()),
            version: 1,
        }
    }

    /// An exchange that has found its route.
    fn exchange(&self, method: Method, target: &str, headers: &[(&str, &str)]) -> Routed {
        let mut snapshot = testing::snapshot(self.config.clone());
        snapshot.version = self.version;
        snapshot.counter = Arc::clone(&self.counter);
        let upstreams = self.config.upstreams.iter().map(|(name, settings)| {
            let Ok(built) = Upstream::build(name, settings, None, &Default::default(), None) else {
                panic!("an upstream")
            };
            (name.as_str().into(), built)
        });
        snapshot.upstreams = testing::upstreams(self.config.gateway.body_memory, upstreams);
        let Ok(rule) =
            Rule::compile(0, &self.route, &snapshot.upstreams, &Default::default(), Default::default())
        else {
            panic!("a rule")
        };
        let mut route = Route::new(self.route.clone(), Arc::new(rule));
        route.filters.clone_from(&self.filters);
        let plugins = self.plugins.iter().map(|plugin| Arc::clone(plugin) as Arc<dyn Binding>);
        for binding in self.native.iter().cloned().chain(plugins) {
            route.bind(&binding, self.conditions.get(&**binding.name()));
        }
        let head = testing::head(method, target, headers);
        let mut exchange = testing::exchange_with(&Telemetry::new(), snapshot, head);
        exchange.facts.limit_time(route.config.timeout);
        Routed { exchange, route }
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Routed {
        self.exchange(Method::GET, target, headers)
    }
}

/// An exchange and the route it has found.
struct Routed {
    exchange: Exchange,
    route: Route,
}

impl Deref for Routed {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.exchange
    }
}

impl DerefMut for Routed {
    fn deref_mut(&mut self) -> &mut Exchange {
        &mut self.exchange
    }
}

fn upstream() -> model::Upstream {
    model::Upstream {
        connect_timeout: Duration::from_secs(1),
        first_byte_timeout: Duration::from_secs(1),
        idle_timeout: None,
        keep_alive: Duration::from_secs(1),
        idle_connections: 1,
        max_connections: 0,
        max_pending: 1,
        pending_timeout: Duration::from_secs(1),
        ..testing::upstream(&[])
    }
}

/// Takes a request through the way down.
async fn descend(routed: &mut Routed, body: impl Into<Body>) -> Result<Descent, Fault> {
    pipeline::descend(&mut routed.exchange, &routed.route, Ok(body.into())).await
}

/// Takes a request that must be forwarded through the way down.
fn forwarded(routed: &mut Routed, body: impl Into<Body>) -> Body {
    match testing::run(descend(routed, body)) {
        Ok(Descent::Passed(body)) => body,
        Ok(Descent::Answered(response)) => panic!("answered {}", response.status()),
        Err(fault) => panic!("{fault}"),
    }
}

/// Takes a request that must be refused through the way down.
fn refused(routed: &mut Routed, body: impl Into<Body>) -> Fault {
    match testing::run(descend(routed, body)) {
        Err(fault) => fault,
        Ok(_) => panic!("not refused"),
    }
}

/// Takes a request through the way down and its response through the way up, as `serve` does.
fn through(routed: &mut Routed, origin: Response<Body>) -> Response<Body> {
    testing::run(async {
        let response = match descend(routed, Body::Empty).await {
            Ok(Descent::Passed(_)) if routed.route.destination.reads_body() => origin,
            Ok(Descent::Passed(body)) => {
                let Routed { exchange, route } = &mut *routed;
                let served = route.destination.serve(&mut exchange.facts, body).await;
                served.unwrap_or_else(|fault| panic!("{fault}"))
            }
            Ok(Descent::Answered(response)) => response,
            Err(fault) => routed.facts.fault(fault),
        };
        ascended(routed, response).await
    })
}

/// The response after the way up.
async fn ascended(routed: &mut Routed, response: Response<Body>) -> Response<Body> {
    pipeline::ascend(&mut routed.exchange, &routed.route, response).await
}

/// The content of a body, and its trailers.
fn read(body: Body) -> Result<(Bytes, Option<http::HeaderMap>), witgate_exchange::body::BodyError> {
    testing::run(async {
        let collected = http_body_util::BodyExt::collect(body).await?;
        let trailers = collected.trailers().cloned();
        Ok((collected.to_bytes(), trailers))
    })
}

/// A header's values, joined.
fn values(headers: &http::HeaderMap, name: &str) -> String {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect();
    values.join(" | ")
}
