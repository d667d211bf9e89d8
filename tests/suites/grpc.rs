//! Calls of gRPC through the gateway: their statuses as outcomes, refusals in their form, routes, repeated calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use serde_json::Value;
use witgate_tests::{Client, Gateway, Origin, OriginBody, Reply, Scratch, eventually};

/// A message of gRPC.
fn message(bytes: &[u8]) -> Bytes {
    let mut message = vec![0];
    message.extend(u32::try_from(bytes.len()).expect("a short message").to_be_bytes());
    message.extend(bytes);
    message.into()
}

/// An answer of gRPC with messages and a status: trailers only, if there is no message and `only` says so.
fn answer(messages: &[&[u8]], status: &'static str, only: bool) -> Response<OriginBody> {
    let mut response = Response::builder().header("content-type", "application/grpc");
    if only {
        response = response.header("grpc-status", status).header("grpc-message", "told%20so");
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static(status));
    let mut frames: Vec<_> = messages.iter().map(|bytes| Ok(Frame::data(message(bytes)))).collect();
    if !only {
        frames.push(Ok(Frame::trailers(trailers)));
    }
    response.body(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()).expect("a fixed head")
}

/// An endpoint that answers every call with this status, and counts the calls.
async fn service(status: &'static str, only: bool) -> (Origin, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = Origin::serving(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let _ = request.into_body().collect().await;
            answer(if status == "0" { &[b"fine"] } else { &[] }, status, only && status != "0")
        }
    })
    .await;
    (origin, count)
}

/// A gateway with one route to these endpoints; `route` and `upstream` are added to their tables.
async fn gateway(endpoints: &[&Origin], route: &str, upstream: &str) -> Gateway {
    let addresses: Vec<_> = endpoints.iter().map(|origin| format!("\"{}\"", origin.address())).collect();
    let text = format!(
        "[telemetry]\naccess_log = \"access.log\"\n[[routes]]\nname = \"all\"\nupstream = \"service\"\n{route}\n\
         [upstreams.service]\nprotocol = \"http2\"\nendpoints = [{}]\n{upstream}\n",
        addresses.join(", ")
    );
    Gateway::start(Scratch::new(), &text).await
}

fn request(path: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::post(path).header("content-type", "application/grpc").header("te", "trailers");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Full::new(body)).expect("a request")
}

async fn call(client: &mut Client, path: &str, headers: &[(&str, &str)]) -> Reply {
    client.send(request(path, headers, message(b"hello"))).await
}

/// The gRPC status of a reply, wherever it stands.
fn status(reply: &Reply) -> u32 {
    let trailer = reply.trailers.as_ref().and_then(|trailers| trailers.get("grpc-status"));
    let value = reply.headers.get("grpc-status").or(trailer).expect("a status");
    value.to_str().expect("ASCII").parse().expect("a number")
}

fn lines(gateway: &Gateway) -> Vec<Value> {
    let text = std::fs::read_to_string(gateway.scratch.path().join("access.log")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn an_endpoint_that_is_unavailable_by_status_costs_only_what_comes_before_its_ejection() {
    for only in [true, false] {
        let (good, _) = service("0", only).await;
        let (bad, asked) = service("14", only).await;
        let gateway =
            gateway(&[&good, &bad], "", "ejection = { base_time = \"10m\", max_time = \"10m\" }").await;
        let mut client = Client::http2(gateway.address()).await;
        let mut failed = 0;
        for _ in 0..1000 {
            failed += usize::from(status(&call(&mut client, "/a.B/C", &[]).await) == 14);
        }
        assert!(failed <= 5, "{failed} of 1,000 calls failed");
        assert_eq!(asked.load(Ordering::Relaxed), failed);
        let events = gateway.metric("witgate_upstream_events_total", &["event=\"ejected\""]).await;
        assert_eq!(events, 1.0, "only: {only}");
    }
}

#[tokio::test]
async fn statuses_count_as_configured_and_never_take_the_last_endpoint() {
    // The last endpoint serves on, with a breaker that opens quickly and a comparison by shares.
    let (bad, asked) = service("14", true).await;
    let breaker = "breaker = { consecutive_failures = 2, failure_ratio = 0.1, min_requests = 3 }";
    let last = gateway(&[&bad], "", breaker).await;
    let mut client = Client::http2(last.address()).await;
    for _ in 0..50 {
        assert_eq!(status(&call(&mut client, "/a.B/C", &[]).await), 14);
    }
    assert_eq!(asked.load(Ordering::Relaxed), 50, "every call reached it");
    // NOT_FOUND and INTERNAL are no failures of the endpoint unless they are listed.
    for (code, listed, ejects) in [
        ("5", "", false),
        ("13", "", false),
        ("13", "grpc_failures = [\"internal\"]", true),
        ("14", "grpc_failures = []", false),
    ] {
        let (good, _) = service("0", true).await;
        let (other, asked) = service(code, true).await;
        let gateway = gateway(&[&good, &other], "", listed).await;
        let mut client = Client::http2(gateway.address()).await;
        for _ in 0..40 {
            call(&mut client, "/a.B/C", &[]).await;
        }
        let asked = asked.load(Ordering::Relaxed);
        assert_eq!(asked <= 6, ejects, "{code} with `{listed}`: asked {asked} times");
    }
}

#[tokio::test]
async fn a_deadline_of_the_caller_never_counts_against_an_endpoint() {
    let silent = || {
        Origin::serving(|request| async move {
            let _ = request.into_body().collect().await;
            std::future::pending::<()>().await;
            answer(&[], "0", true)
        })
    };
    let (first, second) = (silent().await, silent().await);
    let listed =
        "grpc_failures = [\"deadline-exceeded\", \"unavailable\"]\nbreaker = { consecutive_failures = 2 }";
    let gateway = gateway(&[&first, &second], "", listed).await;
    let mut client = Client::http2(gateway.address()).await;
    for _ in 0..12 {
        assert_eq!(status(&call(&mut client, "/a.B/C", &[("grpc-timeout", "10m")]).await), 4);
    }
    for deadline in ["0n", "0S"] {
        assert_eq!(
            status(&call(&mut client, "/a.B/C", &[("grpc-timeout", deadline)]).await),
            4,
            "{deadline}"
        );
    }
    let refused = call(&mut client, "/a.B/C", &[("grpc-timeout", "100000000n")]).await;
    assert_eq!(status(&refused), 3, "nine digits are no timeout");
    for event in ["ejected", "breaker-opened"] {
        let label = format!("event=\"{event}\"");
        assert_eq!(gateway.metric("witgate_upstream_events_total", &[&label]).await, 0.0, "{event}");
    }
}

#[tokio::test]
async fn calls_are_counted_by_method_and_status_and_made_up_methods_are_not() {
    let origin = Origin::serving(|request| async move {
        match request.uri().path() {
            "/a.B/Get" => answer(&[b"x"], "0", false),
            "/a.B/Lost" => answer(&[], "5", true),
            _ => answer(&[], "12", true),
        }
    })
    .await;
    let gateway = gateway(&[&origin], "", "").await;
    let mut client = Client::http2(gateway.address()).await;
    for number in 0..200 {
        assert_eq!(status(&call(&mut client, &format!("/a.B/Made{number}"), &[]).await), 12);
    }
    for path in ["/a.B/Get", "/a.B/Get", "/a.B/Lost"] {
        call(&mut client, path, &[]).await;
    }
    let counted = async |method: &str, code: &str| {
        let (method, code) = (format!("method=\"{method}\""), format!("grpc_status=\"{code}\""));
        gateway.metric("witgate_grpc_calls_total", &["route=\"all\"", &method, &code]).await
    };
    eventually("the calls to be counted", async || counted("a.B/Lost", "5").await == 1.0).await;
    assert_eq!(counted("a.B/Get", "0").await, 2.0);
    assert_eq!(counted("(others)", "12").await, 200.0);
    let lost = || lines(&gateway).into_iter().find(|line| line["path"] == "/a.B/Lost");
    eventually("the line of the call", async || lost().is_some()).await;
    let line = lost().expect("a line");
    assert_eq!((&line["grpc_status"], &line["status"]), (&5.into(), &200.into()));
}

#[tokio::test]
async fn refusals_and_faults_are_told_as_grpc() {
    let (good, _) = service("0", true).await;
    let closed =
        std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let text = format!(
        "[[routes]]\npath = \"/ok/*\"\nupstream = \"good\"\nbody_limit = \"1KiB\"\n\
         [[routes]]\npath = \"/denied/*\"\nupstream = \"good\"\n[[routes.filters]]\nkind = \"ip\"\ndeny = [\"0.0.0.0/0\"]\n\
         [[routes]]\npath = \"/limited/*\"\nrespond = {{ status = 429, body = \"slowly\", headers = {{ retry-after = \"7\", ratelimit = \"r=0\" }} }}\n\
         [[routes]]\npath = \"/get/*\"\nmethod = \"GET\"\nupstream = \"good\"\n\
         [[routes]]\npath = \"/gone/*\"\nupstream = \"gone\"\n\
         [upstreams.good]\nprotocol = \"http2\"\nendpoints = [\"{}\"]\n[upstreams.gone]\nprotocol = \"http2\"\nendpoints = [\"{closed}\"]\n",
        good.address()
    );
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let mut client = Client::http2(gateway.address()).await;
    for (path, code, told) in [
        ("/nowhere/x", 12, "No route matches"),
        ("/denied/x", 7, ""),
        ("/limited/x", 8, "slowly"),
        ("/get/x", 12, ""),
        ("/gone/x", 14, "The upstream could not be reached"),
        ("/ok/x", 0, ""),
    ] {
        let reply = call(&mut client, path, &[]).await;
        assert_eq!((reply.status.as_u16(), status(&reply)), (200, code), "{path}");
        assert!(reply.header("grpc-message").contains(told), "{path}: {}", reply.header("grpc-message"));
        if code != 0 {
            assert_eq!(reply.header("content-type"), "application/grpc");
            assert!(reply.body.is_empty(), "{path}");
        }
    }
    let limited = call(&mut client, "/limited/x", &[]).await;
    assert_eq!((limited.header("retry-after"), limited.header("ratelimit")), ("7", "r=0"));
    let details = limited.header("grpc-status-details-bin");
    // Status { code: 8, message: "slowly", details: [Any { RetryInfo { retry_delay: 7 s } }] }
    assert_eq!(details, "CAgSBnNsb3dseRowCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUmV0cnlJbmZvEgQKAggH");
    let large = client.send(request("/ok/x", &[], message(&[0; 2048]))).await;
    assert_eq!(status(&large), 8);
    let announced = client.send(request("/ok/x", &[], Bytes::from_static(b"\0\xff\xff\xff\xff"))).await;
    assert_eq!(status(&announced), 8, "4 GiB are announced");
    let truncated = client.send(request("/ok/x", &[], Bytes::from_static(b"\0\0\0"))).await;
    assert_eq!(status(&truncated), 3);
    // Callers of Connect and gRPC-Web are told in their own forms; others as before.
    let connect = [("content-type", "application/proto"), ("connect-protocol-version", "1")];
    let reply = client.post("/limited/x", &connect, "").await;
    assert_eq!((reply.status.as_u16(), reply.json()["code"].clone()), (429, "resource_exhausted".into()));
    assert_eq!(reply.json()["details"][0]["type"], "google.rpc.RetryInfo");
    let reply = client.post("/limited/x", &[("content-type", "application/grpc-web+proto")], "").await;
    assert_eq!((reply.status.as_u16(), status(&reply)), (200, 8));
    assert_eq!(client.get("/limited/x", &[]).await.status, 429);
    assert_eq!(client.get("/nowhere/x", &[]).await.status, 404);
}

#[tokio::test]
async fn routes_choose_by_service_method_and_metadata() {
    let [first, second, third, fourth] = [
        Origin::named("first").await,
        Origin::named("second").await,
        Origin::named("third").await,
        Origin::named("fourth").await,
    ];
    let upstream = |name: &str, origin: &Origin| {
        format!("[upstreams.{name}]\nprotocol = \"http2\"\nendpoints = [\"{}\"]\n", origin.address())
    };
    let text = format!(
        "[[routes]]\ngrpc = {{ service = \"example.Orders\" }}\nupstream = \"first\"\n\
         [[routes]]\ngrpc = {{ service = \"example.Orders\", method = \"Get*\" }}\nupstream = \"second\"\n\
         [[routes]]\ngrpc = {{ service = \"example.*\" }}\nupstream = \"third\"\n\
         [[routes]]\ngrpc = {{ service = \"example.Orders\", method = \"GetOne\" }}\nupstream = \"fourth\"\n\
         [[routes]]\ngrpc = {{ service = \"example.Orders\" }}\nheaders = {{ \"x-key-bin\" = \"AAE=\" }}\nupstream = \"fourth\"\n{}{}{}{}",
        upstream("first", &first),
        upstream("second", &second),
        upstream("third", &third),
        upstream("fourth", &fourth)
    );
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let mut client = Client::http2(gateway.address()).await;
    for (path, headers, expected) in [
        ("/example.Orders/Create", &[][..], "first"),
        ("/example.Orders/GetAll", &[], "second"),
        ("/example.Orders/GetOne", &[], "fourth"),
        ("/example.Users/Get", &[], "third"),
        ("/example.Orders/Create", &[("x-key-bin", "AAE")], "fourth"),
        ("/example.Orders/Create", &[("x-key-bin", "AAI, AAE=")], "fourth"),
        ("/example.Orders/Create", &[("x-key-bin", "AAI")], "first"),
    ] {
        let reply = call(&mut client, path, headers).await;
        assert!(reply.text().starts_with(expected), "{path} {headers:?}: {}", reply.text());
    }
    assert_eq!(status(&call(&mut client, "/other.Orders/Get", &[]).await), 12);
    assert_eq!(status(&call(&mut client, "/example.Orders/Get/More", &[]).await), 12);
}

#[tokio::test]
async fn safe_methods_are_repeated_and_others_are_not() {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let origin = Origin::serving(move |request| {
        let before = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            let header = |name: &str| {
                request.headers().get(name).map_or("-", |value| value.to_str().expect("ASCII")).to_owned()
            };
            let (attempts, pushback) = (header("grpc-previous-rpc-attempts"), header("x-pushback"));
            if before > 0 && attempts != "-" {
                let mut response = answer(&[b"x"], "0", false);
                response.headers_mut().insert("x-attempts", attempts.parse().expect("a value"));
                return response;
            }
            let mut response = answer(&[], "14", true);
            if pushback != "-" {
                response.headers_mut().insert("grpc-retry-pushback-ms", pushback.parse().expect("a value"));
            }
            response
        }
    })
    .await;
    let retry = "retry = { grpc_statuses = [\"unavailable\"], safe_methods = [\"Get*\"] }";
    let gateway = gateway(&[&origin], "", retry).await;
    let mut client = Client::http2(gateway.address()).await;
    for (path, headers, expected, attempts) in [
        ("/a.B/GetOne", &[][..], 0, 2),
        ("/a.B/Create", &[], 14, 1),
        ("/a.B/GetOne", &[("x-pushback", "10")], 0, 2),
        ("/a.B/GetOne", &[("x-pushback", "-1")], 14, 1),
    ] {
        count.store(0, Ordering::Relaxed);
        let reply = call(&mut client, path, headers).await;
        assert_eq!(
            (status(&reply), count.load(Ordering::Relaxed)),
            (expected, attempts),
            "{path} {headers:?}"
        );
        if expected == 0 {
            assert_eq!(reply.header("x-attempts"), "1");
        }
    }
}

#[tokio::test]
async fn the_upstream_is_cancelled_when_the_client_leaves_and_told_a_shorter_deadline() {
    let told = Arc::new(std::sync::Mutex::new(String::new()));
    let (heard, gone) = (told.clone(), Arc::new(AtomicUsize::new(0)));
    struct Gone(Arc<AtomicUsize>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let left = gone.clone();
    let origin = Origin::serving(move |request| {
        let guard = Gone(left.clone());
        let value =
            request.headers().get("grpc-timeout").map(|value| value.to_str().expect("ASCII").to_owned());
        *heard.lock().expect("no panic") = value.unwrap_or_default();
        async move {
            let _guard = guard;
            std::future::pending::<()>().await;
            answer(&[], "0", true)
        }
    })
    .await;
    let gateway = gateway(&[&origin], "timeout = \"20s\"", "").await;
    let mut client = Client::http2(gateway.address()).await;
    let asked = tokio::spawn(async move {
        client.try_send(request("/a.B/C", &[("grpc-timeout", "1H")], message(b"x"))).await
    });
    eventually("the call to arrive", async || !told.lock().expect("no panic").is_empty()).await;
    let value = told.lock().expect("no panic").clone();
    let (digits, unit) = value.split_at(value.len() - 1);
    assert!(
        unit == "u" && digits.parse::<u64>().expect("a number") <= 20_000_000,
        "{value}: the route's 20 s less what has passed"
    );
    asked.abort();
    eventually("the call to be cancelled", async || gone.load(Ordering::Relaxed) == 1).await;
    let mut client = Client::http2(gateway.address()).await;
    let begun = std::time::Instant::now();
    assert_eq!(status(&call(&mut client, "/a.B/C", &[("grpc-timeout", "50m")]).await), 4);
    eventually("the call to be cancelled when its time is up", async || gone.load(Ordering::Relaxed) == 2)
        .await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

/// An endpoint that sends every piece back as it comes, and a status when the client has ended its side.
async fn echo() -> Origin {
    Origin::serving(|request| async move {
        let frames = futures_util::stream::unfold(Some(request.into_body()), |body| async move {
            let mut body = body?;
            match body.frame().await {
                Some(Ok(frame)) => Some((Ok(frame), Some(body))),
                _ => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    Some((Ok(Frame::trailers(trailers)), None))
                }
            }
        });
        let head = Response::builder().header("content-type", "application/grpc");
        head.body(StreamBody::new(frames).boxed_unsync()).expect("a fixed head")
    })
    .await
}

#[tokio::test]
async fn a_plain_route_carries_streams_in_both_directions_whole() {
    let origin = echo().await;
    let gateway = gateway(&[&origin], "", "").await;
    let stream = tokio::net::TcpStream::connect(gateway.address()).await.expect("a connection");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(executor, io).await.expect("the gateway speaks HTTP/2");
    tokio::spawn(connection);
    let (pieces, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let body = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let piece = receiver.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(Frame::data(piece)), receiver))
    });
    let request = Request::post("http://gateway.test/a.B/Chat").header("content-type", "application/grpc");
    let request =
        request.header("te", "trailers").body(StreamBody::new(body).boxed_unsync()).expect("a request");
    let response = sender.send_request(request);
    let first = message(b"one byte in each frame");
    let large = message(&vec![7; 4 << 20]);
    for byte in &first {
        pieces.send(Bytes::copy_from_slice(&[*byte])).await.expect("the request is read");
    }
    let mut body = response.await.expect("a response").into_body();
    let mut got = Vec::new();
    while got.len() < first.len() {
        let frame = body.frame().await.expect("more").expect("no error");
        got.extend_from_slice(&frame.into_data().expect("data"));
    }
    assert_eq!(got, first, "the answer to the first message is there before the client has ended");
    let sending = tokio::spawn(async move { pieces.send(large).await });
    let whole = tokio::time::timeout(Duration::from_secs(60), body.collect()).await;
    let whole = whole.expect("the stream ends after the client's side").expect("no error");
    sending.await.expect("no panic").expect("the request is read");
    assert_eq!(whole.trailers().expect("trailers")["grpc-status"], "0");
    assert_eq!(whole.to_bytes().len(), (4 << 20) + 5);
}
