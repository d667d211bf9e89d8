//! Exports spans to a collector over real sockets.

use std::time::Instant;

use witgate_upstream::testing::collector::{collector, exporting, otlp};

use super::*;

/// The most spans that the exporter holds: those of its queue and of one batch.
const HELD: usize = 8192 + 1024;

/// Serves a request to its end.
fn serve(telemetry: &Arc<Telemetry>, path: &str, sampled: bool) {
    let flags = if sampled { "01" } else { "00" };
    let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    let mut head = testing::head(Method::GET, path, &[("traceparent", &parent)]);
    head.trace = telemetry.trace(&head.headers, Some(&otlp(1.0)));
    let exchange = testing::exchange_with(telemetry, testing::snapshot(testing::config()), head);
    drop(testing::finished(exchange, Response::new(Body::Empty)));
}

fn outcome(telemetry: &Telemetry, outcome: &str) -> u64 {
    let metrics = telemetry.metrics().expose();
    let name = format!("witgate_spans_total{{outcome=\"{outcome}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name)).expect("the metric");
    line.parse().expect("a number")
}

#[test]
fn sampled_requests_reach_the_collector_in_one_batch() {
    let (address, received) = collector(Vec::new());
    let telemetry = exporting(address);
    for path in ["/one", "/two"] {
        serve(&telemetry, path, true);
    }
    serve(&telemetry, "/unsampled", false);
    assert!(telemetry.flush(Duration::from_secs(20)));
    let received = received.lock().expect("a lock");
    let [(path, kind, spans)] = &received[..] else { panic!("one batch: {received:?}") };
    assert_eq!((path.as_str(), kind.as_str()), ("/v1/traces", "application/x-protobuf"));
    assert_eq!(spans.len(), 2);
    assert!(spans.iter().all(|span| span.parent_span_id[..2] == [0xb7, 0xad]));
    assert_eq!(outcome(&telemetry, "sent"), 2);
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not() {
    let (address, received) = collector(vec![503, 200, 400]);
    let telemetry = exporting(address);
    serve(&telemetry, "/one", true);
    assert!(telemetry.flush(Duration::from_secs(20)));
    assert_eq!(received.lock().expect("a lock").len(), 2);
    assert_eq!(outcome(&telemetry, "sent"), 1);
    serve(&telemetry, "/two", true);
    assert!(telemetry.flush(Duration::from_secs(20)));
    assert_eq!(received.lock().expect("a lock").len(), 3);
    assert_eq!(outcome(&telemetry, "send-failed"), 1);
}

/// A collector that accepts connections and never responds delays the exporter only.
#[test]
fn a_collector_that_hangs_makes_no_request_wait() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let telemetry = exporting(listener.local_addr().expect("an address"));
    let begun = Instant::now();
    for _ in 0..HELD + 100 {
        serve(&telemetry, "/", true);
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "requests waited for the collector");
    assert!(outcome(&telemetry, "queue-full") >= 100);
}
