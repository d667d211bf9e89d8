//! Clients that disconnect early, and responses that come early.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use witgate_tests::{Gateway, Origin, Scratch, eventually, guest, missing, repository};

/// An origin that never responds to `/slow`, and how often that was requested.
async fn slow_origin() -> (Origin, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let count = asked.clone();
    let origin = Origin::serving(move |request| {
        let count = count.clone();
        async move {
            if request.uri().path() == "/slow" {
                count.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            Response::new(Full::from("fast").boxed_unsync())
        }
    });
    (origin.await, asked)
}

async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().expect("the client can be run"));
    let output = output.await.expect("the client ends");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

fn curl(arguments: &[&str], url: String) -> Command {
    let mut command = Command::new("curl");
    command.args(["-sS"]).args(arguments).arg(url);
    command
}

#[tokio::test]
async fn aborted_requests_give_their_places_back() {
    if missing("curl") {
        return;
    }
    let (origin, _) = slow_origin().await;
    let text = format!(
        "[telemetry]\naccess_log = \"access.log\"\n[[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\nmax_requests = 5\nmax_pending = 0\n",
        origin.address()
    );
    let mut gateway = Gateway::start(Scratch::new(), &text).await;
    let url = |path: &str| format!("http://{}{path}", gateway.address());
    let aborted = (0..5).map(|_| run(curl(&["--max-time", "1"], url("/slow"))));
    futures_util::future::join_all(aborted).await;
    eventually("a request to find its place", async || run(curl(&[], url("/"))).await == "fast").await;
    let log = gateway.scratch.path().join("access.log");
    eventually("five lines of clients that left", async || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let left = |line: &&str| line.contains("\"status\":499") && line.contains("\"client-gone\"");
        lines.lines().filter(left).count() == 5
    })
    .await;
    // None of the requests is left to wait for.
    gateway.signal(rustix::process::Signal::TERM);
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn who_leaves_while_a_plugin_waits_is_noticed() {
    let (origin, asked) = slow_origin().await;
    let scratch = Scratch::new();
    scratch.install(&guest("fetcher"), "fetcher");
    let text = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"fetcher\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n[plugins.fetcher]\n[bindings.fetcher]\ngrants = {{ fetch = [\"origin\"] }}\n\
         budget = {{ wall = \"20s\" }}\n",
        origin.address()
    );
    let gateway = Gateway::start(scratch, &text).await;
    let client = tokio::net::TcpStream::connect(gateway.address()).await.expect("a connection");
    let mut client = client.into_std().expect("a socket");
    client.set_nonblocking(false).expect("a socket");
    std::io::Write::write_all(&mut client, b"GET / HTTP/1.1\r\nHost: a\r\nX-Fetch: GET origin /slow\r\n\r\n")
        .expect("room");
    let open = async || gateway.metric("witgate_core_connections", &[]).await;
    eventually("the connection", async || open().await > 0.0).await;
    eventually("the plugin to ask", async || asked.load(Ordering::SeqCst) > 0).await;
    client.shutdown(std::net::Shutdown::Write).expect("half a close");
    let begun = std::time::Instant::now();
    eventually("the connection to be gone", async || open().await == 0.0).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
}

fn refusing() -> &'static str {
    "[[routes]]\npath = \"/*\"\nrespond = { status = 200, body = \"never\" }\nbody_limit = \"1KiB\"\n"
}

#[tokio::test]
async fn early_answers_reach_python_and_node() {
    let gateway = Gateway::start(Scratch::new(), refusing()).await;
    for (program, script) in [("python3", "early.py"), ("node", "early.mjs")] {
        if missing(program) {
            continue;
        }
        let mut command = Command::new(program);
        command.arg(repository().join("tests/suites/real").join(script)).arg(gateway.address().to_string());
        let told = run(command).await;
        assert_eq!(told.matches("413").count(), 10, "{program}: {told}");
    }
}

#[tokio::test]
async fn early_answers_reach_curl() {
    if missing("curl") {
        return;
    }
    let scratch = Scratch::new();
    let body = scratch.write("body", Bytes::from(vec![b'x'; 8 << 20]));
    let gateway = Gateway::start(scratch, refusing()).await;
    let body = format!("@{}", body.display());
    // Not over HTTP/2: curl 7.88 drops a response whose stream is reset with NO_ERROR after it, which RFC 9113
    // section 8.1 allows.
    for version in ["--http1.1", "--http1.0"] {
        // Without `Expect`, with which curl would wait before it sends the body.
        let arguments =
            [version, "--data-binary", &body, "-H", "expect:", "-o", "/dev/null", "-w", "%{http_code}"];
        for _ in 0..5 {
            let told = run(curl(&arguments, format!("http://{}/", gateway.address()))).await;
            assert!(told.starts_with("413"), "{version}: {told}");
        }
    }
}
