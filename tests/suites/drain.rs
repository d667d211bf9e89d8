//! The gateway ends without losing requests that are in flight.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{
    Client, Gateway, Origin, Scratch, echo_websocket, eventually, missing, repository, witgate,
};

/// `/download` sends 100 pieces, one for each value in the channel; `/events` does the same; `/ws` echoes.
async fn paced_origin(pace: tokio::sync::watch::Receiver<usize>) -> Origin {
    Origin::serving(move |request| {
        let pace = pace.clone();
        async move {
            if request.uri().path() == "/ws" {
                return echo_websocket(request);
            }
            let pieces = futures_util::stream::unfold((0, pace), |(sent, mut pace)| async move {
                if sent == 100 {
                    return None;
                }
                pace.wait_for(|allowed| *allowed > sent).await.ok()?;
                Some((Ok(Frame::data(Bytes::from("data: piece\n\n"))), (sent + 1, pace)))
            });
            Response::builder()
                .header("content-type", "text/event-stream")
                .body(StreamBody::new(pieces).boxed_unsync())
                .expect("a fixed head")
        }
    })
    .await
}

fn config(origin: &Origin) -> String {
    format!(
        "[gateway]\ndrain_timeout = \"15s\"\n[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

async fn open_stream(gateway: &Gateway, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.expect("a response begins");
    assert_eq!(&first, b"HTTP/1.1 200");
    stream
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("the stream ends");
    text
}

#[tokio::test]
async fn term_lets_a_download_an_event_stream_and_a_websocket_end() {
    let (pace, receiver) = tokio::sync::watch::channel(1);
    let origin = paced_origin(receiver).await;
    let mut gateway = Gateway::start(Scratch::new(), &config(&origin)).await;
    let download = open_stream(&gateway, "/download").await;
    let events = open_stream(&gateway, "/events").await;
    let url = format!("ws://{}/ws", gateway.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("an upgrade");
    let address = gateway.address();

    gateway.signal(Signal::TERM);
    eventually("no more connections to be accepted", async || TcpStream::connect(address).await.is_err())
        .await;
    socket.send("still here".into()).await.expect("sent");
    let echo = socket.next().await.expect("an echo").expect("a message");
    assert_eq!(echo.into_text().expect("text").as_str(), "still here");
    pace.send(100).expect("the origin listens");
    for stream in [download, events] {
        let text = rest(stream).await;
        assert_eq!(text.matches("data: piece").count(), 100, "every piece arrives");
        assert!(text.ends_with("0\r\n\r\n"), "and a clean end");
    }
    socket.close(None).await.expect("closed");
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
}

#[tokio::test]
async fn readiness_fails_first_and_health_stays() {
    let origin = Origin::named("origin").await;
    let text = config(&origin).replace("drain_timeout", "drain_delay = \"3s\"\ndrain_timeout");
    let mut gateway = Gateway::start(Scratch::new(), &text).await;
    gateway.signal(Signal::TERM);
    eventually("readiness to fail", async || gateway.admin_get("/readyz").await.status == 503).await;
    assert_eq!(gateway.admin_get("/healthz").await.status, 200);
    assert_eq!(
        gateway.client().await.get("/", &[]).await.status,
        200,
        "traffic still flows during the delay"
    );
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_second_term_ends_at_once() {
    let (_pace, receiver) = tokio::sync::watch::channel(1);
    let origin = paced_origin(receiver).await;
    let mut gateway = Gateway::start(Scratch::new(), &config(&origin)).await;
    let download = open_stream(&gateway, "/download").await;
    let address = gateway.address();
    gateway.signal(Signal::TERM);
    eventually("the drain to begin", async || TcpStream::connect(address).await.is_err()).await;
    let begun = std::time::Instant::now();
    gateway.signal(Signal::TERM);
    let status = gateway.exit().await;
    assert!(begun.elapsed() < Duration::from_secs(5), "it did not wait for the drain");
    assert!(!status.success(), "what was in flight was cut, and the exit says so");
    drop(download);
}

#[tokio::test]
async fn keep_alive_connections_are_told_to_close_and_lose_nothing() {
    let origin = Origin::named("origin").await;
    let mut gateway = Gateway::start(Scratch::new(), &config(&origin)).await;
    let address = gateway.address();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            tokio::spawn(async move {
                let mut client = Client::http1(address).await;
                let mut done = 0;
                loop {
                    let request = http::Request::get("/").body(Full::default()).expect("a request");
                    match client.try_send(request).await {
                        Ok(reply) => {
                            assert_eq!(reply.status, 200);
                            done += 1;
                            if reply.header("connection") == "close" {
                                return done;
                            }
                        }
                        // The gateway may close the connection between two requests.
                        Err(error) => {
                            assert!(error.contains("Canceled") || error.contains("closed"), "{error}");
                            return done;
                        }
                    }
                }
            })
        })
        .collect();
    eventually("traffic", async || gateway.metric("witgate_requests_total", &[]).await > 100.0).await;
    gateway.signal(Signal::TERM);
    for client in clients {
        assert!(client.await.expect("nothing was lost") > 0);
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_idle_connection_may_post_once_more_after_term() {
    let origin = Origin::named("origin").await;
    let mut gateway = Gateway::start(Scratch::new(), &config(&origin)).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[]).await.status, 200);
    let address = gateway.address();
    gateway.signal(Signal::TERM);
    eventually("no more connections to be accepted", async || TcpStream::connect(address).await.is_err())
        .await;
    // The time that a person takes between two clicks; the default of `drain_idle` is longer.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let reply = client.post("/", &[], "order").await;
    assert_eq!((reply.status.as_u16(), reply.header("connection")), (200, "close"));
    let begun = std::time::Instant::now();
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
    assert!(begun.elapsed() < Duration::from_secs(3), "nobody is left to wait for");
}

/// To respond, the edge listener of this gateway needs the mesh listener: `/journey` calls `mesh`.
#[tokio::test]
async fn the_way_between_services_stays_open_while_the_edge_drains() {
    let (go, wait) = tokio::sync::watch::channel(None::<std::net::SocketAddr>);
    let origin = Origin::serving(move |request| {
        let mut wait = wait.clone();
        async move {
            let answer = |text: String| Response::new(Full::from(text).boxed_unsync());
            if request.uri().path() != "/journey" {
                return answer("called".to_owned());
            }
            let mesh = wait.wait_for(Option::is_some).await.ok().and_then(|mesh| *mesh);
            let called = Client::http1(mesh.expect("an address")).await.get("/call", &[]).await;
            answer(format!("{} {}", called.status.as_u16(), called.text()))
        }
    })
    .await;
    let text = format!(
        "[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n[gateway]\ndrain_timeout = \"15s\"\n\
         [[listeners]]\nname = \"edge\"\naddress = \"0.0.0.0:0\"\n\
         [[listeners]]\nname = \"mesh\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let mut gateway = Gateway::start_exactly(Scratch::new(), &text).await;
    let (edge, mesh) = (gateway.listener("edge"), gateway.listener("mesh"));
    let mut client = Client::http1(edge).await;
    let journey = tokio::spawn(async move { client.get("/journey", &[]).await });
    eventually("the journey to begin", async || {
        gateway.metric("witgate_requests_in_flight", &["listener=\"edge\""]).await > 0.0
    })
    .await;
    gateway.signal(Signal::TERM);
    eventually("the edge to be closed", async || TcpStream::connect(edge).await.is_err()).await;
    go.send(Some(mesh)).expect("the origin listens");
    let reply = journey.await.expect("no panic");
    assert_eq!((reply.status.as_u16(), reply.text()), (200, "200 called"));
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
}

#[tokio::test]
async fn an_inherited_listener_keeps_who_waited_in_its_queue() {
    if missing("python3") {
        return;
    }
    let scratch = Scratch::new();
    let mut supervisor = std::process::Command::new("python3");
    supervisor.arg(repository().join("tests/suites/real/supervisor.py")).arg(witgate()).arg(scratch.path());
    let output = tokio::task::spawn_blocking(move || supervisor.output().expect("Python can be run"));
    let output = output.await.expect("the supervisor ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("HTTP/1.1 200") && text.contains("\r\n\r\ninherited"), "{output:?}");
    assert!(text.trim().ends_with("exit 0"), "{output:?}");
}

#[tokio::test]
async fn a_successor_takes_the_admin_listener_over_once_its_predecessor_has_ended() {
    if missing("python3") {
        return;
    }
    let scratch = Scratch::new();
    let mut supervisor = std::process::Command::new("python3");
    supervisor.arg(repository().join("tests/suites/real/successor.py")).arg(witgate()).arg(scratch.path());
    let output = tokio::task::spawn_blocking(move || supervisor.output().expect("Python can be run"));
    let output = output.await.expect("the supervisor ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text, "both serve\nfirst 0\ntaken over\nsecond 0\n", "{output:?}");
}
