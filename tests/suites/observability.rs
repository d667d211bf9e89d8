//! Access log, metrics and traces.

use http::Response;
use http_body_util::Full;
use serde_json::Value;
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually};

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
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("user-agent", "a \"quoted\" \u{e9} agent"), ("traceparent", parent)];
    client.get("/a?secret=1", &headers).await;
    client.get("/%zz", &[]).await;
    eventually("two lines", async || lines(&gateway).len() == 2).await;
    let lines = lines(&gateway);
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["route"], "all");
    assert_eq!(lines[0]["upstream"], "origin");
    assert_eq!(lines[0]["endpoint"], origin.address().to_string());
    assert!(lines[0]["request_id"].is_string());
    assert_eq!(lines[0]["trace_id"], "0af7651916cd43dd8448eb211c80319c", "the trace that came");
    assert!(lines[1].get("trace_id").is_none(), "none came, and none begins here");
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

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The trace headers of the last request that an origin received.
fn traced(origin: &Origin) -> Vec<(String, String)> {
    let seen = origin.last();
    let names = ["traceparent", "tracestate", "baggage"];
    let values = names.iter().flat_map(|name| seen.headers.get_all(*name).iter().map(|value| (*name, value)));
    values.map(|(name, value)| (name.to_owned(), value.to_str().expect("ASCII").to_owned())).collect()
}

#[tokio::test]
async fn without_an_exporter_a_trace_passes_untouched_and_none_begins() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let unsampled = SAMPLED.replace("-01", "-00");
    let came: [&[(&str, &str)]; 5] = [
        &[],
        &[
            ("traceparent", SAMPLED),
            ("tracestate", "vendor=1"),
            ("tracestate", "other=2"),
            ("baggage", "a=b"),
        ],
        &[("traceparent", &unsampled)],
        &[("traceparent", "garbage"), ("tracestate", "vendor=1")],
        &[("traceparent", SAMPLED), ("traceparent", &unsampled)],
    ];
    for mut client in [gateway.client().await, Client::http2(gateway.address()).await] {
        for headers in came {
            client.get("/", headers).await;
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(traced(&origin), headers);
        }
    }
}

/// A gateway that exports spans, and its collector.
async fn exporting(origin: &Origin, sample: &str) -> (Gateway, Origin) {
    let collector = Origin::with(|_| Response::new(Full::default())).await;
    let text = format!(
        "[telemetry.otlp]\nupstream = \"collector\"\nsample = {sample}\nservice_name = \"the-gateway\"\n{}\n\
         [upstreams.collector]\nendpoints = [\"{}\"]\n",
        to(origin),
        collector.address()
    );
    (Gateway::start(Scratch::new(), &text).await, collector)
}

/// Whether a batch that the collector received contains these bytes.
fn holds(collector: &Origin, bytes: &[u8]) -> bool {
    let in_body = |body: &[u8]| body.windows(bytes.len()).any(|window| window == bytes);
    collector.seen().iter().any(|seen| seen.uri.path() == "/v1/traces" && in_body(&seen.body))
}

/// The id of the parent span that an origin received.
fn parent_id(traceparent: &str) -> Vec<u8> {
    let digits = &traceparent[36..52];
    (0..16).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("digits")).collect()
}

#[tokio::test]
async fn with_an_exporter_what_is_told_as_a_sampled_parent_is_exported() {
    let origin = Origin::named("origin").await;
    let (gateway, collector) = exporting(&origin, "0.0").await;
    let mut client = gateway.client().await;
    client.get("/", &[("traceparent", SAMPLED), ("tracestate", "vendor=1")]).await;
    let sent = origin.last();
    assert_eq!(&sent.header("traceparent")[..35], &SAMPLED[..35], "the same trace");
    assert_ne!(&sent.header("traceparent")[36..52], &SAMPLED[36..52], "another span");
    assert!(sent.header("traceparent").ends_with("-01"));
    assert_eq!(sent.header("tracestate"), "vendor=1");
    let parent = parent_id(sent.header("traceparent"));
    eventually("the span that was told as parent", async || holds(&collector, &parent)).await;

    for invalid in ["00-00000000000000000000000000000000-b7ad6b7169203331-01", "ff-0-0-0", "garbage"] {
        client.get("/", &[("traceparent", invalid), ("tracestate", "vendor=1")]).await;
        let sent = origin.last();
        assert_eq!(sent.header("traceparent").len(), 55, "{invalid}: a new trace");
        assert!(sent.header("traceparent").ends_with("-00"), "`sample` decides about a new trace");
        assert_eq!(sent.header("tracestate"), "", "{invalid}: the state goes with the trace");
    }
}

#[tokio::test]
async fn spans_go_out_by_otlp() {
    let origin = Origin::named("origin").await;
    let (gateway, collector) = exporting(&origin, "1.0").await;
    gateway.client().await.get("/traced", &[]).await;
    assert!(origin.last().header("traceparent").ends_with("-01"), "every new trace is sampled");
    eventually("a batch of spans", async || {
        holds(&collector, b"the-gateway") && holds(&collector, b"/traced")
    })
    .await;
}

#[tokio::test]
async fn the_span_of_a_plugin_call_tells_what_it_decided_and_cost() {
    let origin = Origin::named("origin").await;
    let collector = Origin::with(|_| Response::new(Full::default())).await;
    let scratch = Scratch::new();
    scratch.install(&witgate_tests::plugin("headers"), "headers");
    let text = format!(
        "[telemetry.otlp]\nupstream = \"collector\"\nsample = 1.0\n[upstreams.collector]\nendpoints = [\"{}\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n[[routes]]\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"headers\"]\n\
         [plugins.headers]\n[bindings.headers]\nsettings = {{ request = {{ set = {{ x-a = \"1\" }} }} }}\n",
        collector.address(),
        origin.address()
    );
    let gateway = Gateway::start(scratch, &text).await;
    let mut client = gateway.client().await;
    eventually("a call has a span, and a remembered result is an event", async || {
        assert_eq!(client.get("/", &[]).await.status, 200);
        let told = ["witgate.decision", "changed", "witgate.cpu_time_us", "witgate.instance_wait_us"];
        told.iter().all(|part| holds(&collector, part.as_bytes()))
            && holds(&collector, b"plugin result remembered")
    })
    .await;
}
