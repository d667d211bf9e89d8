//! The trace headers that endpoints receive, and the spans that a collector receives.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use witgate_config::model::{self, Hedge, HedgeAfter, UpstreamProtocol};
use witgate_exchange::arrival::{Ingress, Source};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::Fetch as _;
use witgate_telemetry::{Telemetry, request_guard};

use super::mirroring::{copied, mirrored};
use super::origin::{Origin, Visitor};
use super::{Forwarding, HELLO, eventually, exchange, forward, settings, snapshot};
use crate::connection::OwnCore;
use crate::testing::Snapshot;
use crate::testing::collector::{Received, collector, exporting, otlp};
use crate::testing::{self, run};

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// Telemetry that exports to a collector of its own.
struct Exporting {
    telemetry: Arc<Telemetry>,
    received: Received,
}

impl Exporting {
    fn start() -> Self {
        let (address, received) = collector(Vec::new());
        Exporting { telemetry: exporting(address), received }
    }

    /// A request that takes part in a trace.
    fn exchange(&self, snapshot: &Arc<Snapshot>, headers: &[(&str, &str)], sample: f64) -> Forwarding {
        self.take_part(exchange(snapshot, Method::GET, headers), sample)
    }

    fn take_part(&self, mut exchange: Forwarding, sample: f64) -> Forwarding {
        let head = Arc::make_mut(&mut exchange.facts.head);
        head.trace = self.telemetry.trace(&head.headers, Some(&otlp(sample)));
        exchange
    }

    /// Every span that the collector has received.
    fn spans(&self) -> Vec<Span> {
        assert!(self.telemetry.flush(Duration::from_secs(20)));
        let received = self.received.lock().expect("a lock");
        received.iter().flat_map(|(_, _, spans)| spans.clone()).collect()
    }
}

/// Forwards the request, reads the response, and ends the exchange.
async fn through(mut exchange: Forwarding) {
    let answer =
        forward(&mut exchange, Body::Empty).await.unwrap_or_else(|fault| exchange.facts.fault(fault));
    let ingress = Rc::new(Ingress::new(Source::Test, "web".into(), None, testing::limits()));
    let answer =
        request_guard::finish(&mut exchange.facts, None, &Rc::new(Telemetry::new()), &ingress, answer);
    let _ = testing::bytes(answer.into_body()).await;
}

/// The value of a header in a received head. `None` if it is missing.
fn value<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The `traceparent` of every request that an origin has received.
fn told(origin: &Origin) -> Vec<String> {
    origin.requests().iter().filter_map(|request| value(request, "traceparent")).map(str::to_owned).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every parent that was sent is a client span that was exported, each a different one, and all belong to one
/// server span.
fn assert_exported(told: &[String], spans: &[Span]) {
    let (clients, servers): (Vec<_>, Vec<_>) = spans.iter().partition(|span| span.kind() == SpanKind::Client);
    let known: BTreeSet<String> = clients.iter().map(|span| hexadecimal(&span.span_id)).collect();
    let parents: BTreeSet<String> = told.iter().map(|text| text[36..52].to_owned()).collect();
    assert_eq!(parents.len(), told.len(), "each attempt has a span of its own: {told:?}");
    assert_eq!(parents, known, "what was told is what was exported");
    assert!(told.iter().all(|text| text.ends_with("-01")), "{told:?}");
    assert_eq!(servers.len(), 1, "one request");
    for client in clients {
        assert_eq!(client.parent_span_id, servers[0].span_id);
        assert_eq!(hexadecimal(&client.trace_id), told[0][3..35]);
        assert!(client.end_time_unix_nano >= client.start_time_unix_nano);
        assert!(client.start_time_unix_nano >= servers[0].start_time_unix_nano);
    }
}

fn addresses(origins: &[&Origin]) -> Vec<std::net::SocketAddr> {
    origins.iter().map(|origin| origin.address).collect()
}

#[test]
fn without_an_exporter_what_came_is_passed_on_untouched_and_nothing_is_added() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let came: [&[(&str, &str)]; 6] = [
            &[],
            &[("traceparent", SAMPLED), ("tracestate", "a=1"), ("tracestate", "b=2"), ("baggage", "k=v")],
            &[("traceparent", UNSAMPLED)],
            &[("traceparent", "GARBAGE"), ("tracestate", "=,=")],
            &[("traceparent", SAMPLED), ("traceparent", UNSAMPLED)],
            &[("tracestate", "a=1"), ("baggage", "a=1"), ("baggage", "b=2")],
        ];
        for headers in came {
            through(exchange(&snapshot, Method::GET, headers)).await;
            let request = origin.requests().pop().expect("it was asked");
            let names = ["traceparent", "tracestate", "baggage"];
            let of_trace = |line: &&str| names.iter().any(|name| line.starts_with(name));
            let sent: Vec<&str> = request.lines().filter(of_trace).collect();
            let expected: Vec<String> =
                headers.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            assert_eq!(sent, expected);
        }
    });
}

#[test]
fn a_retry_is_a_span_of_its_own() {
    run(async {
        let exporting = Exporting::start();
        let bad = Origin::answering(BAD);
        let mut settings = settings(&[bad.address]);
        settings.retry.attempts = 3;
        settings.retry.statuses = vec![503];
        let snapshot = snapshot(settings);
        through(exporting.exchange(&snapshot, &[("traceparent", SAMPLED), ("tracestate", "a=1")], 0.0)).await;
        assert!(bad.requests().iter().all(|request| value(request, "tracestate") == Some("a=1")));
        let (told, spans) = (told(&bad), exporting.spans());
        assert_eq!(told.len(), 3);
        assert_exported(&told, &spans);
        let failed = |span: &&Span| {
            let status = span.status.as_ref().map(|status| status.code);
            span.kind() == SpanKind::Client && status == Some(SpanStatus::Error.into())
        };
        assert_eq!(spans.iter().filter(failed).count(), 3);
    });
}

#[test]
fn a_request_that_is_never_answered_leaves_its_span_all_the_same() {
    run(async {
        let exporting = Exporting::start();
        let silent = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
        });
        let snapshot = snapshot(settings(&[silent.address]));
        through(exporting.exchange(&snapshot, &[], 1.0)).await;
        assert_exported(&told(&silent), &exporting.spans());
    });
}

#[test]
fn a_request_that_was_never_sent_leaves_none() {
    run(async {
        let exporting = Exporting::start();
        let gone = Origin::answering(HELLO);
        let address = gone.address;
        drop(gone);
        let snapshot = snapshot(settings(&[address]));
        through(exporting.exchange(&snapshot, &[], 1.0)).await;
        let spans = exporting.spans();
        assert!(spans.iter().all(|span| span.kind() == SpanKind::Server), "{spans:?}");
    });
}

#[test]
fn a_hedge_and_the_attempt_that_was_given_up_are_spans_of_their_own() {
    run(async {
        let exporting = Exporting::start();
        let slow = || {
            Origin::start(async |mut visitor: Visitor| {
                visitor.request().await;
                tokio::time::sleep(Duration::from_millis(200)).await;
                visitor.send(HELLO).await;
            })
        };
        let (one, other) = (slow(), slow());
        let hedge = Hedge { after: HedgeAfter::Delay(Duration::from_millis(20)), max_extra: 1 };
        let settings = model::Upstream { hedge: Some(hedge), ..settings(&addresses(&[&one, &other])) };
        through(exporting.exchange(&snapshot(settings), &[("traceparent", SAMPLED)], 0.0)).await;
        let told = [told(&one), told(&other)].concat();
        assert_eq!(told.len(), 2);
        let spans = exporting.spans();
        assert_exported(&told, &spans);
        assert!(format!("{spans:?}").contains("abandoned"), "the slower one is told");
    });
}

#[test]
fn a_mirrored_copy_is_a_span_of_its_own() {
    run(async {
        let exporting = Exporting::start();
        let (origin, shadow) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let snapshot = mirrored(&origin, &shadow);
        through(exporting.take_part(copied(&snapshot, Method::GET), 1.0)).await;
        let answered = || {
            let mut copies = snapshot.upstreams["shadow"].tries().copies();
            copies.any(|(outcome, count)| outcome == "answered" && count == 1)
        };
        eventually("the copy is answered", answered).await;
        assert_exported(&[told(&origin), told(&shadow)].concat(), &exporting.spans());
    });
}

#[test]
fn what_a_plugin_asks_for_is_a_span_of_its_own() {
    run(async {
        let exporting = Exporting::start();
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let exchange = exporting.exchange(&snapshot, &[], 1.0);
        let ask = Request::get("/keys").header("traceparent", "its own").body(bytes::Bytes::new()).unwrap();
        let trace = exchange.facts.head.trace.clone();
        snapshot.fetch("origin", ask, trace.as_ref(), None, 100).await.unwrap();
        through(exchange).await;
        assert_eq!(told(&origin).len(), 2);
        assert_exported(&told(&origin), &exporting.spans());
    });
}

#[test]
fn an_endpoint_that_speaks_http2_is_told_the_same() {
    run(async {
        let exporting = Exporting::start();
        let seen = Arc::new(Mutex::new(Vec::<HeaderMap>::new()));
        let log = Arc::clone(&seen);
        let origin = Origin::start(async move |visitor: Visitor| {
            let log = Arc::clone(&log);
            let service = service_fn(move |request: Request<Incoming>| {
                log.lock().expect("a lock").push(request.headers().clone());
                async { Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from("hello"))) }
            });
            let builder = hyper::server::conn::http2::Builder::new(OwnCore);
            let _ = builder.serve_connection(TokioIo::new(visitor.stream), service).await;
        });
        let settings = model::Upstream { protocol: UpstreamProtocol::Http2, ..settings(&[origin.address]) };
        let snapshot = snapshot(settings);
        let given = [("traceparent", SAMPLED), ("tracestate", "a=1"), ("baggage", "k=v")];
        through(exchange(&snapshot, Method::GET, &given)).await;
        through(exchange(&snapshot, Method::GET, &[])).await;
        through(exporting.exchange(&snapshot, &given, 0.0)).await;
        let seen = seen.lock().expect("a lock").clone();
        let [untouched, none, traced] = &seen[..] else { panic!("three requests: {seen:?}") };
        for (name, value) in given {
            assert_eq!(untouched.get(name).map(HeaderValue::as_bytes), Some(value.as_bytes()));
            assert!(!none.contains_key(name), "{name} was added");
        }
        assert_eq!(
            (&traced["tracestate"], &traced["baggage"]),
            (&untouched["tracestate"], &untouched["baggage"])
        );
        let told = traced["traceparent"].to_str().expect("ASCII").to_owned();
        assert_exported(&[told], &exporting.spans());
    });
}

#[test]
fn what_is_not_sampled_is_told_so_and_exported_by_nobody() {
    run(async {
        let exporting = Exporting::start();
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        through(exporting.exchange(&snapshot, &[("traceparent", UNSAMPLED)], 1.0)).await;
        through(exporting.exchange(&snapshot, &[], 0.0)).await;
        let told = told(&origin);
        assert_eq!(told.len(), 2);
        assert!(told.iter().all(|text| text.ends_with("-00")), "{told:?}");
        assert_eq!(told[0][..36], UNSAMPLED[..36], "the trace that came");
        assert_ne!(told[0][36..52], UNSAMPLED[36..52], "with a span of this hop");
        assert!(exporting.spans().is_empty());
    });
}

#[test]
fn with_an_exporter_a_malformed_parent_begins_a_new_trace_without_its_state() {
    run(async {
        let exporting = Exporting::start();
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let upper = SAMPLED.to_uppercase();
        let longer = format!("{SAMPLED}-x");
        let malformed: [&[&str]; 5] =
            [&["ff-0-0-0"], &[&upper], &[&longer], &[SAMPLED, SAMPLED], &["00-0-0-01"]];
        for parents in malformed {
            let mut headers: Vec<_> = parents.iter().map(|parent| ("traceparent", *parent)).collect();
            headers.push(("tracestate", "a=1"));
            through(exporting.exchange(&snapshot, &headers, 0.0)).await;
            let request = origin.requests().pop().expect("it was asked");
            let told = value(&request, "traceparent").expect("a trace begins");
            assert!(told.len() == 55 && told.ends_with("-00") && told[3..35] != SAMPLED[3..35], "{told}");
            assert_eq!(value(&request, "tracestate"), None);
        }
    });
}

/// The span of an attempt has the status of the endpoint's response. A 4xx is an error of that span, but not of
/// the server span.
#[test]
fn a_span_tells_what_came_of_it() {
    run(async {
        let exporting = Exporting::start();
        let missing = Origin::answering("HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
        let snapshot = snapshot(settings(&[missing.address]));
        through(exporting.exchange(&snapshot, &[], 1.0)).await;
        let spans = exporting.spans();
        let client = spans.iter().find(|span| span.kind() == SpanKind::Client).expect("it was asked");
        let server = spans.iter().find(|span| span.kind() == SpanKind::Server).expect("a request");
        assert!(client.status.is_some() && server.status.is_none(), "4xx is an error of the client's side");
        let text = format!("{client:?}");
        assert!(text.contains("http.response.status_code") && text.contains(&missing.address.to_string()));
        assert!(text.contains(StatusCode::NOT_FOUND.as_str()), "{text}");
    });
}

#[test]
fn attempts_that_the_deadline_ended_or_that_failed_by_their_grpc_status_are_errors() {
    run(async {
        let silent = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let failing = Origin::answering("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n");
        let fine = Origin::answering("HTTP/1.1 200 OK\r\ngrpc-status: 0\r\ncontent-length: 0\r\n\r\n");
        for (origin, error) in
            [(&silent, Some("request-timeout")), (&failing, Some("grpc-status-14")), (&fine, None)]
        {
            let exporting = Exporting::start();
            let snapshot = snapshot(settings(&[origin.address]));
            let mut request = exporting.exchange(&snapshot, &[], 1.0);
            request.facts.timeout = Some(Duration::from_millis(200));
            through(request).await;
            let spans = exporting.spans();
            let client = spans.iter().find(|span| span.kind() == SpanKind::Client).expect("it was asked");
            let code = client.status.as_ref().map(|status| status.code);
            assert_eq!(code, error.map(|_| SpanStatus::Error.into()), "{client:?}");
            assert!(error.is_none_or(|error| format!("{client:?}").contains(error)), "{client:?}");
        }
    });
}
