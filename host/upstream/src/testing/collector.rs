//! A collector of spans for tests, and telemetry that exports to it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::net::TcpListener;
use witgate_config::model::Otlp;
use witgate_telemetry::Telemetry;

use super::Snapshot;

/// What a collector received: path, content type, spans.
pub type Received = Arc<Mutex<Vec<(String, String, Vec<Span>)>>>;

/// A collector on its own thread that responds with these statuses, then always with 200.
pub fn collector(answers: Vec<u16>) -> (SocketAddr, Received) {
    let received = Received::default();
    let log = Arc::clone(&received);
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        crate::testing::run(async move {
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
pub fn exporting(collector: SocketAddr) -> Arc<Telemetry> {
    let text = format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [telemetry]\naccess_log = \"off\"\n[telemetry.otlp]\nupstream = \"collector\"\nsample = 1.0\nservice_name = \"the-gateway\"\n\
         [upstreams.collector]\nendpoints = [\"{collector}\"]\n"
    );
    let config =
        witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{:?}", failure.problems)).config;
    let snapshot = Snapshot::build(config, None);
    let telemetry = Telemetry::new();
    telemetry.follow(Arc::new(snapshot.unwrap_or_else(|problems| panic!("{problems:?}"))));
    telemetry
}

/// The settings of an exporter as in [`exporting`], with this sampling probability for new traces.
pub fn otlp(sample: f64) -> Otlp {
    Otlp {
        upstream: "collector".into(),
        path: "/v1/traces".into(),
        sample,
        service_name: "the-gateway".into(),
    }
}
