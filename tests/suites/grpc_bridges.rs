//! gRPC-Web and Connect, translated to gRPC by the gateway.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Client, Gateway, Origin, OriginBody, Scratch, eventually, witgate};

/// A message or, with this first byte, another frame.
fn frame(first: u8, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    frame.extend(u32::try_from(bytes.len()).expect("short").to_be_bytes());
    frame.extend(bytes);
    frame
}

fn trailers(status: &'static str) -> Frame<Bytes> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    trailers.insert("grpc-message", HeaderValue::from_static("100%25%FF"));
    trailers.insert("x-cost", HeaderValue::from_static("3"));
    Frame::trailers(trailers)
}

/// Echoes the body of a call, and what of its head matters, by its method.
async fn service() -> Origin {
    Origin::serving(|request| async move {
        let (parts, body) = request.into_parts();
        let header = |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().expect("ASCII"));
        let head = format!(
            "{} {} {} {} {}",
            parts.method,
            header("content-type"),
            header("grpc-timeout"),
            header("grpc-encoding"),
            header("connect-protocol-version")
        );
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let response =
            Response::builder().header("content-type", "application/grpc+proto").header("x-head", head);
        let frames: Vec<Frame<Bytes>> = match parts.uri.path() {
            "/a.B/Echo" | "/a.B/GetEcho" => vec![Frame::data(body), trailers("0")],
            "/a.B/Many" => vec![Frame::data(body.clone()), Frame::data(body), trailers("14")],
            "/a.B/Cut" => vec![Frame::data(body)],
            "/a.B/Both" => {
                let response = response.header("grpc-status", "5").header("grpc-message", "in%20both");
                return respond(response, vec![trailers("0")]);
            }
            "/a.B/Flag" => vec![Frame::data(frame(1, b"zip").into()), trailers("0")],
            "/a.B/Zip" => {
                return respond(
                    response.header("grpc-encoding", "gzip"),
                    vec![Frame::data(frame(1, b"zip").into()), trailers("0")],
                );
            }
            "/a.B/Huge" => vec![Frame::data(Bytes::from_static(b"\0\xff\xff\xff\xffabc")), trailers("0")],
            "/a.B/Html" => {
                let html = Response::builder().status(503).header("content-type", "text/html");
                return respond(html, vec![Frame::data(Bytes::from_static(b"<p>"))]);
            }
            "/a.B/Slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                vec![trailers("0")]
            }
            _ => {
                // Status { code: 5, details: [Any { "type.googleapis.com/a.Detail", "x" }] }
                let details = "CAUaIwocdHlwZS5nb29nbGVhcGlzLmNvbS9hLkRldGFpbBIDCgF4";
                let response = response.header("grpc-status", "5").header("grpc-message", "no%20such");
                return respond(response.header("grpc-status-details-bin", details), Vec::new());
            }
        };
        respond(response, frames)
    })
    .await
}

fn respond(head: http::response::Builder, frames: Vec<Frame<Bytes>>) -> Response<OriginBody> {
    let frames = futures_util::stream::iter(frames.into_iter().map(Ok));
    head.body(StreamBody::new(frames).boxed_unsync()).expect("a fixed head")
}

async fn gateway(origin: &Origin) -> Gateway {
    let text = format!(
        "[telemetry]\naccess_log = \"access.log\"\n[[routes]]\nname = \"all\"\nupstream = \"service\"\nbody_limit = \"64KiB\"\n\
         grpc_bridge = [\"grpc-web\", \"connect\"]\nretry = {{ safe_methods = [\"Get*\"] }}\n\
         [[routes.filters]]\nkind = \"cors\"\norigins = [\"https://app.example\"]\nheaders = [\"content-type\", \"x-grpc-web\"]\n\
         [upstreams.service]\nprotocol = \"http2\"\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    Gateway::start(Scratch::new(), &text).await
}

const WEB: (&str, &str) = ("content-type", "application/grpc-web+proto");
const TEXT: (&str, &str) = ("content-type", "application/grpc-web-text");

#[tokio::test]
async fn grpc_web_is_translated_in_both_forms() {
    let origin = service().await;
    let gateway = gateway(&origin).await;
    let mut client = gateway.client().await;
    let hello = frame(0, b"hello");
    let end = |status: &str| {
        frame(0x80, format!("grpc-status: {status}\r\ngrpc-message: 100%25%FF\r\nx-cost: 3\r\n").as_bytes())
    };
    let reply =
        client.post("/a.B/Echo", &[WEB, ("x-grpc-web", "1"), ("grpc-timeout", "5S")], hello.clone()).await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (200, "application/grpc-web+proto"));
    assert_eq!(reply.body, [hello.clone(), end("0")].concat());
    assert!(reply.header("x-head").starts_with("POST application/grpc+proto "), "{}", reply.header("x-head"));
    let reply = client.post("/a.B/Many", &[WEB], hello.clone()).await;
    assert_eq!(reply.body, [hello.clone(), hello.clone(), end("14")].concat());
    // In base64, the request in two parts with paddings of their own.
    let (first, second) = hello.split_at(4);
    let text = STANDARD.encode(first) + &STANDARD.encode(second);
    let reply = client.post("/a.B/Many", &[TEXT], text).await;
    assert_eq!(reply.header("content-type"), "application/grpc-web-text+proto");
    let expected = STANDARD.encode(&hello) + &STANDARD.encode(&hello) + &STANDARD.encode(end("14"));
    assert_eq!(reply.text(), expected, "each piece is encoded by itself");
    // A status that is known with the head is in the headers; one that is missing is UNKNOWN.
    for (path, status, message) in [
        ("/a.B/Gone", "5", "no%20such"),
        ("/a.B/Both", "5", "in%20both"),
        ("/a.B/Html", "14", "the upstream answered with status 503 and no gRPC"),
    ] {
        let reply = client.post(path, &[WEB, ("origin", "https://app.example")], hello.clone()).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header("grpc-status"), reply.header("grpc-message")),
            (200, status, message),
            "{path}"
        );
        assert!(reply.body.is_empty(), "{path}");
        assert!(reply.header("access-control-expose-headers").contains("grpc-status, grpc-message"));
    }
    let reply = client.post("/a.B/Cut", &[WEB], hello.clone()).await;
    assert!(String::from_utf8_lossy(&reply.body).contains("grpc-status: 2\r\n"), "{:?}", reply.body);
    eventually("the status in the log", async || {
        let log = std::fs::read_to_string(gateway.scratch.path().join("access.log"));
        log.is_ok_and(|log| log.contains("\"grpc_status\":14"))
    })
    .await;
}

#[tokio::test]
async fn what_is_no_grpc_web_is_refused_in_its_form() {
    let origin = service().await;
    let gateway = gateway(&origin).await;
    for (kind, body) in [
        (WEB, b"no messages at all".to_vec()),
        (WEB, frame(0x80, b"grpc-status: 0\r\n")),
        (WEB, frame(0, b"hello")[..8].to_vec()),
        (TEXT, b"AAAA!AAA".to_vec()),
        (TEXT, b"AAAAAAV".to_vec()),
    ] {
        let mut client = gateway.client().await;
        let reply = client.post("/a.B/Echo", &[kind], body.clone()).await;
        assert_eq!((reply.status.as_u16(), reply.header("grpc-status")), (200, "3"), "{kind:?} {body:?}");
        assert!(reply.header("content-type").starts_with(kind.1), "{}", reply.header("content-type"));
    }
    let mut client = gateway.client().await;
    assert_eq!(client.get("/a.B/Echo", &[WEB]).await.header("grpc-status"), "3");
    let mut client = gateway.client().await;
    let large = client.post("/a.B/Echo", &[WEB], frame(0, &[0; 70_000])).await;
    assert_eq!(large.header("grpc-status"), "8");
}

#[tokio::test]
async fn every_message_is_flushed() {
    let origin = Origin::serving(|request| async move {
        let _ = request.into_body().collect().await;
        let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from(frame(0, b"first")))) });
        let body = futures_util::StreamExt::chain(first, futures_util::stream::pending());
        let head = Response::builder().header("content-type", "application/grpc");
        head.body(StreamBody::new(body).boxed_unsync()).expect("a fixed head")
    })
    .await;
    let gateway = gateway(&origin).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    let head =
        "POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc-web\r\ncontent-length: 5\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &frame(0, b"")].concat()).await.expect("sent");
    let (mut got, mut buffer) = (Vec::new(), [0; 4096]);
    while !got.windows(5).any(|window| window == b"first") {
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut buffer)).await;
        let count = read.expect("the first message comes though the second does not").expect("a response");
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..count]);
    }
}

const CONNECT: [(&str, &str); 2] = [("content-type", "application/proto"), ("connect-protocol-version", "1")];

#[tokio::test]
async fn unary_calls_of_connect_are_translated() {
    let origin = service().await;
    let gateway = gateway(&origin).await;
    let mut client = gateway.client().await;
    let with = |more: &[(&'static str, &'static str)]| [&CONNECT[..], more].concat();
    let reply = client.post("/a.B/Echo", &with(&[("connect-timeout-ms", "5000")]), "hello").await;
    assert_eq!(
        (reply.status.as_u16(), reply.header("content-type"), reply.text()),
        (200, "application/proto", "hello")
    );
    assert_eq!(reply.header("trailer-x-cost"), "3");
    assert!(reply.header("x-head").starts_with("POST application/grpc+proto "), "{}", reply.header("x-head"));
    assert!(
        !reply.header("x-head").ends_with('1'),
        "no header of Connect goes on: {}",
        reply.header("x-head")
    );
    let json = [("content-type", "application/json"), CONNECT[1]];
    let reply = client.post("/a.B/Echo", &json, "{}").await;
    assert_eq!((reply.header("content-type"), reply.text()), ("application/json", "{}"));
    assert!(reply.header("x-head").starts_with("POST application/grpc+json "));
    // Compression passes both ways.
    let reply = client.post("/a.B/Echo", &with(&[("content-encoding", "gzip")]), "zipped").await;
    assert_eq!(
        reply.status,
        500,
        "the answer is marked as compressed, but nothing says how: {}",
        reply.text()
    );
    assert_eq!(reply.json()["code"], "internal");
    let reply = client.post("/a.B/Zip", &with(&[("accept-encoding", "gzip")]), "").await;
    assert_eq!((reply.header("content-encoding"), reply.text()), ("gzip", "zip"));
    // Errors.
    let reply = client.post("/a.B/Gone", &CONNECT, "").await;
    assert_eq!((reply.status.as_u16(), reply.header("content-type")), (404, "application/json"));
    let expected = serde_json::json!({"code": "not_found", "message": "no such", "details": [{"type": "a.Detail", "value": "CgF4"}]});
    assert_eq!(reply.json(), expected);
    for (path, status, code) in [
        ("/a.B/Both", 404, "not_found"),
        ("/a.B/Many", 501, "unimplemented"),
        ("/a.B/Cut", 500, "unknown"),
        ("/a.B/Html", 503, "unavailable"),
        ("/a.B/Huge", 500, "internal"),
        ("/a.B/Flag", 500, "internal"),
    ] {
        let reply = client.post(path, &CONNECT, "x").await;
        assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (status, code.into()), "{path}");
    }
    let reply = client.post("/a.B/Slow", &with(&[("connect-timeout-ms", "50")]), "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (504, "deadline_exceeded".into()));
    let reply = client.post("/a.B/Echo", &with(&[("connect-timeout-ms", "soon")]), "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (400, "invalid_argument".into()));
    let mut client = gateway.client().await;
    let streams = [("content-type", "application/connect+proto"), CONNECT[1]];
    assert_eq!(client.post("/a.B/Echo", &streams, "").await.status, 415);
}

#[tokio::test]
async fn connect_with_get_is_for_safe_methods_only() {
    let origin = service().await;
    let gateway = gateway(&origin).await;
    let mut client = gateway.client().await;
    let query =
        format!("connect=v1&encoding=proto&base64=1&message={}", URL_SAFE_NO_PAD.encode(b"\xff\xfehello"));
    let reply = client.get(&format!("/a.B/GetEcho?{query}"), &[]).await;
    assert_eq!((reply.status.as_u16(), &reply.body[..]), (200, &b"\xff\xfehello"[..]));
    let reply = client.get("/a.B/GetEcho?connect=v1&encoding=json&message=%7B%7D", &[]).await;
    assert_eq!((reply.header("content-type"), reply.text()), ("application/json", "{}"));
    let reply = client.get(&format!("/a.B/Echo?{query}"), &[]).await;
    assert_eq!(reply.json()["code"], "unimplemented", "any page could make a browser send it");
    assert_eq!(reply.header("allow"), "POST");
    for wrong in
        ["connect=v1&encoding=proto", "connect=v1&message=", "connect=v1&encoding=proto&base64=1&message=!"]
    {
        let mut client = gateway.client().await;
        assert_eq!(client.get(&format!("/a.B/GetEcho?{wrong}"), &[]).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn grpc_itself_passes_a_bridge_unchanged() {
    let origin = service().await;
    let gateway = gateway(&origin).await;
    let mut client = Client::http2(gateway.address()).await;
    let request =
        Request::builder().method(Method::POST).uri("/a.B/Echo").header("content-type", "application/grpc");
    let reply = client.send(request.body(Full::new(frame(0, b"hello").into())).expect("a request")).await;
    assert_eq!(reply.body, frame(0, b"hello"));
    let trailers = reply.trailers.expect("trailers");
    assert_eq!(
        (&trailers["grpc-status"], &trailers["x-cost"]),
        (&"0".parse::<HeaderValue>().unwrap(), &"3".parse().unwrap())
    );
    let text = "[[routes]]\nupstream = \"a\"\ngrpc_bridge = [\"connect\"]\n[upstreams.a]\nendpoints = [\"127.0.0.1:1\"]\n";
    let scratch = Scratch::new();
    scratch.write("witgate.toml", text);
    let mut command = std::process::Command::new(witgate());
    let checked =
        command.arg("validate").arg("--config").arg(scratch.config()).output().expect("witgate can be run");
    let refused = String::from_utf8_lossy(&checked.stderr);
    assert!(!checked.status.success() && refused.contains("does not speak HTTP/2"), "{refused}");
}
