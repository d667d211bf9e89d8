//! A real Redis, started by the test on a free port with its data in a scratch folder.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{DEADLINE, missing, pause};

/// How often a port is tried that was free a moment ago.
const TRIES: usize = 5;

/// A process of `redis-server`. It is killed when this is dropped.
pub struct RedisServer {
    child: Child,
    port: u16,
    options: Vec<String>,
    folder: TempDir,
    /// What `redis-cli` needs to be let in.
    login: Vec<String>,
}

impl RedisServer {
    /// A server with further options, written as in its configuration: `["save", ""]`. None where Redis is not installed.
    ///
    /// # Panics
    /// It does not start; or it is not installed in CI.
    pub fn start(options: &[&[&str]]) -> Option<RedisServer> {
        RedisServer::start_with(options, &[])
    }

    /// The same for a server that lets `redis-cli` in only with these arguments.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn start_with(options: &[&[&str]], login: &[&str]) -> Option<RedisServer> {
        if missing("redis-server") {
            return None;
        }
        let options: Vec<String> = options.iter().flat_map(|option| written(option)).collect();
        for _ in 0..TRIES {
            let (port, folder) = (free_port(), tempfile::tempdir().expect("a scratch folder"));
            let child = spawn(port, &options, folder.path());
            let login = login.iter().map(|part| (*part).to_owned()).collect();
            let mut server = RedisServer { child, port, options: options.clone(), folder, login };
            // If it does not answer, somebody else has taken the port meanwhile.
            if server.wait_until_it_answers() {
                return Some(server);
            }
        }
        panic!("redis-server does not start with {options:?}");
    }

    /// A sentinel that watches a master under the name `fleet` and may replace it by itself after half a second. None where
    /// Redis is not installed.
    ///
    /// # Panics
    /// As [`RedisServer::start`].
    pub fn sentinel(master: &RedisServer) -> Option<RedisServer> {
        let port = master.port.to_string();
        let sentinel = RedisServer::start_with(&[&["sentinel"]], &[])?;
        sentinel.ask(&["SENTINEL", "MONITOR", "fleet", "127.0.0.1", &port, "1"]);
        for (name, value) in [("down-after-milliseconds", "500"), ("failover-timeout", "2000")] {
            sentinel.ask(&["SENTINEL", "SET", "fleet", name, value]);
        }
        Some(sentinel)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder with its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it answers to a command, without the line break at the end.
    ///
    /// # Panics
    /// `redis-cli` cannot be run.
    pub fn ask(&self, command: &[&str]) -> String {
        let mut cli = Command::new("redis-cli");
        cli.args(["-p", &self.port.to_string(), "--no-auth-warning"]).args(&self.login).args(command);
        let output = cli.stdin(Stdio::null()).output().expect("redis-cli can be run");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Stops the process where it stands: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a stopped process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }

    /// Starts it again on the same port, with the data on its disk.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(self.port, &self.options, self.folder.path());
        assert!(self.wait_until_it_answers(), "redis-server does not start again on port {}", self.port);
    }

    fn wait_until_it_answers(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if self.ask(&["PING"]) == "PONG" {
                return true;
            }
            pause();
        }
        false
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("the id of a process");
        kill_process(id, signal).expect("the process is ours");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An option as an argument of `redis-server`.
fn written(option: &[&str]) -> Vec<String> {
    let (name, values) = option.split_first().expect("an option has a name");
    std::iter::once(format!("--{name}")).chain(values.iter().map(|value| (*value).to_owned())).collect()
}

fn spawn(port: u16, options: &[String], folder: &Path) -> Child {
    // A sentinel writes into its configuration, so there must be one.
    let configuration = folder.join("redis.conf");
    if !configuration.exists() {
        std::fs::write(&configuration, "").expect("the scratch folder can be written");
    }
    let mut command = Command::new("redis-server");
    command
        .arg(&configuration)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"])
        .arg(folder);
    command.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server can be started")
}

/// A port that is free now.
///
/// # Panics
/// There is none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}
