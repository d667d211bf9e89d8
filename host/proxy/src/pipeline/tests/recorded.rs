//! What the access log and the metrics record about an exchange that has ended.

use std::time::Instant;

use http_body::Body as _;
use serde_json::Value;
use witgate_config::model::LogTarget;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::record::{PluginCall, Received};
use witgate_telemetry::route_series::RouteSeries;

use super::*;

/// Telemetry with an access log in a temporary folder, and a way to read its lines.
struct Log {
    folder: tempfile::TempDir,
    telemetry: Arc<Telemetry>,
}

impl Log {
    fn open() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let telemetry = Telemetry::new();
        let mut config = testing::config();
        config.telemetry.access_log = Some(LogTarget::File(folder.path().join("access.log")));
        telemetry.follow(Arc::new(testing::snapshot(config)));
        Log { folder, telemetry }
    }

    fn exchange(&self, method: Method, target: &str) -> Exchange {
        let head = testing::head(method, target, &[("user-agent", "test/1"), ("authorization", "Bearer x")]);
        testing::exchange_with(&self.telemetry, testing::snapshot(testing::config()), head)
    }

    fn lines(&self) -> Vec<Value> {
        assert!(self.telemetry.flush(Duration::from_secs(10)));
        let text = std::fs::read_to_string(self.folder.path().join("access.log")).expect("the log");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn the_line_is_written_when_the_last_byte_is_through() {
    let log = Log::open();
    let mut exchange = log.exchange(Method::POST, "/users/7?token=secret");
    exchange.facts.upstream = Some("users".into());
    exchange.facts.record.endpoint = Some(("users".into(), "10.0.0.1:80".into()));
    exchange.facts.record.attempts = 1;
    let received = Received::default();
    received.add(5);
    exchange.facts.record.received = Some(received);
    let call = PluginCall {
        binding: "jwt".into(),
        phase: "authentication",
        begun: Instant::now(),
        time: Duration::from_micros(42),
        failure: None,
        decision: "accepted",
        attributes: Vec::new(),
        cost: None,
    };
    exchange.facts.record.plugins.push(call);
    let body = testing::chunks(vec![Ok(b"hello "), Ok(b"world")]);
    let response = testing::finished(exchange, Response::new(body));
    assert!(response.headers().contains_key("x-request-id"));
    assert!(log.lines().is_empty());
    testing::run(testing::bytes(response.into_body())).expect("a body");

    let [line] = &log.lines()[..] else { panic!("one line") };
    assert_eq!(line["status"], 200);
    assert_eq!(line["path"], "/users/7");
    assert_eq!(line["bytes_out"], 11);
    assert_eq!(line["bytes_in"], 5);
    assert_eq!(line["endpoint"], "10.0.0.1:80");
    assert_eq!(line["plugins"][0]["us"], 42);
    assert_eq!(line["user_agent"], "test/1");
    assert_eq!(line.get("ended"), None);
    let text = line.to_string();
    assert!(!text.contains("secret") && !text.contains("Bearer"), "{text}");
}

#[test]
fn a_client_that_goes_away_is_told_apart_from_a_body_that_failed() {
    let log = Log::open();
    drop(log.exchange(Method::GET, "/before"));

    let body = testing::chunks(vec![Ok(b"half"), Ok(b"never read")]);
    let mut response = testing::finished(log.exchange(Method::GET, "/during"), Response::new(body));
    testing::run(http_body_util::BodyExt::frame(response.body_mut())).expect("a frame").expect("bytes");
    drop(response);

    let body = testing::chunks(vec![Ok(b"half"), Err("reset")]);
    let response = testing::finished(log.exchange(Method::GET, "/cut"), Response::new(body));
    testing::run(testing::bytes(response.into_body())).expect_err("the body's failure");

    let lines = log.lines();
    let facts = |line: &Value| {
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        (word("path"), line["status"].as_u64().unwrap_or(0), word("ended"), word("fault"))
    };
    let facts: Vec<_> = lines.iter().map(facts).collect();
    let expected = [
        ("/before", 499, "client-gone", "client-gone"),
        ("/during", 200, "client-gone", ""),
        ("/cut", 200, "cut", "upstream-reset"),
    ];
    let expected =
        expected.map(|(path, status, ended, fault)| (path.into(), status, ended.into(), fault.into()));
    assert_eq!(facts, expected);
}

#[test]
fn a_fault_tells_the_client_what_it_may_know_and_the_log_the_rest() {
    let log = Log::open();
    let mut exchange = log.exchange(Method::GET, "/");
    let fault = Fault::new(FaultKind::UpstreamUnreachable).cause("10.0.0.1:80 refused");
    let response = exchange.facts.fault(fault);
    let response = testing::finished(exchange, response);
    assert_eq!(response.status(), 502);
    assert_eq!(response.headers()["proxy-status"], "witgate; error=connection_refused");
    let id = response.headers()["x-request-id"].clone();
    let body = testing::run(testing::bytes(response.into_body())).expect("a body");
    let document: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(document["code"], "upstream-unreachable");
    assert_eq!(document["instance"], id.to_str().expect("ASCII"));
    assert!(!document.to_string().contains("10.0.0.1"));
    let lines = log.lines();
    assert_eq!(lines[0]["cause"], "10.0.0.1:80 refused");
    assert_eq!(lines[0]["bytes_out"], body.len());
}

#[test]
fn head_has_the_length_but_not_the_body() {
    let log = Log::open();
    let response = testing::finished(
        log.exchange(Method::HEAD, "/"),
        Response::new(Body::from(Bytes::from_static(b"12345"))),
    );
    assert_eq!(response.headers()["content-length"], "5");
    assert!(response.body().is_end_stream());
    drop(response);
    assert_eq!(log.lines()[0].get("ended"), None);
}

#[test]
fn what_ended_is_in_the_metrics() {
    let log = Log::open();
    let mut exchange = log.exchange(Method::GET, "/");
    let route: Arc<str> = "a \"quoted\" route".into();
    exchange.series = Some(Arc::new(RouteSeries::new(route.clone())));
    Arc::make_mut(&mut exchange.facts.head).route = Some(route);
    exchange.count_in_flight();
    let during = log.telemetry.metrics().expose();
    let gauge = r#"witgate_requests_in_flight{listener="web",route="a \"quoted\" route"}"#;
    assert!(during.contains(&format!("{gauge} 1")), "{during}");
    drop(testing::finished(exchange, Response::new(Body::Empty)));
    let after = log.telemetry.metrics().expose();
    assert!(after.contains(&format!("{gauge} 0")), "{after}");
    let labels = r#"listener="web",route="a \"quoted\" route",upstream="-""#;
    let requests = format!("witgate_requests_total{{{labels},status=\"2xx\"}} 1");
    assert!(after.contains(&requests), "{after}");
    assert!(after.contains(&format!("witgate_request_duration_seconds_count{{{labels}}} 1")), "{after}");
    assert!(after.ends_with("# EOF\n"));
}
