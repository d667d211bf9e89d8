//! Guests that misbehave in every phase, under load on another route. Nothing is lost on that route, the bad
//! request gets the declared outcome of the binding, and the next good request is served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, guest};

const PHASES: [&str; 7] =
    ["authentication", "rate_limiting", "routing", "request", "request_body", "response", "response_body"];

/// The phases of version 0.2.0, which another guest has.
const ADDITIONS: [&str; 4] = ["gate", "authentication_by_body", "refusal_by_body", "routing_by_body"];

fn config(origin: &Origin, phase: &str, deed: &str, on_failure: &str) -> String {
    format!(
        r#"
[plugins.misbehaving]
file = "{file}.wasm"
unstable = {unstable}

[bindings.misbehaving]
on_failure = "{on_failure}"
settings = {{ phase = "{phase}", deed = "{deed}" }}
grants.contracts = [
    "gate", "authentication", "authentication-by-body", "rate-limiting", "refusal-by-body", "routing", "routing-by-body",
    "transformation",
]
quarantine = "off"
revert = {{ calls = 0 }}

[[routes]]
path = "/bad"
plugins = ["misbehaving"]
upstream = "origin"

[[routes]]
path = "/good"
upstream = "origin"

[upstreams.origin]
endpoints = ["{}"]
"#,
        origin.address(),
        file = if ADDITIONS.contains(&phase) { "misbehaving_additions" } else { "misbehaving" },
        unstable = ADDITIONS.contains(&phase),
    )
}

async fn start(origin: &Origin, phase: &str, deed: &str, on_failure: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("misbehaving"), "misbehaving");
    scratch.install(&guest("misbehaving-additions"), "misbehaving_additions");
    Gateway::start(scratch, &config(origin, phase, deed, on_failure)).await
}

/// Requests `/good` repeatedly until told to stop. Every response must be complete.
struct Load {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Load {
    fn on(gateway: &Gateway) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, address) = (Arc::clone(&stop), gateway.address());
        let task = tokio::spawn(async move {
            let mut client = Client::http1(address).await;
            let mut done = 0;
            while !flag.load(Ordering::Relaxed) {
                let reply = client.get("/good", &[]).await;
                assert_eq!((reply.status.as_u16(), reply.text()), (200, "origin GET /good"));
                done += 1;
            }
            done
        });
        Load { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("nothing was lost elsewhere")
    }
}

/// One bad request on a connection of its own, because its outcome may be a reset.
async fn bad(gateway: &Gateway) -> Result<u16, String> {
    let request = http::Request::post("/bad").body(http_body_util::Full::from("a body")).expect("a request");
    Ok(gateway.client().await.try_send(request).await?.status.as_u16())
}

#[tokio::test]
async fn every_deed_in_every_phase_ends_with_the_declared_outcome() {
    let origin = Origin::named("origin").await;
    // One gateway is reconfigured by hot reload through all phases and misbehaviours.
    let gateway = start(&origin, "request", "trap", "deny").await;
    let load = Load::on(&gateway);
    for deed in ["trap", "loop", "memory", "host_calls", "huge_output", "control_bytes", "forbidden_header"] {
        for phase in PHASES.into_iter().chain(ADDITIONS) {
            // Body calls return no headers, and routing and rate limiting return no values that could be huge.
            let by_header = ["control_bytes", "forbidden_header"].contains(&deed);
            if by_header && (["request_body", "response_body", "rate_limiting"].contains(&phase)) {
                continue;
            }
            let whole = Gateway::completed(&config(&origin, phase, deed, "deny"));
            if std::fs::read_to_string(gateway.scratch.config()).expect("the configuration") != whole {
                gateway.reconfigure(&whole).await;
            }
            let begun = Instant::now();
            let outcome = bad(&gateway).await;
            assert!(begun.elapsed() < Duration::from_secs(5), "{phase}/{deed} took {:?}", begun.elapsed());
            assert!(
                matches!(outcome, Ok(503)) || (phase == "response_body" && outcome.is_err()),
                "{phase}/{deed} ended with {outcome:?}"
            );
        }
    }
    assert!(load.end().await > 100, "there was load");
}

/// Sends a request without a body and without headers about one; returns the status of the response.
async fn bodiless(gateway: &Gateway, method: &str) -> String {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("the listener accepts");
    let request = format!("{method} /bad HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("a request fits");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("a response");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_request_without_a_body_meets_a_plugin_of_bodies() {
    let origin = Origin::with(|_| http::Response::default()).await;
    let gateway = start(&origin, "request_body", "trap", "deny").await;
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] {
        assert_eq!(bodiless(&gateway, method).await, "503", "{method}");
    }
    let mut http2 = Client::http2(gateway.address()).await;
    assert_eq!(http2.get("/bad", &[]).await.status, 503);
    assert_eq!(http2.post("/bad", &[], "").await.status, 503);
    assert!(origin.seen().is_empty(), "nothing passed");

    // A body that a plugin adds to a request without one has a `Content-Length`.
    gateway
        .reconfigure(&Gateway::completed(&config(&origin, "request_body", "forbidden_header", "deny")))
        .await;
    assert_eq!(bodiless(&gateway, "POST").await, "200");
    let seen = origin.last();
    assert!(!seen.body.is_empty());
    assert_eq!(seen.header("content-length"), seen.body.len().to_string());
    assert!(!seen.headers.contains_key("transfer-encoding"));

    // The other direction: a response without content.
    gateway.reconfigure(&Gateway::completed(&config(&origin, "response_body", "trap", "deny"))).await;
    assert_eq!(bodiless(&gateway, "GET").await, "503");
    assert_eq!(bodiless(&gateway, "HEAD").await, "200", "it has no body");
}

#[tokio::test]
async fn a_skipped_failure_leaves_the_request_as_it_was() {
    let origin = Origin::named("origin").await;
    for phase in ["rate_limiting", "routing", "request", "request_body", "response", "response_body"] {
        let gateway = start(&origin, phase, "trap", "skip").await;
        let reply = gateway.client().await.post("/bad", &[], "a body").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "origin POST /bad"), "{phase}");
        assert_eq!(origin.last().body, "a body", "{phase}");
    }
    // A skipped authentication counts as "not mine": the caller stays unknown, and the route fails closed.
    let gateway = start(&origin, "authentication", "trap", "skip").await;
    assert_eq!(gateway.client().await.get("/bad", &[]).await.status, 401);
}

#[tokio::test]
async fn a_log_storm_is_cut_and_counted() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "request", "log_storm", "deny").await;
    let load = Load::on(&gateway);
    let _ = bad(&gateway).await;
    assert!(load.end().await > 0);
    let lines = gateway.output().lines().filter(|line| line.contains("line ")).count();
    assert!(lines <= 1000, "{lines} lines of a storm were written");
    assert!(gateway.metric("witgate_plugin_log_lines_dropped_total", &["misbehaving"]).await > 0.0);
}

/// A gateway with default settings except these, whose plugin is called for every path and misbehaves at `/bad`.
async fn start_by_default(origin: &Origin, deed: &str, more: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("misbehaving"), "misbehaving");
    let text = config(origin, "request", deed, "deny")
        .replace("quarantine = \"off\"\nrevert = { calls = 0 }", more)
        .replace("path = \"/bad\"", "path = \"/*\"");
    Gateway::start(scratch, &text).await
}

/// The quarantine of the only binding, as `status` reports it.
async fn quarantine(gateway: &Gateway) -> serde_json::Value {
    gateway.admin_get("/status").await.json()["bindings"][0]["quarantine"].clone()
}

#[tokio::test]
async fn failures_are_counted_by_kind_and_a_plugin_that_always_fails_is_put_in_quarantine() {
    let origin = Origin::named("origin").await;
    let gateway = start_by_default(&origin, "trap", "quarantine.rest = \"60s\"").await;
    for _ in 0..20 {
        assert_eq!(bad(&gateway).await, Ok(503));
    }
    let traps = async || gateway.metric("witgate_plugin_failures_total", &["misbehaving", "\"trap\""]).await;
    assert_eq!(traps().await, 20.0);
    for _ in 0..5 {
        assert_eq!(bad(&gateway).await, Ok(503));
    }
    assert_eq!(traps().await, 20.0, "a binding in quarantine is not called");
    assert!(gateway.metric("witgate_plugin_failures_total", &["misbehaving", "quarantined"]).await >= 5.0);
    let told = quarantine(&gateway).await;
    assert_eq!(told["cause"], "20 of 20 calls within 10s failed", "{told}");
    assert_eq!(told["probing"], false);
    assert!(told["since"].as_u64().is_some_and(|since| since > 1_700_000_000), "{told}");
    eventually("the log to tell of it", async || {
        let lines = gateway.output();
        lines.lines().any(|line| {
            ["warn", "misbehaving", "in quarantine", "20 of 20 calls"].iter().all(|part| line.contains(part))
        })
    })
    .await;
}

#[tokio::test]
async fn a_probe_that_is_answered_ends_a_quarantine() {
    let origin = Origin::named("origin").await;
    let gateway = start_by_default(&origin, "trap", "quarantine.rest = \"1s\"").await;
    for _ in 0..20 {
        assert_eq!(bad(&gateway).await, Ok(503));
    }
    let mut client = gateway.client().await;
    eventually("a probe", async || client.get("/fine", &[]).await.status == 200).await;
    assert!(quarantine(&gateway).await.is_null());
    for _ in 0..100 {
        assert_eq!(client.get("/fine", &[]).await.status, 200);
    }
    eventually("the log to tell of it", async || gateway.output().contains("left quarantine")).await;
}

#[tokio::test]
async fn traps_of_one_request_in_ten_cost_one_request_in_ten() {
    let origin = Origin::named("origin").await;
    let gateway = start_by_default(&origin, "trap", "").await;
    let mut client = gateway.client().await;
    for number in 1..=2000 {
        let (path, status) = if number % 10 == 0 { ("/bad", 503) } else { ("/fine", 200) };
        assert_eq!(client.get(path, &[]).await.status, status, "request {number}");
    }
    assert!(quarantine(&gateway).await.is_null());
}

#[tokio::test]
async fn loops_of_one_request_in_ten_are_put_in_quarantine_once_they_burn_their_share_of_a_core() {
    let origin = Origin::named("origin").await;
    let gateway = start_by_default(&origin, "loop", "quarantine = { share = 0.05, rest = \"60s\" }").await;
    let mut client = gateway.client().await;
    let mut loops = 0;
    while quarantine(&gateway).await.is_null() {
        loops += 1;
        assert!(loops < 500, "500 loops have burnt 5 seconds, ten times the share");
        for number in 0..10 {
            client.get(if number == 0 { "/bad" } else { "/fine" }, &[]).await;
        }
    }
    let told = quarantine(&gateway).await;
    assert!(told["cause"].as_str().is_some_and(|cause| cause.contains("of CPU time within 10s")), "{told}");
    assert!(loops > 10, "half a second takes more than {loops} loops");
}

#[tokio::test]
async fn a_client_that_vanishes_in_any_phase_harms_nobody() {
    let origin = Origin::named("origin").await;
    for phase in PHASES {
        let gateway = start(&origin, phase, "loop", "deny").await;
        let load = Load::on(&gateway);
        for _ in 0..5 {
            let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
            stream
                .write_all(b"POST /bad HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\na body")
                .await
                .expect("sent");
            stream.set_zero_linger().expect("an open socket");
            drop(stream);
        }
        eventually("every bad request to be over", async || {
            gateway.metric("witgate_requests_in_flight", &[]).await <= 1.0
        })
        .await;
        assert_eq!(gateway.client().await.get("/good", &[]).await.status, 200, "{phase}");
        assert!(load.end().await > 0);
    }
}
