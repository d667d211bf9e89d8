//! Plugins, configuration and certificates change on disk while requests are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use http::Response;
use http_body_util::{BodyExt, Full};
use witgate_tests::{Client, Gateway, Origin, Scratch, echo_websocket, eventually, guest};

/// Two versions of one plugin that mark request and response with their version.
const MARKED: &str = "[plugins.mark]\n[bindings.mark]\n";

fn config(origin: &Origin) -> String {
    format!(
        "[telemetry]\naccess_log = \"off\"\n[gateway]\nplugins = [\"mark\"]\n{MARKED}\
         [[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nidle_timeout = \"1h\"\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

/// Echoes the mark that the plugin added to the request; accepts a WebSocket and echoes.
async fn marking_origin() -> Origin {
    Origin::serving(|request| async move {
        if request.headers().contains_key("upgrade") {
            return echo_websocket(request);
        }
        let mark = request.headers().get("x-mark").map(|value| value.as_bytes().to_vec()).unwrap_or_default();
        Response::new(Full::from(mark).boxed_unsync())
    })
    .await
}

#[tokio::test]
async fn the_first_plugin_may_come_with_a_reload_and_its_runtime_comes_with_it() {
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let with_plugin = config(&origin);
    let without = with_plugin.replace(MARKED, "").replace("plugins = [\"mark\"]", "");
    let gateway = Gateway::start(scratch, &without).await;
    let compiles = || gateway.threads().iter().any(|name| name == "witgate-compile");
    assert_eq!(gateway.client().await.get("/", &[]).await.text(), "");
    assert!(!compiles(), "{:?}", gateway.threads());

    gateway.reconfigure(&Gateway::completed(&with_plugin)).await;
    assert_eq!(gateway.client().await.get("/", &[]).await.text(), "one");
    assert!(compiles(), "{:?}", gateway.threads());
}

#[tokio::test]
async fn two_hundred_swaps_under_load_lose_nothing_and_mix_nothing() {
    const SWAPS: usize = 200;
    let (one, two) = (guest("mark-one"), guest("mark-two"));
    let good = [std::fs::read(&one).expect("a component"), std::fs::read(&two).expect("a component")];
    let half = good[0][..good[0].len() / 2].to_vec();
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&one, "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let address = gateway.address();

    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicUsize::new(0));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tokio::spawn(async move {
                let mut client = Client::http1(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let reply = client.get("/", &[]).await;
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    assert_eq!(reply.text(), reply.header("x-mark"), "request and response saw one version");
                    assert!(["one", "two"].contains(&reply.text()), "{}", reply.text());
                    done.fetch_add(1, Ordering::Relaxed);
                    // A steady load that leaves time for the other work: two cores serve, compile and test at
                    // once.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();

    let mut sockets = Vec::new();
    let mut warm = 0;
    for swap in 0..SWAPS {
        let (socket, _) =
            tokio_tungstenite::connect_async(format!("ws://{address}/")).await.expect("an upgrade");
        sockets.push(socket);
        let before = gateway.version().await;
        if swap % 2 == 0 {
            gateway.scratch.write("plugins/mark.wasm", &good[(swap / 2 + 1) % 2]);
            eventually("the new version in service", async || gateway.version().await > before).await;
        } else {
            let failed = gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await;
            gateway.scratch.write("plugins/mark.wasm", &half);
            eventually("the bad file to be refused", async || {
                gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await > failed
            })
            .await;
            assert_eq!(gateway.version().await, before, "a bad file changes nothing");
        }
        if swap == SWAPS / 4 {
            warm = gateway.resident();
        }
    }
    stop.store(true, Ordering::Relaxed);
    for task in load {
        task.await.expect("no request was lost");
    }
    assert!(done.load(Ordering::Relaxed) > SWAPS, "there was load");
    for socket in &mut sockets {
        socket.send("still here".into()).await.expect("sent");
        let echo = socket.next().await.expect("an echo").expect("a message");
        assert_eq!(echo.into_text().expect("text").as_str(), "still here");
    }
    drop(sockets);
    let after = gateway.resident();
    assert!(after < warm + (24 << 20), "memory is flat: {} MiB, then {} MiB", warm >> 20, after >> 20);
}

#[tokio::test]
async fn a_bad_file_leaves_the_old_one_serving_and_says_why() {
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let mut client = gateway.client().await;
    let component = std::fs::read(guest("mark-one")).expect("a component");
    let mut corrupt = component.clone();
    corrupt[component.len() / 2..component.len() / 2 + 64].fill(0xff);
    for (what, bytes) in [
        ("truncated", component[..component.len() - 100].to_vec()),
        ("corrupt", corrupt),
        ("empty", Vec::new()),
        ("a core module", b"\0asm\x01\0\0\0".to_vec()),
        ("text", b"not wasm at all".to_vec()),
    ] {
        let failed = gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await;
        gateway.scratch.write("plugins/mark.wasm", bytes);
        eventually(what, async || {
            gateway.metric("witgate_reloads_total", &["result=\"failed\""]).await > failed
        })
        .await;
        let status = gateway.admin_get("/status").await;
        assert!(status.text().contains("mark.wasm"), "{what}: status says why: {}", status.text());
        assert_eq!(client.get("/", &[]).await.text(), "one", "{what}: the old one serves");
    }
    gateway.scratch.install(&guest("mark-two"), "mark");
    eventually("the next good file", async || client.get("/", &[]).await.text() == "two").await;
}

#[tokio::test]
async fn the_ways_in_which_files_are_replaced_are_all_seen() {
    let origin = marking_origin().await;
    let (one, two) = (guest("mark-one"), guest("mark-two"));
    let scratch = Scratch::new();
    // As in Kubernetes: plugins/mark.wasm -> ..data/mark.wasm, ..data -> ..v1; an update swaps ..data.
    let folder = scratch.path().join("plugins");
    for (version, component) in [("..v1", &one), ("..v2", &two)] {
        std::fs::create_dir(folder.join(version)).expect("a folder");
        std::fs::copy(component, folder.join(version).join("mark.wasm")).expect("a copy");
    }
    std::os::unix::fs::symlink("..v1", folder.join("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/mark.wasm", folder.join("mark.wasm")).expect("a link");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/", &[]).await.text(), "one");

    std::os::unix::fs::symlink("..v2", folder.join("..new")).expect("a link");
    std::fs::rename(folder.join("..new"), folder.join("..data")).expect("a swap");
    eventually("Kubernetes' swap", async || client.get("/", &[]).await.text() == "two").await;

    // A file is overwritten in place, in pieces.
    std::fs::remove_file(folder.join("mark.wasm")).expect("removed");
    std::fs::copy(&one, folder.join("mark.wasm")).expect("a copy");
    eventually("a copy", async || client.get("/", &[]).await.text() == "one").await;
}

#[tokio::test]
async fn a_version_that_loads_and_then_traps_is_taken_back_by_itself() {
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let mut client = gateway.client().await;
    gateway.scratch.install(&guest("mark-trapping"), "mark");
    let mut failed = 0;
    eventually("the first failure of the new version", async || {
        failed += usize::from(client.get("/", &[]).await.status != 200);
        failed > 0
    })
    .await;
    eventually("the old version to be back", async || {
        let reply = client.get("/", &[]).await;
        reply.status == 200 && reply.text() == "one"
    })
    .await;
    let status = gateway.admin_get("/status").await;
    assert!(status.text().contains("revert"), "status tells of it: {}", status.text());
}

/// The version of the plugin in service, as `status` reports it.
async fn state(gateway: &Gateway) -> String {
    let status = gateway.admin_get("/status").await.json();
    status["bindings"][0]["state"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_version_that_traps_now_and_then_is_taken_back_and_next_to_nothing_is_lost() {
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let mut client = gateway.client().await;
    for number in 0..300 {
        assert_eq!(client.get(&format!("/sometimes/{number}"), &[]).await.text(), "one");
    }
    gateway.scratch.install(&guest("mark-trapping"), "mark");
    let (mut number, mut lost) = (0, 0);
    eventually("the new version to be taken back", async || {
        for _ in 0..10 {
            number += 1;
            lost += usize::from(client.get(&format!("/sometimes/{number}"), &[]).await.status != 200);
        }
        lost > 0 && state(&gateway).await == "reverted"
    })
    .await;
    assert!((5..30).contains(&lost), "{lost} of {number} requests were lost");
    for number in 0..300 {
        assert_eq!(client.get(&format!("/sometimes/{number}"), &[]).await.text(), "one");
    }
}

#[tokio::test]
async fn one_bad_file_is_taken_back_however_often_it_comes_and_no_rollback_goes_to_it() {
    let origin = marking_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    let mut client = gateway.client().await;
    for round in ["copied", "copied again", "forced"] {
        if round == "forced" {
            assert_eq!(gateway.admin_post("/reload?force=true").await.status, 200);
        } else {
            gateway.scratch.install(&guest("mark-one"), "mark");
            eventually("the good file in service", async || state(&gateway).await == "current").await;
            gateway.scratch.install(&guest("mark-trapping"), "mark");
        }
        let mut failed = 0;
        eventually(round, async || {
            failed += usize::from(client.get("/", &[]).await.status != 200);
            failed >= 5 && state(&gateway).await == "reverted"
        })
        .await;
        let refused = gateway.admin_post("/plugins/mark/rollback").await;
        assert_eq!(refused.status, 422, "{round}: {}", refused.text());
        assert!(refused.text().contains("no good version"), "{round}: {}", refused.text());
        for _ in 0..30 {
            assert_eq!(client.get("/", &[]).await.text(), "one", "{round}");
        }
    }
}

#[tokio::test]
async fn no_rollback_goes_to_a_version_that_failed_every_call_though_nothing_took_it_back() {
    let origin = marking_origin().await;
    let serves = async |gateway: &Gateway, mark: &str| {
        eventually(mark, async || gateway.client().await.get("/", &[]).await.text() == mark).await;
    };
    let all_answered = async |gateway: &Gateway, mark: &str| {
        let mut client = gateway.client().await;
        for _ in 0..40 {
            assert_eq!(client.get("/", &[]).await.text(), mark);
        }
    };
    let fails_always = async |gateway: &Gateway| {
        let mut client = gateway.client().await;
        for _ in 0..40 {
            assert_eq!(client.get("/", &[]).await.status, 503);
        }
    };
    // The first version after the start has no version before it, so it is not on trial.
    let scratch = Scratch::new();
    scratch.install(&guest("mark-trapping"), "mark");
    let gateway = Gateway::start(scratch, &config(&origin)).await;
    fails_always(&gateway).await;
    gateway.scratch.install(&guest("mark-one"), "mark");
    serves(&gateway, "one").await;
    let refused = gateway.admin_post("/plugins/mark/rollback").await;
    assert_eq!(refused.status, 422, "{}", refused.text());
    assert!(refused.text().contains("mostly answered"), "{}", refused.text());
    all_answered(&gateway, "one").await;

    // Trials are switched off.
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let without_trial = MARKED.replace("[bindings.mark]", "[bindings.mark]\nrevert.calls = 0");
    let gateway = Gateway::start(scratch, &config(&origin).replace(MARKED, &without_trial)).await;
    all_answered(&gateway, "one").await;
    replace_and_wait(&gateway, "mark-trapping").await;
    fails_always(&gateway).await;
    gateway.scratch.install(&guest("mark-two"), "mark");
    serves(&gateway, "two").await;
    let reply = gateway.admin_post("/plugins/mark/rollback").await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    all_answered(&gateway, "one").await;
}

/// Puts another version of `mark` in service.
async fn replace_and_wait(gateway: &Gateway, name: &str) {
    let before = gateway.version().await;
    gateway.scratch.install(&guest(name), "mark");
    eventually("the new version", async || gateway.version().await > before).await;
}
