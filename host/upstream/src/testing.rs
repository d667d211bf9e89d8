//! Upstreams without a gateway, for tests.

pub mod collector;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::future::LocalBoxFuture;
use http::{Request, Response};
use prometheus_client::encoding::DescriptorEncoder;
use witgate_config::Problems;
use witgate_config::model::{self, Config, LogLevel};
use witgate_exchange::contracts::Fetch;
use witgate_exchange::fault::Fault;
use witgate_exchange::replay::memory::BodyMemory;
pub use witgate_exchange::testing::*;
use witgate_exchange::trace::TraceContext;
use witgate_telemetry::InService;

use crate::discovery::Discovery;
use crate::{CurrentUpstreams, Upstream, Upstreams};

/// The value of `Sec-WebSocket-Accept` for a value of `Sec-WebSocket-Key` (RFC 6455 section 4.2.2).
pub fn websocket_accept(key: &[u8]) -> String {
    crate::send::switch::websocket_accept(key)
}

/// A configuration without listeners, routes or upstreams.
pub fn config() -> Config {
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
pub fn upstream(endpoints: &[SocketAddr]) -> model::Upstream {
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
pub fn upstreams(
    body_memory: usize,
    by_name: impl IntoIterator<Item = (Arc<str>, Arc<Upstream>)>,
) -> Arc<Upstreams> {
    Arc::new(Upstreams::new(by_name.into_iter().collect(), BodyMemory::new(body_memory, None)))
}

/// What a snapshot of the gateway has of upstreams.
pub struct Snapshot {
    /// The configuration that it was built from.
    pub config: Arc<Config>,
    /// Its upstreams.
    pub upstreams: Arc<Upstreams>,
}

impl Snapshot {
    /// Builds the upstreams of a configuration. What survives a reload is taken from `previous`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn build(config: Config, previous: Option<&Snapshot>) -> Result<Snapshot, Problems> {
        Snapshot::build_with(config, &Discovery::default(), previous)
    }

    /// As [`Snapshot::build`], with sources of endpoints.
    ///
    /// # Errors
    /// As [`Snapshot::build`].
    pub fn build_with(
        config: Config,
        discovery: &Discovery,
        previous: Option<&Snapshot>,
    ) -> Result<Snapshot, Problems> {
        let upstreams = Upstreams::build(&config, discovery, previous.map(|previous| &*previous.upstreams));
        let upstreams = upstreams.map_err(|(_, problems)| problems)?;
        Ok(Snapshot { config: Arc::new(config), upstreams: Arc::new(upstreams) })
    }
}

impl InService for Snapshot {
    fn version(&self) -> u64 {
        1
    }

    fn settings(&self) -> &model::Telemetry {
        &self.config.telemetry
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        crate::encode(&self.upstreams, encoder)
    }
}

impl Fetch for Snapshot {
    fn fetch<'a>(
        &'a self,
        upstream: &'a str,
        request: Request<Bytes>,
        trace: Option<&'a TraceContext>,
        timeout: Option<Duration>,
        limit: usize,
    ) -> LocalBoxFuture<'a, Result<Response<Bytes>, Fault>> {
        self.upstreams.fetch(upstream, request, trace, timeout, limit)
    }
}

impl CurrentUpstreams for ArcSwap<Snapshot> {
    fn current(&self) -> Arc<Upstreams> {
        self.load().upstreams.clone()
    }
}
