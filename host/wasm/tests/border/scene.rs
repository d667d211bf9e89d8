//! A runtime with one binding, and requests for calls of it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use witgate_config::model::LogLevel;
use witgate_config::{Config, parse_str};
use witgate_exchange::contracts::state::State;
use witgate_exchange::contracts::{
    Authentication as _, Bucket, Call, CallFailure, Decision, Fetch, RateLimiting as _, RequestOutcome,
    ResponseHead, ResponseOrigin, Transformation as _,
};
use witgate_exchange::head::{Client, RequestHead, Scheme};
use witgate_proxy::snapshot::Snapshot;
use witgate_proxy::state::memory::Memory;
use witgate_telemetry::Telemetry;
use witgate_tests::guest;
use witgate_wasm::{BindingRequest, Compiling, Data, Journal, Loaded, Refusal, Runtime, RuntimeOptions};

/// A log whose lines nobody reads.
struct Unread;

impl Journal for Unread {
    fn enabled(&self, _level: LogLevel) -> bool {
        true
    }

    fn write(&self, _level: LogLevel, _binding: &str, _message: &str) {}
}

/// A separate runtime for a test that counts or reverts.
pub(crate) struct Scene {
    pub(crate) runtime: Runtime,
    /// Versions that requested their revert.
    pub(crate) reverts: Arc<Mutex<Vec<u64>>>,
    pub(crate) telemetry: Arc<Telemetry>,
    /// Where the plugin's keys are kept.
    pub(crate) state: Arc<dyn State>,
    /// The files for plugins.
    pub(crate) data: BTreeMap<String, Arc<Data>>,
    /// Where calls that belong to no request fetch.
    pub(crate) upstreams: Arc<Mutex<Arc<Snapshot>>>,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with_cache(None)
    }

    pub(crate) fn with_cache(cache: Option<std::path::PathBuf>) -> Self {
        Self::compiling(Compiling::Here, cache)
    }

    pub(crate) fn compiling(compiling: Compiling, cache: Option<std::path::PathBuf>) -> Self {
        let telemetry = Telemetry::new();
        let reverts: Arc<Mutex<Vec<u64>>> = Arc::default();
        let asked = Arc::clone(&reverts);
        let upstreams = Arc::new(Mutex::new(snapshot()));
        let current = Arc::clone(&upstreams);
        let options = RuntimeOptions {
            cores: 2,
            instances: 300,
            cache,
            compiling,
            on_revert: Arc::new(move |_, version| asked.lock().unwrap().push(version)),
            upstreams: Arc::new(move || Some(current.lock().unwrap().clone() as Arc<dyn Fetch>)),
        };
        let runtime = Runtime::new(options, Arc::new(Unread)).expect("the machine can run plugins");
        telemetry.metrics().register(runtime.collector());
        let (state, data) = (Arc::new(Memory::default()), BTreeMap::new());
        Scene { runtime, reverts, telemetry, state, data, upstreams }
    }

    /// Binds a guest. `binding` is the text of the table `[bindings.b]`.
    pub(crate) fn bind(&self, name: &str, binding: &str) -> Result<Arc<Loaded>, Refusal> {
        let config = config(binding, "");
        self.prepare(&std::fs::read(guest(name)).expect("the guest was built"), &config)
    }

    pub(crate) fn prepare(&self, bytes: &[u8], config: &Config) -> Result<Arc<Loaded>, Refusal> {
        let component = self.runtime.compile(bytes)?;
        let (binding, plugin) = (&config.bindings["b"], &config.plugins["p"]);
        let store = self.state.store(&binding.plugin, plugin.store_bytes);
        let data: BTreeMap<String, Arc<Data>> = binding
            .grants
            .data
            .iter()
            .flatten()
            .filter_map(|name| Some((name.clone(), self.data.get(name).cloned()?)))
            .collect();
        let secrets = &config.gateway.secrets;
        let order = BindingRequest { name: "b", binding, plugin, store, data: &data, secrets };
        self.runtime.prepare(&component, &order)
    }
}

/// A configuration with the binding `b` of the plugin `p`.
pub(crate) fn config(binding: &str, more: &str) -> Config {
    let text = format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [plugins.p]\nfile = \"p.wasm\"\n[bindings.b]\nplugin = \"p\"\n{binding}\n{more}"
    );
    match parse_str(&text) {
        Ok(loaded) => loaded.config,
        Err(failure) => panic!("{}", failure.render(false)),
    }
}

/// A probe with all rights that the tests need, in a separate runtime. `binding` is added to `[bindings.b]`. The
/// default budget is large enough for a busy machine.
pub(crate) fn probe(binding: &str) -> (Scene, Arc<Loaded>) {
    let scene = Scene::new();
    let budget = if binding.contains("budget") { "" } else { "budget = { cpu = \"300ms\", wall = \"20s\" }" };
    let loaded = scene.bind("probe", &format!("grants.store = [\"space\"]\n{budget}\n{binding}"));
    (scene, loaded.expect("the probe loads"))
}

/// A snapshot without upstreams.
pub(crate) fn snapshot() -> Arc<Snapshot> {
    static EMPTY: LazyLock<Arc<Snapshot>> = LazyLock::new(|| snapshot_of(config("", "")));
    Arc::clone(&EMPTY)
}

pub(crate) fn snapshot_of(mut config: Config) -> Arc<Snapshot> {
    config.bindings.clear();
    Arc::new(Snapshot::build(Arc::new(config), Default::default(), None).expect("the snapshot can be built"))
}

/// A request with these headers.
pub(crate) fn request(headers: &[(&str, &str)]) -> Arc<RequestHead> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Arc::new(RequestHead {
        method: Method::POST,
        target: PathAndQuery::from_static("/users/7?a=b"),
        received_target: Some(PathAndQuery::from_static("/./users/7?a=b")),
        upstream_target: None,
        upstream_method: None,
        authority: "example.com:8080".into(),
        scheme: Scheme::Https,
        headers: map,
        trailers: None,
        client: Client {
            address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            peer: SocketAddr::from(([192, 0, 2, 7], 4000)),
            local: None,
            certificate: None,
            tls: None,
        },
        route: Some("users".into()),
        parameters: vec![("id".into(), "7".to_owned())],
        notes: None,
        settling: None,
        identity: None,
        request_id: "request-1".into(),
        trace: None,
    })
}

/// A response of the upstream.
pub(crate) fn response(headers: &[(&'static str, &'static str)]) -> Arc<ResponseHead> {
    let headers = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    Arc::new(ResponseHead {
        status: 200,
        headers,
        trailers: None,
        local: false,
        origin: ResponseOrigin::default(),
    })
}

/// Runs a call as a core does, on a current-thread runtime.
pub(crate) fn on_core<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Makes the probe do something, with the contract `rate-limiting`; returns its line of text.
pub(crate) async fn told(loaded: &Loaded, deed: &str, with: &str) -> Result<String, CallFailure> {
    let head = request(&[("x-do", deed), ("x-with", with), ("x-twice", "1"), ("x-twice", "2")]);
    let snapshot = snapshot();
    let buckets: Vec<Bucket> = loaded.draw(Call { head: &head, fetch: &snapshot }).await?.content;
    Ok(buckets.into_iter().next().expect("the probe draws on one bucket").key)
}

/// The same for callers that are not on a core.
pub(crate) fn tell(loaded: &Loaded, deed: &str, with: &str) -> Result<String, CallFailure> {
    on_core(told(loaded, deed, with))
}

pub(crate) fn authenticate(loaded: &Loaded, deed: &str) -> Result<Decision, CallFailure> {
    let (head, snapshot) = (request(&[("x-do", deed)]), snapshot());
    on_core(loaded.authenticate(Call { head: &head, fetch: &snapshot }, true))
}

pub(crate) fn transform(loaded: &Loaded, deed: &str) -> Result<RequestOutcome, CallFailure> {
    let (head, snapshot) = (request(&[("x-do", deed)]), snapshot());
    on_core(loaded.transform_request(Call { head: &head, fetch: &snapshot })).map(|answer| answer.content)
}

/// Waits until a condition holds, at most ten seconds.
#[expect(clippy::disallowed_methods, reason = "it looks again, with a deadline")]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within ten seconds");
}

/// Bytes of resident memory of this process.
pub(crate) fn resident() -> usize {
    let statistics = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statistics.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// A context or piece of a body.
pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}
