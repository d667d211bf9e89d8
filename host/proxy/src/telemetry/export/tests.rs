//! Spans on their way to a collector: a real one, over a socket.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

use http::{Method, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;

use super::*;
use crate::body::Body;
use crate::telemetry::Telemetry;
use crate::testing;

/// What a collector was sent: path, content type, spans.
type Received = Arc<Mutex<Vec<(String, String, Vec<Span>)>>>;

/// A collector on a thread of its own that gives these answers, then 200 for ever.
fn collector(answers: Vec<u16>) -> (SocketAddr, Received) {
    let received = Received::default();
    let log = Arc::clone(&received);
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        testing::run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            sender.send(listener.local_addr().expect("an address")).expect("the test waits");
            let answers = Arc::new(Mutex::new(answers.into_iter()));
            while let Ok((stream, _)) = listener.accept().await {
                let (log, answers) = (Arc::clone(&log), Arc::clone(&answers));
                let service =
                    service_fn(move |request| collect(request, Arc::clone(&log), Arc::clone(&answers)));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::task::spawn_local(http.serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    (address.recv().expect("an address"), received)
}

async fn collect(
    request: Request<Incoming>,
    log: Received,
    answers: Arc<Mutex<std::vec::IntoIter<u16>>>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let batch = ExportTraceServiceRequest::decode(body).expect("protobuf");
    let scopes = batch.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
    let spans = scopes.flat_map(|scope| scope.spans).collect();
    let kind = parts.headers[CONTENT_TYPE].to_str().expect("ASCII").to_owned();
    log.lock().expect("a lock").push((parts.uri.path().to_owned(), kind, spans));
    let mut response = Response::new(Empty::new());
    let status = answers.lock().expect("a lock").next().unwrap_or(200);
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    Ok(response)
}

/// Telemetry that exports to a collector.
fn exporting(collector: SocketAddr) -> Arc<Telemetry> {
    let text = format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [telemetry]\naccess_log = \"off\"\n[telemetry.otlp]\nupstream = \"collector\"\nsample = 1.0\nservice_name = \"the-gateway\"\n\
         [upstreams.collector]\nendpoints = [\"{collector}\"]\n"
    );
    let config =
        witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{:?}", failure.problems)).config;
    let snapshot = Snapshot::build(Arc::new(config), Default::default(), None);
    let telemetry = Telemetry::new();
    telemetry.follow(Arc::new(snapshot.unwrap_or_else(|problems| panic!("{problems:?}"))));
    telemetry
}

/// A request that is served and over.
fn serve(telemetry: &Arc<Telemetry>, path: &str, sampled: bool) {
    let flags = if sampled { "01" } else { "00" };
    let parent = format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-{flags}");
    let head = testing::head(Method::GET, path, &[("traceparent", &parent)]);
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

/// A collector that accepts and never answers holds the exporter up, and nobody else.
#[test]
fn a_collector_that_hangs_makes_no_request_wait() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let telemetry = exporting(listener.local_addr().expect("an address"));
    let begun = Instant::now();
    for _ in 0..QUEUE + BATCH + 100 {
        serve(&telemetry, "/", true);
    }
    assert!(begun.elapsed() < TIMEOUT, "requests waited for the collector");
    assert!(outcome(&telemetry, "queue-full") >= 100);
}
