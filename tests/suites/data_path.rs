//! Plain proxying: methods, bodies, trailers, keep-alive, early responses, tunnels.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, raw};

/// A configuration that sends all requests to one origin.
pub(crate) fn to(origin: &Origin) -> String {
    format!(
        "[[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

#[tokio::test]
async fn a_request_reaches_the_origin_and_its_answer_comes_back() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut client = gateway.client().await;

    let reply = client.get("/a/b?c=d", &[("x-one", "1"), ("x-one", "2")]).await;

    assert_eq!((reply.status.as_u16(), reply.text()), (200, "origin GET /a/b?c=d"));
    let seen = origin.last();
    let ones: Vec<_> = seen.headers.get_all("x-one").iter().collect();
    assert_eq!(ones, ["1", "2"], "repeated headers stay repeated, in order");
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.header("x-forwarded-proto"), "http");
    assert!(!seen.headers.contains_key("traceparent"), "no spans are exported, so no trace begins here");
    assert!(!seen.header("x-request-id").is_empty(), "a request id is created");
}

#[tokio::test]
async fn one_connection_carries_many_requests_with_bodies() {
    let origin = Origin::with(|seen| Response::new(Full::new(seen.body.clone()))).await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    for mut client in [gateway.client().await, Client::http2(gateway.address()).await] {
        for size in [0, 1, 1000, 100_000, 1_000_000] {
            let body = Bytes::from(vec![b'x'; size]);
            let reply = client.post("/", &[], body.clone()).await;
            assert_eq!(reply.status, 200);
            assert!(reply.body == body, "{size} bytes come back as they were");
        }
    }
}

#[tokio::test]
async fn head_has_the_length_and_no_body() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let request =
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    let answer = raw(gateway.address(), request, Duration::from_secs(5)).await;

    let answer = String::from_utf8_lossy(&answer).to_lowercase();
    let (head, rest) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("content-length: 13"), "{head}");
    assert!(rest.starts_with("http/1.1 200"), "the next response follows at once: {rest}");
}

#[tokio::test]
async fn trailers_survive_both_ways_over_http2() {
    let origin = Origin::serving(|request| async move {
        let trailers = request.into_body().collect().await.expect("a body").trailers().cloned();
        let mut back = HeaderMap::new();
        back.insert("grpc-status", "0".parse().expect("a value"));
        if let Some(value) = trailers.as_ref().and_then(|trailers| trailers.get("x-checksum")) {
            back.insert("x-echo", value.clone());
        }
        let frames = [Ok(Frame::data(Bytes::from("body"))), Ok(Frame::trailers(back))];
        Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync())
    })
    .await;
    let config = to(&origin).replace("endpoints", "protocol = \"http2\"\nendpoints");
    let gateway = Gateway::start(Scratch::new(), &config).await;

    let stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut sender = sender.ready().await.expect("a stream");
    let request =
        http::Request::post("http://gateway.test/").header("te", "trailers").body(()).expect("a request");
    let (response, mut body) = sender.send_request(request, false).expect("sent");
    body.send_data(Bytes::from("x"), false).expect("sent");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", "abc".parse().expect("a value"));
    body.send_trailers(trailers).expect("sent");
    let mut received = response.await.expect("a response").into_body();
    while let Some(chunk) = received.data().await {
        let length = chunk.expect("a chunk").len();
        received.flow_control().release_capacity(length).expect("capacity");
    }
    let trailers = received.trailers().await.expect("trailers").expect("there are trailers");

    assert_eq!(trailers.get("grpc-status").expect("grpc-status"), "0");
    assert_eq!(trailers.get("x-echo").expect("the request's trailers arrived"), "abc");
}

#[tokio::test]
async fn a_body_is_asked_for_with_100_continue_only_when_the_origin_wants_it() {
    let origin = Origin::with(|seen| Response::new(Full::new(seen.body.clone()))).await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");

    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        .await
        .expect("sent");
    let mut buffer = vec![0; 1024];
    let count = stream.read(&mut buffer).await.expect("an interim response");
    assert!(buffer[..count].starts_with(b"HTTP/1.1 100"), "{:?}", String::from_utf8_lossy(&buffer[..count]));
    stream.write_all(b"hello").await.expect("sent");
    let count = stream.read(&mut buffer).await.expect("the response");
    assert!(buffer[..count].starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_reader_holds_the_origin_back() {
    // The origin offers far more than all buffers in between can hold, so it must not be able to send all of it
    // before the client reads.
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = std::sync::Arc::clone(&sent);
    let origin = Origin::serving(move |_| {
        let counter = std::sync::Arc::clone(&counter);
        async move {
            let chunks = futures_util::stream::iter(0..4096).map(move |_| {
                counter.fetch_add(64 * 1024, std::sync::atomic::Ordering::Relaxed);
                Ok(Frame::data(Bytes::from(vec![b'x'; 64 * 1024])))
            });
            Response::new(StreamBody::new(chunks).boxed_unsync())
        }
    })
    .await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("sent");

    // It has stopped if two checks some time apart give the same figure.
    let mut before = 0;
    let mut looks = 0;
    eventually("the origin to be held back", async || {
        let now = sent.load(std::sync::atomic::Ordering::Relaxed);
        looks = if now == before && now > 0 { looks + 1 } else { 0 };
        before = now;
        looks >= 20
    })
    .await;
    assert!(before < 64 << 20, "{} MiB went out to a client that reads nothing", before >> 20);
    assert!(gateway.resident() < 200 << 20, "the gateway buffers: {} MiB", gateway.resident() >> 20);

    let mut total = 0;
    let mut buffer = vec![0; 1 << 20];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        total += count;
    }
    assert!(total >= 4096 * 64 * 1024, "all of it arrives in the end: {total}");
}

#[tokio::test]
async fn a_websocket_echoes_through_the_gateway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = tokio_tungstenite::accept_async(stream).await.expect("a handshake");
        while let Some(Ok(message)) = socket.next().await {
            if socket.send(message).await.is_err() {
                break;
            }
        }
    });
    let config = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n[upstreams.origin]\nendpoints = [\"{address}\"]\n"
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;

    let url = format!("ws://{}/chat", gateway.address());
    let (mut socket, response) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
    assert_eq!(response.status(), 101);
    for text in ["one", "two", "three"] {
        socket.send(text.into()).await.expect("sent");
        let echo = socket.next().await.expect("an echo").expect("a message");
        assert_eq!(echo.into_text().expect("text").as_str(), text);
    }
}

#[tokio::test]
async fn nothing_goes_upstream_after_an_upgrade_request_until_101() {
    // The origin declines the upgrade. What the client sent after the request must be parsed by the gateway as
    // another request, or not at all, and never be passed through.
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let bytes = b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\
                  GET /admin HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nConnection: close\r\n\r\n";

    raw(gateway.address(), bytes, Duration::from_secs(2)).await;

    for seen in origin.seen() {
        assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1", "{seen:?}");
    }
    assert_eq!(origin.seen()[0].uri, "/a");
}

#[tokio::test]
async fn a_stale_pooled_connection_loses_no_request() {
    // An origin that closes every connection right after its first response, without announcing that.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if let Ok(1..) = stream.read(&mut buffer).await {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
                }
            });
        }
    });
    let config = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n[upstreams.origin]\nendpoints = [\"{address}\"]\n"
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;
    let mut client = gateway.client().await;
    for round in 0..200 {
        let reply = client.get("/", &[]).await;
        assert_eq!(reply.status, 200, "round {round}: {}", reply.text());
    }
}

#[tokio::test]
async fn an_origin_that_breaks_off_is_never_a_complete_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            if let Ok(1..) = stream.read(&mut buffer).await {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf").await;
            }
        }
    });
    let config = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n[upstreams.origin]\nendpoints = [\"{address}\"]\n"
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;
    for mut client in [gateway.client().await, Client::http2(gateway.address()).await] {
        let request = http::Request::get("/").body(Full::default()).expect("a request");
        client.try_send(request).await.expect_err("half a response is not a response");
    }
}

#[tokio::test]
async fn faults_are_problem_documents_with_stable_codes() {
    let refused = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = refused.local_addr().expect("an address");
    drop(refused);
    let config = format!(
        "[[routes]]\npath = \"/down\"\nupstream = \"down\"\n\n\
         [[routes]]\npath = \"/only-post\"\nmethods = [\"POST\"]\nrespond = {{ status = 204 }}\n\n\
         [upstreams.down]\nendpoints = [\"{address}\"]\n"
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;
    let mut client = gateway.client().await;

    for (target, status, code) in [
        ("/down", 502, "upstream-unreachable"),
        ("/nowhere", 404, "no-route"),
        ("/only-post", 405, "method-not-allowed"),
        ("/%00", 400, "bad-path"),
    ] {
        let reply = client.get(target, &[]).await;
        assert_eq!(reply.status.as_u16(), status, "{target}");
        assert_eq!(reply.header("content-type"), "application/problem+json", "{target}");
        let problem = reply.json();
        assert_eq!((problem["code"].as_str(), problem["status"].as_u64()), (Some(code), Some(status.into())));
        assert!(!reply.header("x-request-id").is_empty(), "{target} has a request id");
        assert!(!reply.text().contains(&address.to_string()), "endpoints are not told to clients");
    }
    assert_eq!(client.get("/only-post", &[]).await.header("allow"), "POST");
}

#[tokio::test]
async fn routes_are_chosen_by_specificity_and_rewrite_what_the_upstream_sees() {
    let origin = Origin::named("origin").await;
    let config = format!(
        r#"
[[routes]]
path = "/*"
respond = {{ status = 200, body = "any" }}

[[routes]]
path = "/api/*"
strip_prefix = true
upstream = "origin"

[[routes]]
path = "/users/{{id}}"
rewrite = "/v2/people/{{id}}"
upstream = "origin"

[[routes]]
path = "/users/me"
respond = {{ status = 200, body = "me" }}

[[routes]]
path = "/old"
redirect = {{ status = 308, location = "/new" }}

[[routes]]
host = "*.example.test"
path = "/*"
respond = {{ status = 200, body = "wildcard host" }}

[[routes]]
path = "/flag"
headers = {{ x-flag = "on" }}
respond = {{ status = 200, body = "flagged" }}

[upstreams.origin]
endpoints = ["{}"]
"#,
        origin.address()
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;
    let mut client = gateway.client().await;
    for (target, headers, text) in [
        ("/else", &[][..], "any"),
        ("/api/x?y=1", &[], "origin GET /x?y=1"),
        ("/users/7", &[], "origin GET /v2/people/7"),
        ("/users/me", &[], "me"),
        ("/x", &[("host", "a.example.test")], "wildcard host"),
        ("/flag", &[("x-flag", "on")], "flagged"),
        ("/flag", &[], "any"),
        ("/api/../users/me", &[], "me"),
    ] {
        assert_eq!(client.get(target, headers).await.text(), text, "{target}");
    }
    let redirect = client.get("/old", &[]).await;
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (308, "/new"));
}

#[tokio::test]
async fn a_client_that_vanishes_ends_the_request_at_the_origin() {
    let gone = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (flag, begun) = (std::sync::Arc::clone(&gone), std::sync::Arc::clone(&asked));
    let origin = Origin::serving(move |_| {
        let flag = std::sync::Arc::clone(&flag);
        begun.store(true, std::sync::atomic::Ordering::Relaxed);
        async move {
            struct OnDrop(std::sync::Arc<std::sync::atomic::AtomicBool>);
            impl Drop for OnDrop {
                fn drop(&mut self) {
                    self.0.store(true, std::sync::atomic::Ordering::Relaxed);
                }
            }
            let _guard = OnDrop(flag);
            std::future::pending::<()>().await;
            Response::new(Empty::new().boxed_unsync())
        }
    })
    .await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
    eventually("the origin to be asked", async || asked.load(std::sync::atomic::Ordering::Relaxed)).await;
    assert!(gateway.metric("witgate_requests_in_flight", &["route=\"all\""]).await >= 1.0);
    // Closes with a reset: an orderly end would be a half-close by a client that still expects the response.
    stream.set_zero_linger().expect("an open socket");
    drop(stream);
    eventually("the origin to be let go", async || gone.load(std::sync::atomic::Ordering::Relaxed)).await;
}
