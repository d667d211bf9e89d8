//! What the gateway tells: access log, metrics, traces.

use std::sync::{Arc, Mutex};

use http::Response;
use http_body_util::Full;
use serde_json::Value;
use witgate_tests::{Gateway, Origin, Scratch, eventually};

use crate::data_path::to;

/// The lines of the access log so far.
fn lines(gateway: &Gateway) -> Vec<Value> {
    std::fs::read_to_string(gateway.scratch.path().join("access.log"))
        .unwrap_or_default()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

#[tokio::test]
async fn every_request_is_one_line_of_json() {
    let origin = Origin::named("origin").await;
    let text = format!("[telemetry]\naccess_log = \"access.log\"\n{}", to(&origin));
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let mut client = gateway.client().await;
    client.get("/a?secret=1", &[("user-agent", "a \"quoted\" \u{e9} agent")]).await;
    client.get("/%zz", &[]).await;
    eventually("two lines", async || lines(&gateway).len() == 2).await;
    let lines = lines(&gateway);
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["route"], "all");
    assert_eq!(lines[0]["upstream"], "origin");
    assert_eq!(lines[0]["endpoint"], origin.address().to_string());
    assert!(lines[0]["request_id"].is_string() && lines[0]["trace_id"].is_string());
    assert!(!lines[0].to_string().contains("secret"), "queries stay out of the log: {}", lines[0]);
    assert_eq!(lines[1]["status"], 400);
    assert_eq!(lines[1]["fault"], "bad-path");
}

#[tokio::test]
async fn requests_are_counted_per_listener_route_and_upstream() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut client = gateway.client().await;
    for _ in 0..7 {
        client.get("/", &[]).await;
    }
    for label in ["listener=\"web\"", "route=\"all\"", "upstream=\"origin\""] {
        eventually(label, async || {
            let reply = gateway.admin_get("/metrics").await;
            reply.text().lines().any(|line| {
                !line.starts_with('#')
                    && line.contains("requests_total")
                    && line.contains(label)
                    && line.ends_with(" 7")
            })
        })
        .await;
    }
}

#[tokio::test]
async fn trace_context_is_taken_up_or_created_and_sent_on() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut client = gateway.client().await;
    let given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    client.get("/", &[("traceparent", given), ("tracestate", "vendor=1")]).await;
    let sent = origin.last();
    assert_eq!(&sent.header("traceparent")[..35], &given[..35], "the same trace");
    assert_ne!(&sent.header("traceparent")[36..52], &given[36..52], "another span");
    assert_eq!(sent.header("tracestate"), "vendor=1");
    for invalid in ["00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0-0-0", "garbage"] {
        client.get("/", &[("traceparent", invalid), ("tracestate", "vendor=1")]).await;
        let sent = origin.last();
        assert_eq!(sent.header("traceparent").len(), 55, "{invalid}: a new trace");
        assert_eq!(sent.header("tracestate"), "", "{invalid}: the state goes with the trace");
    }
}

#[tokio::test]
async fn spans_go_out_by_otlp() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&received);
    let collector = Origin::with(move |seen| {
        log.lock().expect("a lock").push((seen.uri.path().to_owned(), seen.body.clone()));
        Response::new(Full::default())
    })
    .await;
    let origin = Origin::named("origin").await;
    let text = format!(
        "[telemetry.otlp]\nupstream = \"collector\"\nsample = 1.0\nservice_name = \"the-gateway\"\n{}\n\
         [upstreams.collector]\nendpoints = [\"{}\"]\n",
        to(&origin),
        collector.address()
    );
    let gateway = Gateway::start(Scratch::new(), &text).await;
    gateway.client().await.get("/traced", &[]).await;
    eventually("a batch of spans", async || {
        received.lock().expect("a lock").iter().any(|(path, body)| {
            let holds = |text: &str| body.windows(text.len()).any(|window| window == text.as_bytes());
            path == "/v1/traces" && holds("the-gateway") && holds("/traced")
        })
    })
    .await;
}
