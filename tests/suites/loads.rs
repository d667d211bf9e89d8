//! Requests to the control plane while a load is in progress: draining, putting plugins back, further reloads.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use witgate_tests::{Gateway, Origin, Scratch, eventually, guest, slow_to_compile};

/// Compiling this takes longer than any wait of a test.
const FOR_EVER: u32 = 20_000;

/// Compiling this takes long enough to do something meanwhile.
const A_WHILE: u32 = 2_000;

/// Two bindings: `mark` marks responses with its version, `other` does nothing.
const CONFIG: &str = "[gateway]\nplugins = [\"mark\", \"other\"]\ncache_folder = \"off\"\n\
                      [plugins.mark]\n[bindings.mark]\n[plugins.other]\n[bindings.other]\n";

fn answering() -> String {
    format!("{CONFIG}[[routes]]\npath = \"/*\"\nrespond = {{ body = \"hello\" }}\n")
}

async fn start(config: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    scratch.install(&guest("idle"), "other");
    Gateway::start(scratch, config).await
}

/// Replaces `other` by a component that takes a while to compile, and waits until the load is in progress.
async fn begin_slow_load(gateway: &Gateway, size: u32) {
    let component = std::fs::read(guest("idle")).expect("a component");
    gateway.scratch.write("plugins/other.wasm", slow_to_compile(&component, size));
    eventually("a load under way", async || is_busy(gateway).await).await;
}

async fn is_busy(gateway: &Gateway) -> bool {
    !gateway.admin_get("/status").await.json()["busy"].is_null()
}

async fn mark(gateway: &Gateway) -> String {
    gateway.client().await.get("/", &[]).await.header("x-mark").to_owned()
}

/// Puts another version of `mark` in service.
async fn replace_mark(gateway: &Gateway, name: &str) {
    let before = gateway.version().await;
    gateway.scratch.install(&guest(name), "mark");
    eventually("the new version", async || gateway.version().await > before).await;
}

/// An origin whose responses end only when the test allows it.
async fn held_origin(go: tokio::sync::watch::Receiver<bool>) -> Origin {
    Origin::serving(move |_| {
        let go = go.clone();
        async move {
            let pieces = futures_util::stream::unfold((0, go), |(sent, mut go)| async move {
                match sent {
                    0 => Some((Ok(Frame::data(Bytes::from("first "))), (1, go))),
                    1 => {
                        go.wait_for(|go| *go).await.ok()?;
                        Some((Ok(Frame::data(Bytes::from("last"))), (2, go)))
                    }
                    _ => None,
                }
            });
            Response::new(StreamBody::new(pieces).boxed_unsync())
        }
    })
    .await
}

#[tokio::test]
async fn one_term_during_a_slow_load_with_many_reloads_waiting_loses_nothing() {
    let (go, held) = tokio::sync::watch::channel(false);
    let origin = held_origin(held).await;
    let upstream = format!(
        "{CONFIG}[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n[upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    );
    let mut gateway = start(&upstream).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(gateway.address()).await.expect("a connection");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("sent");
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.expect("a response begins");
        assert_eq!(&first, b"HTTP/1.1 200");
        streams.push(stream);
    }
    begin_slow_load(&gateway, FOR_EVER).await;
    let waiting: Vec<_> = (0..150)
        .map(|_| {
            gateway.signal(Signal::HUP);
            let socket = gateway.scratch.path().join("admin.sock");
            tokio::spawn(async move {
                let mut admin = witgate_tests::Client::unix(&socket).await.expect("the admin socket");
                admin.post("/reload", &[], "").await
            })
        })
        .collect();
    eventually("the reloads to wait", async || {
        gateway.admin_get("/status").await.json()["busy"]["waiting"].as_u64() >= Some(150)
    })
    .await;

    let begun = Instant::now();
    gateway.signal(Signal::TERM);
    eventually("readiness to fail", async || gateway.admin_get("/readyz").await.status == 503).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "it failed after {:?}", begun.elapsed());
    for reload in waiting {
        let reply = reload.await.expect("a response");
        assert_eq!(reply.status, 503, "{}", reply.text());
        assert!(reply.text().contains("shutting down"), "{}", reply.text());
    }
    let late = gateway.admin_post("/reload").await;
    assert_eq!(late.status, 503);
    assert!(late.text().contains("draining"), "{}", late.text());

    go.send(true).expect("the origin listens");
    for mut stream in streams {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("a clean end");
        assert!(text.contains("first ") && text.contains("last"), "{text}");
        assert!(text.ends_with("0\r\n\r\n"), "{text}");
    }
    assert_eq!(gateway.exit().await.code(), Some(0), "{}", gateway.output());
}

#[tokio::test]
async fn a_version_that_traps_is_taken_back_while_another_plugin_compiles() {
    let gateway = start(&answering()).await;
    assert_eq!(mark(&gateway).await, "one");
    replace_mark(&gateway, "mark-trapping").await;
    begin_slow_load(&gateway, FOR_EVER).await;
    eventually("the version before", async || mark(&gateway).await == "one").await;
    assert!(is_busy(&gateway).await, "the load goes on meanwhile");
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["bindings"][0]["state"], "reverted", "{status}");
}

#[tokio::test]
async fn a_rollback_waits_for_no_load_and_no_load_undoes_it() {
    let gateway = start(&answering()).await;
    replace_mark(&gateway, "mark-two").await;
    assert_eq!(mark(&gateway).await, "two");
    begin_slow_load(&gateway, A_WHILE).await;
    let reply = gateway.admin_post("/plugins/mark/rollback").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(is_busy(&gateway).await, "the load goes on meanwhile");
    assert_eq!(mark(&gateway).await, "one");

    let digest = async || gateway.admin_get("/status").await.json()["bindings"][1]["digest"].clone();
    let before = digest().await;
    eventually("the load to end", async || !is_busy(&gateway).await).await;
    assert_ne!(digest().await, before, "what it loaded is in service");
    assert_eq!(mark(&gateway).await, "one");
    assert_eq!(gateway.admin_get("/status").await.json()["bindings"][0]["state"], "rolled-back");
}

#[tokio::test]
async fn reloads_during_a_load_become_one_and_everybody_is_told() {
    let gateway = start(&answering()).await;
    let loads = async || gateway.metric("witgate_reloads_total", &[]).await;
    let before = loads().await;
    begin_slow_load(&gateway, A_WHILE).await;
    let asked: Vec<_> = (0..100)
        .map(|_| {
            let socket = gateway.scratch.path().join("admin.sock");
            tokio::spawn(async move {
                let mut admin = witgate_tests::Client::unix(&socket).await.expect("the admin socket");
                admin.post("/reload", &[], "").await
            })
        })
        .collect();
    for reload in asked {
        let reply = reload.await.expect("a response");
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(reply.text().contains("admin request ("), "{}", reply.text());
    }
    // The slow load, one load for all requests that came meanwhile, and perhaps one for requests that came after
    // the second load had begun.
    assert!(loads().await <= before + 3.0, "{} loads", loads().await - before);
}
