//! The shared cache in front of real origins: who shares a response, purges, reloads, an origin that ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use witgate_tests::{Client, Gateway, Origin, Reply, Scratch, eventually, plugin};

/// An origin whose responses have these headers, and the number of the request as their body.
async fn origin(headers: &'static [(&'static str, &'static str)]) -> Origin {
    let count = AtomicUsize::new(0);
    Origin::with(move |_| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let mut response = Response::builder();
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        response.body(Full::new(Bytes::from(format!("answer {number}")))).expect("a response")
    })
    .await
}

/// A gateway in front of it, with these settings of the cache and of its route.
fn config(address: std::net::SocketAddr, cache: &str, more: &str) -> String {
    format!(
        "[telemetry]\naccess_log = \"access.log\"\n[[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n\
         cache = {{ {cache} }}\n{more}\n[upstreams.origin]\nendpoints = [\"{address}\"]\nretry = {{ attempts = 1 }}\n"
    )
}

fn told(reply: &Reply) -> String {
    reply.header("cache-status").to_owned()
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60"), ("surrogate-key", "greeting")];

#[tokio::test]
async fn hits_are_told_counted_and_logged_and_survive_a_reload() {
    let origin = origin(FRESH).await;
    let first = config(origin.address(), "", "");
    let gateway = Gateway::start(Scratch::new(), &first).await;
    let mut client = gateway.client().await;
    assert_eq!(told(&client.get("/a", &[]).await), "witgate; fwd=uri-miss; stored");
    let second = client.get("/a", &[]).await;
    assert!(told(&second).starts_with("witgate; hit; ttl="), "{}", told(&second));
    assert_eq!((second.text(), second.header("content-length")), ("answer 0", "8"));
    gateway.reconfigure(&Gateway::completed(&first.replace("attempts = 1", "attempts = 2"))).await;
    let mut other = Client::http2(gateway.address()).await;
    assert_eq!(
        other.get("/a", &[]).await.text(),
        "answer 0",
        "the cache is kept, and shared by versions of HTTP"
    );
    assert_eq!(gateway.metric("witgate_cache_requests_total", &["result=\"hit\""]).await, 2.0);
    assert!(gateway.metric("witgate_cache_bytes", &["kind=\"stored\""]).await > 500.0);
    eventually("the access log", async || {
        let log = std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
        log.matches("\"cache\":\"hit\"").count() == 2 && log.matches("\"cache\":\"miss\"").count() == 1
    })
    .await;
}

#[tokio::test]
async fn a_thousand_requests_at_once_are_one() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let origin = Origin::serving(move |_| {
        let count = Arc::clone(&count);
        async move {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(500)).await;
            let body = http_body_util::BodyExt::boxed_unsync(Full::new(Bytes::from_static(b"one")));
            Response::builder().header("cache-control", "max-age=60").body(body).expect("a response")
        }
    })
    .await;
    let gateway =
        Gateway::start(Scratch::new(), &config(origin.address(), "", "[gateway]\nworkers = 4\n")).await;
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let address = gateway.address();
        all.spawn(async move {
            let mut client = Client::http2(address).await;
            let mut clients = vec![];
            for _ in 0..20 {
                clients.push(client.get("/", &[]).await.text().to_owned());
            }
            clients
        });
    }
    let got: Vec<String> = all.join_all().await.into_iter().flatten().collect();
    assert!(got.len() == 1000 && got.iter().all(|body| body == "one"));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(gateway.metric("witgate_cache_requests_total", &["result=\"collapsed\""]).await, 49.0);
}

const KEYS: &str = "settings = { keys = [\
    { name = \"partner\", sha256 = \"d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7\" }] }";

#[tokio::test]
async fn an_identity_and_a_stranger_share_nothing_and_responses_are_transformed() {
    let origin = origin(FRESH).await;
    let scratch = Scratch::new();
    scratch.install(&plugin("api-key"), "api_key");
    scratch.install(&plugin("headers"), "headers");
    let plugins = "auth = \"optional\"\nplugins = [\"key\", \"mark\"]\n[plugins.api-key]\nfile = \"api_key.wasm\"\n\
                   [plugins.headers]\n[bindings.mark]\nplugin = \"headers\"\n\
                   settings = { response = { set = { x-mark = \"yes\" } } }\n[bindings.key]\nplugin = \"api-key\"\n";
    let gateway = Gateway::start(
        scratch,
        &config(origin.address(), "share = \"identity\"", &format!("{plugins}{KEYS}")),
    )
    .await;
    let mut client = gateway.client().await;
    let key = [("x-api-key", "open-sesame")];
    for (headers, body) in [(&key[..], "answer 0"), (&[], "answer 1"), (&key, "answer 0"), (&[], "answer 1")]
    {
        let reply = client.get("/", headers).await;
        assert_eq!((reply.text(), reply.header("x-mark")), (body, "yes"));
    }
    assert_eq!(client.get("/", &[("x-api-key", "wrong")]).await.status, 401, "no hit without authentication");
}

#[tokio::test]
async fn a_purge_is_a_write_with_a_line_in_the_log() {
    let origin = origin(FRESH).await;
    let gateway = Gateway::start(Scratch::new(), &config(origin.address(), "", "")).await;
    let mut client = gateway.client().await;
    client.get("/a", &[]).await;
    let shown = gateway.admin_get("/cache?all=true").await.json();
    assert_eq!(shown["responses"][0]["tags"][0], "greeting");
    assert!(shown["responses"][0]["url"].as_str().is_some_and(|url| url.ends_with("/a")), "{shown}");
    assert_eq!(gateway.admin_get("/cache/purge?all=true").await.status, 405, "a write is a POST");
    for (query, status) in [("", 400), ("?tag=", 400), ("?url=/a", 400), ("?tag=greeting", 200)] {
        assert_eq!(gateway.admin_post(&format!("/cache/purge{query}")).await.status, status, "{query}");
    }
    assert_eq!(client.get("/a", &[]).await.text(), "answer 1");
    assert_eq!(gateway.admin_post("/upstreams/origin/endpoints/nowhere:1?weight=1").await.status, 404);
    eventually("a line for each write", async || {
        let log = gateway.output();
        let writes: Vec<&str> = log.lines().filter(|line| line.contains("admin write")).collect();
        writes.len() == 6
            && writes.iter().any(|line| line.contains("/cache/purge?tag=greeting") && line.contains("200"))
            && writes.iter().any(|line| line.contains("weight=1") && line.contains("404"))
            && writes.iter().all(|line| line.contains("by the admin socket"))
    })
    .await;
}

#[tokio::test]
async fn what_is_stored_is_used_while_the_origin_is_gone() {
    let origin = origin(&[("cache-control", "max-age=0")]).await;
    let cache = "stale_if_error = \"10m\"";
    let gateway = Gateway::start(Scratch::new(), &config(origin.address(), cache, "")).await;
    let mut client = gateway.client().await;
    client.get("/a", &[]).await;
    drop(origin);
    eventually("a stale response", async || {
        let reply = client.get("/a", &[]).await;
        reply.status == 200
            && told(&reply).starts_with("witgate; hit; ttl=-")
            && told(&reply).contains("detail=")
    })
    .await;
    assert_eq!(client.get("/b", &[]).await.status, 502);
}

#[tokio::test]
async fn reading_can_be_closed_by_a_token() {
    let token = "0123456789abcdef0123456789abcdef";
    let toml = format!(
        "[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"admin.sock\"\nread_token = \"{token}\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n[[routes]]\npath = \"/*\"\nrespond = {{ status = 200 }}\n"
    );
    let gateway = Gateway::start_exactly(Scratch::new(), &toml).await;
    let status = gateway.admin_get("/status").await.json();
    let address = status["admin"].as_str().and_then(|address| address.parse().ok());
    let address: std::net::SocketAddr = address.expect("the admin listener");
    let mut admin = Client::http1(address).await;
    let (host, bearer) = (address.to_string(), format!("Bearer {token}"));
    assert_eq!(admin.get("/metrics", &[("host", &host)]).await.status, 401);
    assert_eq!(admin.get("/healthz", &[("host", &host)]).await.status, 200);
    let shown = admin.get("/metrics", &[("host", &host), ("authorization", &bearer)]).await;
    assert_eq!(shown.status, 200);
}
