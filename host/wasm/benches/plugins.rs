//! The cost of a call: every contract with the first-party plugin that implements it, called as the pipeline does,
//! and the chain of four plugins. The components are compiled from source.
//!
//! `cargo bench -p witgate-wasm` runs all of them, `... -- chain` those with the word in their names.
//!
//! On a busy machine, a real-time scheduling class (`chrt -f 10`) makes the figures steady.
#![allow(missing_docs, reason = "criterion generates functions")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../tests/border/scene.rs"]
#[allow(dead_code, reason = "shared with the tests of the border, which use all of it")]
mod scene;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use witgate_exchange::contracts::{
    Authentication as _, Call, CallFailure, CallResult, Decision, RateLimiting as _, ResponseHead,
    Routing as _, Transformation as _,
};
use witgate_exchange::head::RequestHead;
use witgate_exchange::identity::Identity;
use witgate_proxy::snapshot::Snapshot;
use witgate_wasm::Loaded;

use scene::{Scene, config, request, response, snapshot};

const SECRET: &str = "the-secret-of-the-bench-32-bytes";

const JWT: &str = r#"
grants = { fetch = [], store = [] }
[bindings.b.settings]
keys = [{ alg = "HS256", secret = "the-secret-of-the-bench-32-bytes" }]
"#;
const RATE_LIMIT: &str =
    r#"settings.policies = [{ name = "bench", by = "client", limit = 1000000000, window = "1s" }]"#;
const CANARY: &str = r#"
grants = { route_to = ["origin"] }
settings = { upstream = "origin", header = { name = "x-canary", value = "always" } }
"#;
const HEADERS: &str = r#"
[bindings.b.settings]
request = { set = { "x-caller" = "{identity.subject}" } }
response = { set = { "x-served-by" = "witgate" } }
"#;

/// A first-party plugin in service.
fn plugin(scene: &Scene, name: &str, binding: &str) -> Arc<Loaded> {
    let bytes = std::fs::read(witgate_tests::plugin(name)).unwrap();
    match scene.prepare(&bytes, &config(binding, "[upstreams.origin]\nendpoints = [\"127.0.0.1:9\"]")) {
        Ok(loaded) => loaded,
        Err(refusal) => panic!("{name}: {refusal}"),
    }
}

/// A token like those of an issuer.
fn token() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = format!("{{\"sub\":\"user-4711\",\"exp\":{},\"role\":\"reader\"}}", now + 86_400);
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let signed = format!("{}.{}", encode(b"{\"alg\":\"HS256\",\"typ\":\"JWT\"}"), encode(claims.as_bytes()));
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    format!("{signed}.{}", encode(hmac::sign(&key, signed.as_bytes()).as_ref()))
}

/// A request with the headers of a browser, a token and an identity.
fn head() -> Arc<RequestHead> {
    let authorization = format!("Bearer {}", token());
    let mut head = request(&[
        ("authorization", &authorization),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.5"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("cache-control", "no-cache"),
    ]);
    let identity = Identity { subject: "user-4711".to_owned(), claims: Vec::new(), binding: "jwt".into() };
    Arc::get_mut(&mut head).unwrap().identity = Some(Arc::new(identity));
    head
}

/// The result of a call that does not wait.
fn now<T>(outcome: CallResult<'_, T>) -> T {
    let answer: Result<T, CallFailure> = outcome.now_or_never().expect("the call does not wait");
    answer.unwrap_or_else(|failure| panic!("the call failed: {}", failure.as_str()))
}

/// The chain that is measured: four plugins, five calls.
struct Chain {
    jwt: Arc<Loaded>,
    rate_limit: Arc<Loaded>,
    canary: Arc<Loaded>,
    headers: Arc<Loaded>,
    head: Arc<RequestHead>,
    response: Arc<ResponseHead>,
    snapshot: Arc<Snapshot>,
}

impl Chain {
    fn new(scene: &Scene) -> Self {
        Chain {
            jwt: plugin(scene, "jwt", JWT),
            rate_limit: plugin(scene, "rate-limit", RATE_LIMIT),
            canary: plugin(scene, "canary", CANARY),
            headers: plugin(scene, "headers", HEADERS),
            head: head(),
            response: response(&[("content-type", "text/plain"), ("server", "origin")]),
            snapshot: snapshot(),
        }
    }

    fn call(&self) -> Call<'_> {
        Call { head: &self.head, fetch: &self.snapshot }
    }

    fn authenticate(&self) {
        assert!(matches!(now(self.jwt.authenticate(self.call(), false)), Decision::Accepted(_)));
    }

    fn draw(&self) {
        assert_eq!(now(self.rate_limit.draw(self.call())).content.len(), 1);
    }

    fn route(&self) {
        black_box(now(self.canary.route(self.call())));
    }

    fn on_request(&self) {
        black_box(now(self.headers.transform_request(self.call())));
    }

    fn on_response(&self) {
        let context = Bytes::new();
        black_box(now(self.headers.transform_response(self.call(), Arc::clone(&self.response), context)));
    }
}

fn contracts(criterion: &mut Criterion) {
    let scene = Scene::new();
    let chain = Chain::new(&scene);
    let idle = scene.bind("idle", "").unwrap();
    criterion.bench_function("call/idle", |bencher| {
        bencher.iter(|| black_box(now(idle.transform_request(chain.call()))));
    });
    criterion.bench_function("call/jwt authenticate", |bencher| bencher.iter(|| chain.authenticate()));
    criterion.bench_function("call/rate-limit draw", |bencher| bencher.iter(|| chain.draw()));
    criterion.bench_function("call/canary route", |bencher| bencher.iter(|| chain.route()));
    criterion.bench_function("call/headers on-request", |bencher| bencher.iter(|| chain.on_request()));
    criterion.bench_function("call/headers on-response", |bencher| bencher.iter(|| chain.on_response()));
    criterion.bench_function("chain", |bencher| {
        bencher.iter(|| {
            chain.authenticate();
            chain.draw();
            chain.route();
            chain.on_request();
            chain.on_response();
        });
    });
}

/// A new instance for each call, which shows the cost of isolating calls from each other. Used instances are
/// dropped by another thread, whose work is not measured; from time to time the bench waits for that thread, so
/// that there is room for new ones.
#[expect(clippy::disallowed_methods, reason = "another thread is to come to rest")]
fn fresh(criterion: &mut Criterion) {
    let scene = Scene::new();
    let fresh = scene.bind("idle", "instances.reuse = \"fresh\"").unwrap();
    let (head, snapshot) = (head(), snapshot());
    let call = Call { head: &head, fetch: &snapshot };
    let mut made = 0_u32;
    criterion.bench_function("pool/fresh instance", |bencher| {
        let room = || {
            made += 1;
            if made.is_multiple_of(64) {
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        bencher.iter_batched(
            room,
            |()| black_box(now(fresh.transform_request(call))),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, contracts, fresh);
criterion_main!(benches);
