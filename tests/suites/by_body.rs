//! A gate and decisions on a body, over real connections: what is read, what is refused, and what goes upstream.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Client, Gateway, Origin, Scratch, eventually, guest};

fn config(origin: &Origin, reads: &str) -> String {
    format!(
        r#"
[gateway]
body_memory = "1MiB"

[plugins.by_body]
unstable = true

[bindings.by_body]
settings = {{ reads = "{reads}" }}

[[routes]]
path = "/*"
auth = "optional"
plugins = ["by_body"]
upstream = "origin"

[upstreams.origin]
endpoints = ["{}"]
retry = {{ attempts = 2 }}
"#,
        origin.address()
    )
}

async fn start(origin: &Origin, reads: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("by-body"), "by_body");
    Gateway::start(scratch, &config(origin, reads)).await
}

/// Sends a request with a chunked body, in pieces; returns the status and the rest of the response.
async fn chunked(gateway: &Gateway, head: &str, pieces: &[&str]) -> (String, String) {
    let mut stream = TcpStream::connect(gateway.address()).await.expect("the listener accepts");
    let head = format!(
        "POST /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n{head}transfer-encoding: chunked\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("a head fits");
    for piece in pieces {
        let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
        // A gateway that has refused the body need not read the rest.
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n").await;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    (answer.split(' ').nth(1).unwrap_or_default().to_owned(), answer)
}

#[tokio::test]
async fn a_gate_answers_before_everything_else_and_no_body_is_read_for_it() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw whole 100").await;
    let mut client = gateway.client().await;
    let reply = client.get("/", &[("x-do", "close")]).await;
    assert_eq!((reply.status.as_u16(), reply.text()), (503, "closed"));
    assert_eq!(client.get("/", &[]).await.status, 200);
    for _ in 0..5 {
        assert_eq!(client.get("/", &[("x-do", "close")]).await.status, 503);
    }
    let calls =
        gateway.metric("witgate_plugin_calls_total", &["binding=\"by_body\"", "phase=\"gate\""]).await;
    assert_eq!(calls, 2.0, "answers are remembered");
    assert_eq!(client.get("/", &[("x-do", "trap")]).await.status, 503);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_whole_body_is_seen_and_what_is_longer_never_passes() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw whole 100").await;
    let pieces = ["0123456789"; 10];
    assert_eq!(chunked(&gateway, "", &pieces).await.0, "200");
    assert_eq!(origin.last().body.len(), 100);
    let padded: Vec<&str> = pieces.iter().copied().chain(["x"]).collect();
    assert_eq!(chunked(&gateway, "", &padded).await.0, "413");
    assert_eq!(chunked(&gateway, "", &["0123456789"; 10_000]).await.0, "413");
    let mut http2 = Client::http2(gateway.address()).await;
    assert_eq!(http2.post("/a", &[], vec![b'x'; 101]).await.status, 413);
    assert_eq!(http2.post("/a", &[], "bad").await.text(), "3 true bad");
    let (status, answer) = chunked(&gateway, "", &["b", "ad", " but in pieces"]).await;
    assert!(status == "422" && answer.contains("17 true bad but in pieces"), "{answer}");
    let none = chunked(&gateway, "x-do: show\r\n", &[]).await.1;
    assert!(none.contains("0 true"), "{none}");
    assert_eq!(origin.seen().len(), 1, "nothing else passed");
}

#[tokio::test]
async fn a_peek_sees_the_beginning_and_the_received_bytes_reach_the_origin_unchanged() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw peek 4").await;
    let mut client = gateway.client().await;
    let body = "beta and much more".repeat(1000);
    let headers = [("content-encoding", "not-even-a-coding"), ("content-digest", "sha-256=:AA==:")];
    assert_eq!(client.post("/a", &headers, body.clone()).await.status, 200);
    let seen = origin.last();
    assert_eq!((seen.uri.path(), seen.body.len()), ("/beta", body.len()), "routed by the body");
    assert_eq!(seen.header("content-length"), body.len().to_string());
    assert_eq!(seen.header("content-encoding"), "not-even-a-coding");
    assert_eq!(seen.header("content-digest"), "sha-256=:AA==:");
    assert_eq!(chunked(&gateway, "", &["al", "pha ", "and more"]).await.0, "200");
    let seen = origin.last();
    assert_eq!((seen.uri.path(), &seen.body[..]), ("/a", &b"alpha and more"[..]));
}

#[tokio::test]
async fn slow_bodies_of_many_clients_stay_within_the_total_and_others_are_told_to_come_back() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw whole 700000").await;
    let scratch = gateway.scratch.config();
    let raised = std::fs::read_to_string(scratch).expect("the configuration");
    let raised = raised
        .replace("[bindings.by_body]\n", "[bindings.by_body]\nbudget = { cpu = \"1s\", wall = \"5s\" }\n");
    gateway.reconfigure(&raised).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("the listener accepts");
        let head = "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 300000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.expect("a head fits");
        stream.write_all(&vec![b'x'; 250_000]).await.expect("the gateway reads it, or refuses the rest");
        slow.push(stream);
    }
    let used = async || gateway.metric("witgate_body_memory_bytes", &[]).await;
    eventually("the bodies are kept", async || used().await >= 900_000.0).await;
    let mut client = gateway.client().await;
    let reply = client.post("/a", &[], vec![b'y'; 200_000]).await;
    assert_eq!((reply.status.as_u16(), reply.header("retry-after")), (503, "1"));
    assert!(gateway.metric("witgate_body_memory_refused_total", &["purpose=\"plugin\""]).await >= 1.0);
    // What needs no memory for bodies is served, and so is everything once they are gone.
    assert_eq!(gateway.client().await.get("/", &[]).await.status, 200);
    drop(slow);
    eventually("the memory is free again", async || used().await == 0.0).await;
    assert_eq!(gateway.client().await.post("/a", &[], vec![b'y'; 200_000]).await.status, 200);
}

#[tokio::test]
async fn a_request_to_switch_protocols_is_refused_where_bodies_are_read_as_a_whole() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw whole 100").await;
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let answer = witgate_tests::raw(gateway.address(), request, Duration::from_millis(500)).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("upgrade-refused"), "{answer}");
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_plugin_that_uses_the_draft_is_refused_by_a_reload_without_unstable_and_the_last_good_one_serves() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin, "raw whole 100").await;
    let stable = std::fs::read_to_string(gateway.scratch.config()).expect("the configuration");
    std::fs::write(gateway.scratch.config(), stable.replace("unstable = true\n", ""))
        .expect("it can be written");
    eventually("the log says why", async || {
        gateway.output().contains("cannot be loaded: it uses a version of the contracts that is a draft")
    })
    .await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[("x-do", "close")]).await.status, 503);
    assert_eq!(client.post("/a", &[], "bad").await.status, 422);
}
