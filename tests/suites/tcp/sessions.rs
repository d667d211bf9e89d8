//! Plain connections: bytes, ends, limits, reloads, drains, what is recorded.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Gateway, Scratch, eventually};

use super::{Service, config, connect, expect, line, rest};

/// The close of this stream is a reset.
fn reset(stream: TcpStream) {
    let linger = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    linger.expect("an open socket");
    drop(stream);
}

#[tokio::test]
async fn the_server_may_speak_first_and_each_side_ends_its_own_direction() {
    let service = Service::greeting("welcome").await;
    let gateway = Gateway::start(Scratch::new(), &config(&[service.address], "")).await;
    let mut client = connect(&gateway, "db").await;
    expect(&mut client, "welcome").await;
    client.write_all(b"one").await.expect("room");
    expect(&mut client, "one").await;
    let much = vec![b'x'; 3_000_000];
    let (mut reader, mut writer) = client.split();
    let mut came = Vec::new();
    let writing = async {
        writer.write_all(&much).await.expect("room");
        writer.shutdown().await.expect("a half-close");
    };
    let (_, read) = tokio::join!(writing, reader.read_to_end(&mut came));
    read.expect("the other direction stays open");
    assert!(came == much);
    let line = line(&gateway, |line| line["ended"] == "closed").await;
    assert_eq!((&line["bytes_in"], &line["bytes_out"]), (&3_000_003.into(), &3_000_010.into()));
    assert_eq!((&line["route"], &line["upstream"]), (&"database".into(), &"database".into()));
    assert_eq!((&line["endpoint"], &line["attempts"]), (&service.address.to_string().into(), &1.into()));
    assert_eq!((&line["protocol"], line["connect_ms"].is_number()), (&"tcp".into(), true));
    let labels = ["listener=\"db\"", "route=\"database\"", "upstream=\"database\""];
    assert!((gateway.metric("witgate_tcp_received_bytes_total", &labels).await - 3_000_003.0).abs() < 0.5);
    assert!((gateway.metric("witgate_tcp_session_duration_seconds_count", &labels).await - 1.0).abs() < 0.5);
    assert!(gateway.metric("witgate_tcp_sessions_open", &labels).await.abs() < 0.5);
}

#[tokio::test]
async fn a_reset_is_passed_on_in_both_directions() {
    let (told, mut ends) = tokio::sync::mpsc::channel(4);
    let service = Service::with(move |mut stream| {
        let told = told.clone();
        async move {
            let mut first = [0; 5];
            stream.read_exact(&mut first).await.expect("a word");
            if &first == b"reset" {
                return reset(stream);
            }
            stream.write_all(b"ready").await.expect("room");
            let end = stream.read(&mut first).await;
            let _ = told.send(end.map_err(|error| error.kind())).await;
        }
    })
    .await;
    let gateway = Gateway::start(Scratch::new(), &config(&[service.address], "")).await;
    let mut client = connect(&gateway, "db").await;
    client.write_all(b"hello").await.expect("room");
    expect(&mut client, "ready").await;
    reset(client);
    let end = ends.recv().await.expect("the service's connection ends");
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    line(&gateway, |line| line["ended"] == "client-reset").await;

    let mut client = connect(&gateway, "db").await;
    client.write_all(b"reset").await.expect("room");
    let (_, end) = rest(&mut client).await;
    assert_eq!(end.map_err(|error| error.kind()), Err(std::io::ErrorKind::ConnectionReset));
    line(&gateway, |line| line["ended"] == "upstream-reset").await;
}

#[tokio::test]
async fn the_next_endpoint_takes_what_the_first_refuses() {
    let service = Service::greeting("welcome").await;
    // Nobody listens on the port of a service that is gone.
    let gone = Service::greeting("").await.address;
    let gateway = Gateway::start(Scratch::new(), &config(&[gone, service.address], "")).await;
    for _ in 0..6 {
        let mut client = connect(&gateway, "db").await;
        expect(&mut client, "welcome").await;
    }
    let line = line(&gateway, |line| line["attempts"] == 2).await;
    assert_eq!(line["endpoint"], service.address.to_string());
}

#[tokio::test]
async fn a_session_that_cannot_be_opened_is_closed_and_counted() {
    let gone = Service::greeting("").await.address;
    let gateway = Gateway::start(Scratch::new(), &config(&[gone], "")).await;
    let (came, end) = rest(&mut connect(&gateway, "db").await).await;
    assert!(came.is_empty() && end.is_ok(), "{end:?}");
    let line = line(&gateway, |line| line["ended"] == "fault").await;
    assert_eq!(line["fault"], "upstream-unreachable");
    assert!(gateway.metric("witgate_faults_total", &["code=\"upstream-unreachable\""]).await > 0.5);
}

#[tokio::test]
async fn an_upstream_has_no_more_sessions_than_connections_are_allowed() {
    let service = Service::greeting("welcome").await;
    let more = "max_connections = 2\nmax_pending = 1\npending_timeout = \"30s\"\n";
    let gateway = Gateway::start(Scratch::new(), &config(&[service.address], more)).await;
    let (mut one, mut two) = (connect(&gateway, "db").await, connect(&gateway, "db").await);
    expect(&mut one, "welcome").await;
    expect(&mut two, "welcome").await;
    let mut waiting = connect(&gateway, "db").await;
    eventually("one connection waits", async || {
        gateway.admin_get("/upstreams").await.text().replace(' ', "").contains("\"pending\":1")
    })
    .await;
    eventually("the next one is refused", async || {
        let mut refused = connect(&gateway, "db").await;
        let read = tokio::time::timeout(Duration::from_millis(200), refused.read(&mut [0])).await;
        matches!(read, Ok(Ok(0)))
    })
    .await;
    line(&gateway, |line| line["fault"] == "upstream-overloaded").await;
    drop(one);
    expect(&mut waiting, "welcome").await;
}

#[tokio::test]
async fn sessions_end_when_they_are_idle_or_too_old() {
    let service = Service::greeting("welcome").await;
    let text = config(&[service.address], "idle_timeout = \"400ms\"\n");
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let (mut client, begun) = (connect(&gateway, "db").await, Instant::now());
    expect(&mut client, "welcome").await;
    assert!(rest(&mut client).await.1.is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(400));
    line(&gateway, |line| line["ended"] == "idle").await;
    let text =
        config(&[service.address], "").replace("upstream = \"d", "timeout = \"300ms\"\nupstream = \"d");
    gateway.reconfigure(&Gateway::completed(&text)).await;
    assert!(rest(&mut connect(&gateway, "db").await).await.1.is_ok());
    line(&gateway, |line| line["ended"] == "timed-out").await;
}

#[tokio::test]
async fn sessions_go_on_through_reloads_and_end_in_the_drain() {
    let (before, after) = (Service::greeting("before").await, Service::greeting("after!").await);
    let drain = "[gateway]\ndrain_timeout = \"700ms\"\n";
    let text = |service: &Service, more: &str| format!("{drain}{}", config(&[service.address], more));
    let mut gateway = Gateway::start(Scratch::new(), &text(&before, "")).await;
    let mut old = connect(&gateway, "db").await;
    expect(&mut old, "before").await;
    // Other endpoints, and other settings of the listener.
    let listener = "protocol = \"tcp\"\naddress";
    let changed = text(&after, "").replace(listener, &format!("limits = {{ connections = 50 }}\n{listener}"));
    gateway.reconfigure(&Gateway::completed(&changed)).await;
    let mut new = connect(&gateway, "db").await;
    expect(&mut new, "after!").await;
    // Longer than `drain_timeout`: a reload does not cut sessions.
    tokio::time::sleep(Duration::from_millis(1000)).await;
    old.write_all(b"still here").await.expect("an open session");
    expect(&mut old, "still here").await;

    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    new.write_all(b"draining").await.expect("an open session");
    expect(&mut new, "draining").await;
    for client in [&mut old, &mut new] {
        let _ = rest(client).await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(700), "they have the time of the drain");
    gateway.exit().await;
    let log = std::fs::read_to_string(gateway.scratch.path().join("access.log")).expect("the log");
    assert_eq!(log.matches("\"fault\":\"draining\"").count(), 2, "{log}");
}

#[tokio::test]
async fn a_listener_that_is_removed_gives_its_sessions_the_time_of_the_drain() {
    let service = Service::greeting("welcome").await;
    let text = format!("[gateway]\ndrain_timeout = \"500ms\"\n{}", config(&[service.address], ""));
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let mut client = connect(&gateway, "db").await;
    expect(&mut client, "welcome").await;
    let begun = Instant::now();
    let without = "[gateway]\ndrain_timeout = \"500ms\"\n[[routes]]\npath = \"/*\"\nrespond = {}\n";
    gateway.reconfigure(&Gateway::completed(without)).await;
    let _ = rest(&mut client).await;
    assert!(begun.elapsed() >= Duration::from_millis(400));
}

#[tokio::test]
async fn checks_and_balancing_hold_for_connections() {
    let (healthy, silent) = (Service::greeting("welcome").await, Service::telling().await);
    let more = "balancer = \"least-requests\"\n\
                health = { tcp = { expect = \"welcome\" }, interval = \"100ms\", timeout = \"300ms\", unhealthy_threshold = 1 }\n";
    let gateway = Gateway::start(Scratch::new(), &config(&[silent.address, healthy.address], more)).await;
    eventually("the checks have found the silent one", async || {
        gateway.admin_get("/upstreams").await.text().contains("\"unhealthy\"")
    })
    .await;
    for _ in 0..4 {
        expect(&mut connect(&gateway, "db").await, "welcome").await;
    }
}

#[tokio::test]
async fn an_endpoint_that_resets_before_its_first_byte_is_ejected() {
    let (works, resets) =
        (Service::greeting("welcome").await, Service::with(|stream| async { reset(stream) }).await);
    let gateway = Gateway::start(Scratch::new(), &config(&[resets.address, works.address], "")).await;
    let mut welcomed = 0;
    for _ in 0..60 {
        let mut client = connect(&gateway, "db").await;
        let _ = client.write_all(b"x").await;
        let mut came = [0; 7];
        welcomed += usize::from(client.read_exact(&mut came).await.is_ok());
    }
    assert!(welcomed >= 45, "{welcomed} of 60 were served");
}

#[tokio::test]
async fn idle_sessions_cost_little_memory() {
    const SESSIONS: usize = 400;
    let service = Service::greeting("welcome").await;
    let more = "max_connections = 0\nidle_timeout = \"off\"\n";
    let gateway = Gateway::start(Scratch::new(), &config(&[service.address], more)).await;
    let mut warm = connect(&gateway, "db").await;
    expect(&mut warm, "welcome").await;
    let before = gateway.resident();
    let mut clients = Vec::new();
    for _ in 0..SESSIONS {
        let mut client = connect(&gateway, "db").await;
        expect(&mut client, "welcome").await;
        clients.push(client);
    }
    let each = gateway.resident().saturating_sub(before) / SESSIONS as u64;
    assert!(each < 16 * 1024, "{each} bytes for each session");
}
