//! Real servers behind a listener for TCP, with their own clients.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{Gateway, RedisServer, Scratch, eventually, free_port, missing};

use super::config;

#[tokio::test]
async fn redis_is_used_through_the_gateway() {
    let Some(server) = RedisServer::start(&[&["save", ""]]) else { return };
    let address = server.address().parse().expect("an address");
    let health = "health = { tcp = { send = \"PING\\r\\n\", expect = \"+PONG\" }, interval = \"200ms\" }\n";
    let gateway = Gateway::start(Scratch::new(), &config(&[address], health)).await;
    let port = gateway.listener("db").port().to_string();
    let ask = |command: &[&str]| {
        let output =
            Command::new("redis-cli").args(["-p", &port]).args(command).stdin(Stdio::null()).output();
        String::from_utf8_lossy(&output.expect("redis-cli can be run").stdout).trim_end().to_owned()
    };
    assert_eq!(ask(&["SET", "key", "value"]), "OK");
    assert_eq!(server.ask(&["GET", "key"]), "value");
    let big = "v".repeat(500_000);
    server.ask(&["SETRANGE", "big", "499999", "v"]);
    assert_eq!(ask(&["STRLEN", "big"]), big.len().to_string());
    assert_eq!(ask(&["GET", "big"]).len(), big.len());
}

/// A PostgreSQL of Debian with its data in a scratch folder. It ends with this.
struct Postgres(Child);

impl Postgres {
    /// The folder of the newest version's programs.
    fn programs() -> Option<std::path::PathBuf> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
        versions.filter_map(|version| Some(version.ok()?.path().join("bin"))).max()
    }

    fn start(folder: &Path, port: u16) -> Option<Postgres> {
        if missing("psql") {
            return None;
        }
        let programs = Postgres::programs().expect("PostgreSQL has its programs in a folder of its version");
        let data = folder.join("data");
        std::fs::create_dir(&data).expect("a folder");
        // PostgreSQL does not run as root.
        let user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"];
        succeed(Command::new("chown").args(["-R", "postgres"]).arg(folder));
        succeed(
            Command::new(user[0])
                .args(&user[1..])
                .arg(programs.join("initdb"))
                .args(["--auth=trust", "--no-sync", "--username=test", "-D"])
                .arg(&data),
        );
        let child = Command::new(user[0])
            .args(&user[1..])
            .arg(programs.join("postgres"))
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-c", "fsync=off", "-c"])
            .arg(format!("unix_socket_directories={}", folder.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres can be run");
        Some(Postgres(child))
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // A fast shutdown, which also ends the processes that it has started.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let _ = self.0.wait();
    }
}

fn succeed(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().expect("the program can be run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

#[tokio::test]
async fn postgresql_is_used_through_the_gateway() {
    let folder = tempfile::Builder::new().prefix("witgate-postgres-").tempdir().expect("a scratch folder");
    let port = free_port();
    let Some(_server) = Postgres::start(folder.path(), port) else { return };
    let gateway = Gateway::start(Scratch::new(), &config(&[([127, 0, 0, 1], port).into()], "")).await;
    let through = gateway.listener("db").port().to_string();
    let query = |sql: &str| {
        let output = Command::new("psql")
            .args(["-h", "127.0.0.1", "-p", &through, "-U", "test", "-d", "postgres", "-Atc", sql])
            .stdin(Stdio::null())
            .output()
            .expect("psql can be run");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    eventually("PostgreSQL answers", async || query("select 1") == "1").await;
    assert_eq!(query("select sum(n) from generate_series(1, 100000) n"), "5000050000");
    assert_eq!(query("select repeat('x', 300000)").len(), 300_000);
}
