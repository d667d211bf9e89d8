//! What log, metrics and clients are told of requests that end badly.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Client, Gateway, Origin, Reply, Scratch, eventually};

/// The lines of the access log so far.
fn lines(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The only line of the access log.
async fn line(gateway: &Gateway) -> Value {
    eventually("a line in the access log", async || lines(gateway).len() == 1).await;
    lines(gateway).remove(0)
}

/// An origin that reads requests and never responds, except to those for `/starts`, which get the beginning of a body.
async fn silent() -> Origin {
    Origin::serving(|request| async move {
        if request.uri().path() != "/starts" {
            std::future::pending::<()>().await;
        }
        let first = futures_util::stream::once(async { Ok(http_body::Frame::data(Bytes::from("first"))) });
        let body = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        Response::new(http_body_util::StreamBody::new(body).boxed_unsync())
    })
    .await
}

/// A configuration with an access log and one route to an origin; `upstream` and `route` are added to their tables.
fn config(origin: &Origin, route: &str, upstream: &str) -> String {
    format!(
        "[telemetry]\naccess_log = \"access.log\"\n[gateway]\ndrain_timeout = \"300ms\"\ndrain_idle = \"50ms\"\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n{route}\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n{upstream}\n",
        origin.address()
    )
}

async fn gateway(origin: &Origin, route: &str, upstream: &str) -> Gateway {
    Gateway::start(Scratch::new(), &config(origin, route, upstream)).await
}

/// Waits until requests have been sent to the origin.
async fn sent_upstream(gateway: &Gateway, requests: f64) {
    eventually("requests at the origin", async || {
        gateway.metric("witgate_upstream_active_requests", &[]).await == requests
    })
    .await;
}

#[tokio::test]
async fn the_line_of_a_client_that_left_names_endpoint_attempts_and_time() {
    let origin = silent().await;
    let gateway = gateway(&origin, "", "").await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    sent_upstream(&gateway, 1.0).await;
    drop(stream);
    let line = line(&gateway).await;
    assert_eq!((&line["status"], &line["fault"]), (&499.into(), &"client-gone".into()));
    assert_eq!(line["endpoint"], origin.address().to_string());
    assert_eq!(line["attempts"], 1);
    assert!(line["upstream_ms"].as_f64().is_some_and(|time| time > 0.0), "{line}");
}

#[tokio::test]
async fn so_does_the_line_of_an_http2_stream_that_was_reset() {
    let origin = silent().await;
    let gateway = gateway(&origin, "", "").await;
    let mut client = Client::http2(gateway.address()).await;
    let asked = tokio::time::timeout(Duration::from_secs(60), client.get("/wait", &[]));
    let waited = async {
        sent_upstream(&gateway, 1.0).await;
    };
    tokio::select! {
        _ = asked => panic!("there was a response"),
        () = waited => {}
    }
    let line = line(&gateway).await;
    assert_eq!((&line["fault"], &line["attempts"]), (&"client-gone".into(), &1.into()));
    assert_eq!(line["endpoint"], origin.address().to_string());
}

/// Sends a gRPC call with these messages.
async fn call(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, String> {
    let mut client = Client::http2(gateway.address()).await;
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    client.try_send(request.body(Full::new(body.into())).expect("a request")).await
}

/// A message of gRPC with so many bytes.
fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend(u32::try_from(length).expect("a small message").to_be_bytes());
    bytes.resize(5 + length, b'x');
    bytes
}

#[tokio::test]
async fn a_grpc_call_whose_deadline_passed_is_no_success_in_log_and_metrics() {
    let origin = silent().await;
    let gateway = gateway(&origin, "", "protocol = \"http2\"").await;
    let reply = call(&gateway, "/a.B/C", &[("grpc-timeout", "50m")], message(3)).await.expect("a response");
    assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "4"));
    let line = line(&gateway).await;
    assert_eq!((&line["status"], &line["grpc_status"]), (&504.into(), &4.into()));
    assert_eq!(line["fault"], "request-timeout");
    assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("50ms")), "{line}");
    assert_eq!(line["endpoint"], origin.address().to_string());
    let counted =
        async |class: &str| gateway.metric("witgate_requests_total", &["route=\"all\"", class]).await;
    assert_eq!(counted("status=\"5xx\"").await, 1.0);
    assert_eq!(counted("status=\"2xx\"").await, 0.0);
}

#[tokio::test]
async fn the_grpc_status_of_an_upstream_is_in_the_log() {
    let origin = Origin::serving(|request| async move {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("14"));
        if request.uri().path() == "/a.B/Only" {
            let response =
                Response::builder().header("content-type", "application/grpc").header("grpc-status", "5");
            return response
                .body(Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync())
                .expect("fixed");
        }
        let frames =
            [Ok(http_body::Frame::data(Bytes::from(message(1)))), Ok(http_body::Frame::trailers(trailers))];
        let body = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        Response::builder().header("content-type", "application/grpc").body(body).expect("fixed")
    })
    .await;
    let gateway = gateway(&origin, "", "protocol = \"http2\"").await;
    for (path, status) in [("/a.B/Only", 5), ("/a.B/Stream", 14)] {
        let count = lines(&gateway).len();
        call(&gateway, path, &[], message(1)).await.expect("a response");
        eventually("a line", async || lines(&gateway).len() > count).await;
        let line = lines(&gateway).pop().expect("a line");
        assert_eq!((&line["status"], &line["grpc_status"]), (&200.into(), &status.into()), "{path}");
    }
}

#[tokio::test]
async fn own_timeouts_end_a_grpc_call_as_deadline_exceeded_so_that_it_is_not_run_again() {
    let origin = silent().await;
    for (settings, setting) in [
        ("first_byte_timeout = \"50ms\"", "`first_byte_timeout`"),
        (
            "retry = { per_try_timeout = \"50ms\", non_idempotent = true, attempts = 1 }",
            "`retry.per_try_timeout`",
        ),
    ] {
        let gateway = gateway(&origin, "", &format!("protocol = \"http2\"\n{settings}")).await;
        let reply = call(&gateway, "/a.B/C", &[], message(3)).await.expect("a response");
        assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "4"), "{settings}");
        let line = line(&gateway).await;
        assert_eq!((&line["status"], &line["fault"]), (&504.into(), &"first-byte-timeout".into()));
        let cause = line["cause"].as_str().expect("a cause");
        assert!(cause.contains(setting) && cause.contains("50ms"), "{cause}");
        // A client that speaks no gRPC gets the status of HTTP.
        let mut client = gateway.client().await;
        assert_eq!(client.get("/", &[]).await.status, 504);
    }
    // What is wrong with the response of an endpoint is no reason to run the call again, either.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let garbage = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").await;
        }
    });
    let text = config(&origin, "", "").replace(&origin.address().to_string(), &address.to_string());
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let reply = call(&gateway, "/a.B/C", &[], message(3)).await.expect("a response");
    assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "13"));
    garbage.abort();
}

/// An origin that responds to a gRPC call with the number of bytes that it received.
async fn counting() -> Origin {
    Origin::with(|seen| {
        let response =
            Response::builder().header("content-type", "application/grpc").header("grpc-status", "0");
        let counted = seen.body.len().to_string();
        response.header("x-received", counted).body(Full::new(Bytes::new())).expect("a fixed head")
    })
    .await
}

#[tokio::test]
async fn the_body_limit_counts_each_message_of_a_grpc_call() {
    let origin = counting().await;
    let gateway = gateway(&origin, "body_limit = \"64KiB\"", "protocol = \"http2\"").await;
    let stream = message(1000).repeat(1000);
    let reply = call(&gateway, "/a.B/C", &[], stream.clone()).await.expect("a response");
    assert_eq!(reply.header("x-received"), stream.len().to_string());
    let reply = call(&gateway, "/a.B/C", &[], message(64 * 1024)).await.expect("a response");
    assert_eq!(reply.header("x-received"), (5 + 64 * 1024).to_string());
    let large = [message(1000), message(64 * 1024 + 1)].concat();
    let reply = call(&gateway, "/a.B/C", &[], large).await.expect("a response");
    assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "8"), "RESOURCE_EXHAUSTED");
    let parameters = [("content-type", "application/grpc+proto; x=y")];
    let mut client = Client::http2(gateway.address()).await;
    let reply = client.post("/a.B/C", &parameters, stream.clone()).await;
    assert_eq!(reply.header("x-received"), stream.len().to_string());
}

#[tokio::test]
async fn a_content_type_alone_lifts_no_limit() {
    let origin = counting().await;
    let limit = "body_limit = \"64KiB\"";
    let http2 = gateway(&origin, limit, "protocol = \"http2\"").await;
    let large = vec![b'x'; 100 * 1024];
    let refused = call(&http2, "/a.B/C", &[], large.clone()).await.expect("a response");
    assert_eq!((refused.status.as_u16(), refused.header("grpc-status")), (200, "3"), "INVALID_ARGUMENT");
    assert_eq!(refused.header("grpc-message"), "the body is not a sequence of gRPC messages");
    let cut_off = call(&http2, "/a.B/C", &[], message(3000)[..2000].to_vec()).await.expect("a response");
    assert_eq!(cut_off.header("grpc-status"), "3", "the last message is not complete");
    let messages = message(1000).repeat(100);
    let mut client = http2.client().await;
    let over_http1 = client.post("/a.B/C", &[("content-type", "application/grpc")], messages.clone()).await;
    assert_eq!(over_http1.status, 413, "gRPC is not spoken over HTTP/1.1");
    assert_eq!(over_http1.json()["code"], "body-too-large");
    for kind in ["application/grpcx", "application/json"] {
        let mut client = Client::http2(http2.address()).await;
        let reply = client.post("/a.B/C", &[("content-type", kind)], messages.clone()).await;
        assert_eq!(reply.status, 413, "{kind}");
    }
    let mut client = Client::http2(http2.address()).await;
    let web = client.post("/a.B/C", &[("content-type", "application/grpc-web")], messages.clone()).await;
    assert_eq!(
        (web.status.as_u16(), web.header("grpc-status")),
        (200, "8"),
        "gRPC-Web is told in its own form"
    );
    let mut client = Client::http2(http2.address()).await;
    let put = Request::put("/a.B/C").header("content-type", "application/grpc");
    let put = client.send(put.body(Full::new(messages.clone().into())).expect("a request")).await;
    assert_eq!(put.status, 413, "a call of gRPC is a POST");
    let http1 = gateway(&origin, limit, "").await;
    let to_http1 = call(&http1, "/a.B/C", &[], messages).await.expect("a response");
    assert_eq!(to_http1.header("grpc-status"), "8", "the upstream cannot speak gRPC");
    assert!(
        origin.seen().iter().all(|seen| seen.body.len() <= 64 * 1024),
        "nothing over the limit got through"
    );
}

#[tokio::test]
async fn a_filter_limits_each_message_too() {
    let origin = counting().await;
    let filter = "[[routes.filters]]\nkind = \"body-limit\"\nmax = \"2KiB\"";
    let gateway = gateway(&origin, filter, "protocol = \"http2\"").await;
    let stream = message(1000).repeat(10);
    let reply = call(&gateway, "/a.B/C", &[], stream.clone()).await.expect("a response");
    assert_eq!(reply.header("x-received"), stream.len().to_string());
    let reply = call(&gateway, "/a.B/C", &[], message(2049)).await.expect("a response");
    assert_eq!(reply.header("grpc-status"), "8");
}

#[tokio::test]
async fn what_the_filter_fault_does_can_be_told_from_a_failure() {
    let origin = Origin::named("origin").await;
    let filter = "[[routes.filters]]\nkind = \"fault\"\nwhen = { header = \"x-fault\" }\n\
                  delay = { time = \"20ms\" }\nabort = { status = 503 }";
    let gateway = gateway(&origin, filter, "").await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    assert_eq!(client.get("/", &[("x-fault", "1")]).await.status, 503);
    eventually("two lines", async || lines(&gateway).len() == 2).await;
    let lines = lines(&gateway);
    assert!(lines[0].get("injected").is_none(), "{}", lines[0]);
    assert_eq!(lines[1]["injected"], serde_json::json!(["delay", "abort"]));
    for kind in ["kind=\"delay\"", "kind=\"abort\""] {
        assert_eq!(
            gateway.metric("witgate_injected_faults_total", &["route=\"all\"", kind]).await,
            1.0,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn an_injected_delay_that_runs_into_the_deadline_is_told_as_injected() {
    let origin = Origin::named("origin").await;
    let filter = "timeout = \"50ms\"\n[[routes.filters]]\nkind = \"fault\"\ndelay = { time = \"10s\" }";
    let gateway = gateway(&origin, filter, "").await;
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 504);
    let line = line(&gateway).await;
    assert_eq!(
        (&line["fault"], &line["injected"]),
        (&"request-timeout".into(), &serde_json::json!(["delay"]))
    );
}

#[tokio::test]
async fn requests_that_a_drain_cuts_are_not_the_clients_doing() {
    for http2 in [false, true] {
        let origin = silent().await;
        let mut gateway = gateway(&origin, "", "").await;
        let mut asked = Vec::new();
        for path in ["/wait", "/starts"] {
            let mut client = match http2 {
                true => Client::http2(gateway.address()).await,
                false => gateway.client().await,
            };
            asked.push(tokio::spawn(async move {
                let request = Request::get(path).body(Full::new(Bytes::new())).expect("a request");
                client.try_send(request).await
            }));
        }
        sent_upstream(&gateway, 2.0).await;
        gateway.signal(Signal::TERM);
        gateway.exit().await;
        for client in asked {
            assert!(client.await.expect("no panic").is_err(), "it was cut");
        }
        let lines = lines(&gateway);
        assert_eq!(lines.len(), 2, "{lines:?}");
        for line in &lines {
            assert_eq!(line["fault"], "draining", "{line}");
            assert_eq!(line["ended"], "cut", "{line}");
            assert!(line["cause"].as_str().is_some_and(|cause| cause.contains("drain_timeout")), "{line}");
            let status = if line["path"] == "/wait" { 503 } else { 200 };
            assert_eq!(line["status"], status, "{line}");
        }
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let origin = Origin::named("origin").await;
    let gateway = gateway(&origin, "", "").await;
    gateway.client().await.get("/", &[]).await;
    let read = async |accept: &[(&str, &str)]| {
        let mut admin =
            Client::unix(&gateway.scratch.path().join("admin.sock")).await.expect("the admin socket");
        let reply = admin.get("/metrics", accept).await;
        (reply.header("content-type").to_owned(), reply.text().to_owned())
    };
    for accept in [
        &[][..],
        &[("accept", "*/*")],
        &[("accept", "application/openmetrics-text;version=1.0.0,text/plain")],
    ] {
        let (kind, text) = read(accept).await;
        assert!(kind.starts_with("application/openmetrics-text"), "{accept:?}: {kind}");
        assert!(text.ends_with("# EOF\n") && text.contains("# TYPE witgate_requests counter\n"));
    }
    for accept in
        ["text/plain", "text/plain;version=0.0.4;q=0.5, application/openmetrics-text;q=0.4", "text/html"]
    {
        let (kind, text) = read(&[("accept", accept)]).await;
        assert_eq!(kind, "text/plain; version=0.0.4; charset=utf-8", "{accept}");
        assert!(!text.contains("# EOF") && text.contains("# TYPE witgate_requests_total counter\n"));
        assert!(text.contains("# HELP witgate_requests_total "));
        assert!(text.contains("witgate_requests_total{"));
    }
}

#[tokio::test]
async fn series_of_routes_and_upstreams_that_are_gone_are_removed() {
    let origin = Origin::named("origin").await;
    let named = |number: usize| {
        format!(
            "[[routes]]\nname = \"route-{number}\"\npath = \"/*\"\nupstream = \"upstream-{number}\"\n\
             [upstreams.upstream-{number}]\nendpoints = [\"{}\"]\n",
            origin.address()
        )
    };
    let gateway = Gateway::start(Scratch::new(), &named(0)).await;
    for number in 0..4 {
        if number > 0 {
            gateway.reconfigure(&Gateway::completed(&named(number))).await;
        }
        gateway.client().await.get("/", &[]).await;
    }
    let metrics = gateway.admin_get("/metrics").await;
    let gone: Vec<_> = (0..3)
        .flat_map(|number| [format!("\"route-{number}\""), format!("\"upstream-{number}\"")])
        .filter(|name| metrics.text().contains(name.as_str()))
        .collect();
    assert!(gone.is_empty(), "{gone:?} are still there");
    assert_eq!(gateway.metric("witgate_requests_total", &["route=\"route-3\"", "status=\"2xx\""]).await, 1.0);
}

#[tokio::test]
async fn a_response_over_http2_that_is_being_sent_is_no_idle_connection() {
    let origin = Origin::serving(|_| async {
        let pieces = futures_util::stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_millis(50)).await;
            (sent < 30).then(|| (Ok(http_body::Frame::data(Bytes::from("piece"))), sent + 1))
        });
        Response::new(http_body_util::StreamBody::new(pieces).boxed_unsync())
    })
    .await;
    let text = config(&origin, "", "")
        .replace("[gateway]\n", "[gateway]\nlimits = { keep_alive = \"100ms\", body_timeout = \"100ms\" }\n");
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let reply = Client::http2(gateway.address()).await.get("/", &[]).await;
    assert_eq!(reply.body.len(), 150, "every piece arrives, though it takes longer than the timeouts");
}

#[tokio::test]
async fn a_connection_that_is_cut_for_an_unfinished_header_block_says_so_in_every_line() {
    let origin = silent().await;
    let text = config(&origin, "", "")
        .replace("[gateway]\n", "[gateway]\nlimits = { header_timeout = \"300ms\" }\n");
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    // `GET http://a/` in HPACK, on stream 1, and the beginning of the same on stream 3.
    let block = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    let headers = |flags, id| [&[0, 0, 6, 1, flags, 0, 0, 0, id][..], &block].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(&[&preface[..], &headers(5, 1)].concat()).await.expect("sent");
    sent_upstream(&gateway, 1.0).await;
    stream.write_all(&headers(1, 3)).await.expect("sent");
    eventually("two lines", async || lines(&gateway).len() == 2).await;
    let lines = lines(&gateway);
    assert_eq!(lines[0]["path"], "/", "{}", lines[0]);
    for line in &lines {
        assert_eq!(line["fault"], "header-timeout", "{line}");
        assert_eq!(line["ended"], "cut", "{line}");
        assert_eq!(line["status"], 408, "{line}");
    }
    assert!(lines[0]["cause"].as_str().is_some_and(|cause| cause.contains("header block")), "{}", lines[0]);
    assert_eq!(gateway.metric("witgate_faults_total", &["code=\"header-timeout\""]).await, 2.0);
}

#[tokio::test]
async fn the_filter_of_the_access_log_holds_for_requests_that_cannot_be_read() {
    let origin = Origin::named("origin").await;
    let own = "[[routes.filters]]\nkind = \"access-log\"\nenabled = true";
    let text = config(&origin, own, "")
        .replace("[gateway]\n", "[gateway]\nfilters = [{ kind = \"access-log\", enabled = false }]\n");
    let gateway = Gateway::start(Scratch::new(), &text).await;
    for unreadable in [
        "GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        "GET /\r\n\r\n",
        "GET /../x HTTP/1.1\r\nhost: a\r\n\r\n",
    ] {
        let answer =
            witgate_tests::raw(gateway.address(), unreadable.as_bytes(), Duration::from_secs(5)).await;
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{unreadable}");
    }
    assert_eq!(gateway.client().await.get("/read", &[]).await.status, 200);
    eventually("a line", async || !lines(&gateway).is_empty()).await;
    let lines = lines(&gateway);
    assert!(lines.len() == 1 && lines[0]["path"] == "/read", "{lines:?}");
}
