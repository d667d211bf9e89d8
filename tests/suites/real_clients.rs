//! An unmodified application behind the gateway, requested by widely used clients.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use witgate_tests::{Gateway, Scratch, missing, repository};

/// A Flask application in a process of its own.
struct Flask {
    process: Child,
    port: u16,
}

impl Flask {
    /// `None` if Python or Flask is not installed (which does not occur in CI).
    fn start() -> Option<Self> {
        let python = python()?;
        let mut process = Command::new(python)
            .arg(repository().join("tests/suites/real/service.py"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python can be run");
        let output = process.stdout.take().expect("its output is ours");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("a line");
        let port = line.trim().parse().expect("the application tells its port");
        Some(Flask { process, port })
    }
}

impl Drop for Flask {
    fn drop(&mut self) {
        // Waiting for the killed process collects its exit status.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A Python with the client libraries: the environment made by CI, or the one that `PYTHON` names.
fn python() -> Option<PathBuf> {
    let made = repository().join("target/python/bin/python");
    let python = std::env::var_os("PYTHON").map_or(made, PathBuf::from);
    if python.is_file() {
        return Some(python);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} is missing, and in CI nothing is skipped",
        python.display()
    );
    eprintln!("skipped: no Python with httpx, aiohttp and flask (set PYTHON to one)");
    None
}

async fn gateway(flask: &Flask) -> Gateway {
    let text = format!(
        "[[routes]]\npath = \"/*\"\nupstream = \"flask\"\n[upstreams.flask]\nendpoints = [\"127.0.0.1:{}\"]\n",
        flask.port
    );
    Gateway::start(Scratch::new(), &text).await
}

/// Runs a client without blocking the async runtime of the test; returns what it printed.
async fn run(mut command: Command) -> String {
    let output = tokio::task::spawn_blocking(move || command.output().expect("the client can be run"));
    let output = output.await.expect("the client ends");
    let (text, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{text}{error}");
    text.into_owned()
}

#[tokio::test]
async fn python_clients_and_a_flask_application_agree() {
    let (Some(flask), Some(python)) = (Flask::start(), python()) else { return };
    let gateway = gateway(&flask).await;
    let mut command = Command::new(python);
    command.arg(repository().join("tests/suites/real/clients.py")).arg(gateway.address().to_string());
    assert!(run(command).await.contains("all clients agree"));
}

#[tokio::test]
async fn node_agrees() {
    if missing("node") {
        return;
    }
    let Some(flask) = Flask::start() else { return };
    let gateway = gateway(&flask).await;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/suites/real/client.mjs")).arg(gateway.address().to_string());
    assert!(run(command).await.contains("node agrees"));
}

#[tokio::test]
async fn curl_agrees_over_both_versions() {
    if missing("curl") {
        return;
    }
    let Some(flask) = Flask::start() else { return };
    let gateway = gateway(&flask).await;
    for version in ["--http1.1", "--http1.0", "--http2-prior-knowledge"] {
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", version]).arg(format!("http://{}/hello/curl", gateway.address()));
        assert!(run(command).await.contains("\"hello\":\"curl\""), "{version}");
        let mut command = Command::new("curl");
        command.args(["-sS", "--fail", version, "-F", "file=@Cargo.lock"]).current_dir(repository());
        command.arg(format!("http://{}/upload", gateway.address()));
        assert!(run(command).await.contains("\"size\""), "{version}");
    }
}
