//! Forwarding over real sockets, to origins that misbehave.

mod origin;

mod admission;
mod answers;
mod balancing;
mod blame;
mod breaker;
mod deadlines;
mod defaults;
mod discovered;
mod ejection;
mod fallback;
mod fetch;
mod health;
mod hedging;
mod http2;
mod limits;
mod mirroring;
mod names;
mod recorded;
mod refused;
mod reload;
mod retries;
mod reuse;
mod sets;
mod streaming;
mod timeouts;
mod tls;
mod tracing;
mod unhealthy;
mod upstream_breaker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response};
use witgate_config::model;
use witgate_exchange::body::Body;
use witgate_exchange::destination::Destination;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;

use super::Forward;
use crate::testing;
use crate::testing::Snapshot;

pub(crate) const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// An upstream of these endpoints with generous limits and otherwise default settings. Only requests that were
/// never sent are sent again.
fn settings(endpoints: &[SocketAddr]) -> model::Upstream {
    let written = testing::upstream(endpoints);
    model::Upstream {
        connect_timeout: Duration::from_secs(5),
        first_byte_timeout: Duration::from_secs(10),
        idle_timeout: Some(Duration::from_secs(10)),
        keep_alive: Duration::from_secs(30),
        max_connections: 0,
        max_pending: 64,
        pending_timeout: Duration::from_secs(10),
        breaker: model::Breaker { consecutive_failures: 0, ..written.breaker },
        ejection: model::Ejection { consecutive_faults: 0, ..written.ejection },
        retry: model::Retry {
            on: model::RetryOn { connect: true, ..model::RetryOn::default() },
            ..written.retry
        },
        ..written
    }
}

/// A snapshot with one upstream, `origin`.
fn snapshot(upstream: model::Upstream) -> Arc<Snapshot> {
    rebuilt(upstream, None)
}

/// The same upstream after a reload.
fn rebuilt(upstream: model::Upstream, previous: Option<&Snapshot>) -> Arc<Snapshot> {
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), upstream);
    let built = Snapshot::build(config, previous);
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// A request to an upstream of its snapshot.
struct Forwarding {
    facts: Facts,
    snapshot: Arc<Snapshot>,
    /// The settings of its route.
    settings: model::Forward,
}

/// A request for which the upstream `origin` was chosen.
fn exchange(snapshot: &Arc<Snapshot>, method: Method, headers: &[(&str, &str)]) -> Forwarding {
    let mut facts = testing::facts(testing::head(method, "/path?query", headers));
    facts.upstream = Some("origin".into());
    let settings = model::Forward {
        upstreams: vec![("origin".into(), 1)],
        rewrite: model::Rewrite::Keep,
        preserve_host: false,
        retry: Default::default(),
        mirror: None,
        bridge: Default::default(),
        transcode: None,
    };
    Forwarding { facts, snapshot: snapshot.clone(), settings }
}

/// Forwards a request with the settings of its route.
async fn forward(request: &mut Forwarding, body: Body) -> Result<Response<Body>, Fault> {
    let destination = Forward::new(request.snapshot.upstreams.clone(), &request.settings);
    destination.serve(&mut request.facts, body).await
}

async fn send(snapshot: &Arc<Snapshot>, method: Method, body: Body) -> Result<Response<Body>, Fault> {
    forward(&mut exchange(snapshot, method, &[]), body).await
}

/// Sends a GET, and reads the body.
async fn get(snapshot: &Arc<Snapshot>) -> Result<Bytes, Fault> {
    let response = send(snapshot, Method::GET, Body::Empty).await?;
    testing::bytes(response.into_body()).await.map_err(|error| *error.downcast::<Fault>().unwrap())
}

/// Waits until a condition holds, for five seconds at most.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
