//! What plugins do beside requests, in gateways as processes of their own: they see finished exchanges, are called by the clock,
//! and read files that change.

use rustix::process::Signal;
use witgate_tests::{Gateway, Origin, Scratch, eventually, guest};

/// A gateway with one plugin that tells the upstream `collector` what it sees, and when it is called by the clock.
fn config(origin: &Origin, collector: &Origin) -> String {
    format!(
        "[gateway]\nworkers = 2\nplugins = [\"b\"]\n\
         [data.table]\nfile = \"table\"\n\
         [plugins.background]\nfile = \"background.wasm\"\nunstable = true\n\
         [bindings.b]\nplugin = \"background\"\ntick = \"1h\"\n\
         settings = {{ act = \"fetch\", checks = \"table\" }}\n\
         grants = {{ fetch = [\"collector\"], store = [], data = [\"table\"], headers = [\"x-seen\"] }}\n\
         budget = {{ cpu = \"300ms\", wall = \"20s\" }}\n\
         [[routes]]\nname = \"all\"\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [upstreams.collector]\nendpoints = [\"{}\"]\n",
        origin.address(),
        collector.address()
    )
}

async fn start(origin: &Origin, collector: &Origin) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("background"), "background");
    scratch.write("table", b"good table");
    Gateway::start(scratch, &config(origin, collector)).await
}

/// The lines that the collector was told at a path.
fn told(collector: &Origin, path: &str) -> Vec<String> {
    let seen = collector.seen().into_iter().filter(|seen| seen.uri.path() == path);
    seen.flat_map(|seen| {
        String::from_utf8_lossy(&seen.body).lines().map(str::to_owned).collect::<Vec<String>>()
    })
    .collect()
}

#[tokio::test]
async fn every_exchange_that_ended_is_told_before_the_process_ends() {
    let (origin, collector) = (Origin::named("origin").await, Origin::named("collector").await);
    let mut gateway = start(&origin, &collector).await;
    let mut client = gateway.client().await;
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}?token=secret"), &[]).await.status, 200);
    }
    drop(client);
    gateway.signal(Signal::TERM);
    let status = gateway.exit().await;
    let output = gateway.output();
    assert!(status.success(), "{output}");
    let lines = told(&collector, "/seen");
    assert_eq!(lines.len(), 20, "{lines:?}\n{output}");
    assert!(lines.iter().any(|line| line.starts_with("all GET /7 200 Ending::Complete 0 ")), "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("b/rate-limiting") && !line.contains("secret")), "{lines:?}");
    assert_eq!(told(&collector, "/ticks").len(), 1, "once a gateway, however many cores it has");
}

#[tokio::test]
async fn a_changed_file_reaches_the_plugin_and_a_bad_one_does_not() {
    let (origin, collector) = (Origin::named("origin").await, Origin::named("collector").await);
    let gateway = start(&origin, &collector).await;
    let reads = async |bytes: usize| {
        let mut client = gateway.client().await;
        eventually("the plugin to use the file", async || {
            assert_eq!(client.get("/", &[]).await.status, 200);
            told(&collector, "/seen").last().is_some_and(|line| line.ends_with(&format!("checked=Some({bytes})")))
        })
        .await;
    };
    reads(10).await;
    gateway.scratch.write("table", b"good longer table");
    reads(17).await;

    gateway.scratch.write("table", b"bad");
    eventually("the plugin to refuse it", async || {
        let status = gateway.admin_get("/status").await.json();
        status["bindings"][0]["state"] == "last-good"
            && status["bindings"][0]["problem"].as_str().unwrap_or_default().contains("the table is malformed")
    })
    .await;
    reads(17).await;

    std::fs::remove_file(gateway.scratch.path().join("table")).expect("the file is there");
    eventually("the missing file to be told", async || {
        let problems = gateway.admin_get("/status").await.json()["last_change"]["problems"].to_string();
        problems.contains("data file `table`") && problems.contains("last good contents")
    })
    .await;
    reads(17).await;

    gateway.scratch.write("table", b"good again");
    reads(10).await;
}
