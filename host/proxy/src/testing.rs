//! Exchanges without sockets, for unit tests.

pub(crate) mod collector;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, Version};
use http_body_util::BodyExt;
use tokio::runtime::{Builder, LocalOptions};
use witgate_config::model::{self, Config, LogLevel};

use crate::arrival::{Arrival, Ingress, Source};
use crate::body::{Body, BodyError};
use crate::facts::Facts;
use crate::gateway::Gateway;
use crate::head::{Client, RequestHead, Scheme};
use crate::pipeline::exchange::Exchange;
use crate::replay::memory::BodyMemory;
use crate::snapshot::Snapshot;
use crate::state::memory::MemoryCounter;
use crate::telemetry::Telemetry;
use crate::telemetry::trace;
use crate::upstream::{Upstream, Upstreams};

/// The client of [`head`].
pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

/// The limits of a listener.
pub(crate) fn limits() -> model::Limits {
    model::Limits {
        connections: 0,
        headers: 100,
        header_bytes: 64 * 1024,
        url_bytes: 8 * 1024,
        body_bytes: 0,
        streams: 100,
        header_timeout: Duration::from_secs(10),
        keep_alive: Duration::from_secs(60),
        body_timeout: Duration::from_secs(30),
        handshake_timeout: Duration::from_secs(10),
        max_connection_age: None,
    }
}

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

/// A request head from [`CLIENT`] to `a.example`.
pub(crate) fn head(method: Method, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let target = PathAndQuery::try_from(target).expect("a test's target");
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's header name");
            (name, HeaderValue::from_str(value).expect("a test's header value"))
        })
        .collect();
    RequestHead {
        method,
        received_target: None,
        target,
        upstream_target: None,
        upstream_method: None,
        authority: "a.example".into(),
        scheme: Scheme::Http,
        trailers: None,
        client: Client { address: CLIENT, peer: SocketAddr::new(CLIENT, 40000), certificate: None },
        route: None,
        parameters: Vec::new(),
        identity: None,
        request_id: trace::request_id(&headers, true),
        trace: None,
        headers,
    }
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

/// The facts of a request over HTTP/1.1 that no stage has seen.
pub(crate) fn facts(head: RequestHead) -> Facts {
    Facts::new(Arc::new(head), Version::HTTP_11, Instant::now())
}

/// Every byte of a body.
pub(crate) async fn bytes(body: Body) -> Result<Bytes, BodyError> {
    body.collect().await.map(http_body_util::Collected::to_bytes)
}

/// A body of unknown size that is streamed in these chunks.
pub(crate) fn chunks(chunks: Vec<Result<&'static [u8], &'static str>>) -> Body {
    let frames = chunks.into_iter().map(|chunk| match chunk {
        Ok(bytes) => Ok(http_body::Frame::data(Bytes::from_static(bytes))),
        Err(error) => Err(BodyError::from(error)),
    });
    Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)))
}

/// A 200 response with a body.
pub(crate) fn response(headers: &[(&str, &str)], body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::from(body.into()));
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a test's header name");
        response.headers_mut().append(name, HeaderValue::from_str(value).expect("a test's header value"));
    }
    response
}

/// Runs a future to its end on a runtime like that of a core.
pub(crate) fn run<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.expect("a runtime").block_on(future)
}
