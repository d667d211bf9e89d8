//! A real NATS with JetStream, started by the test on a free port with its data in a scratch folder.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;

use crate::{DEADLINE, free_port, missing, pause};

/// A process of `nats-server`. It is killed when this is dropped.
pub struct NatsServer {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl NatsServer {
    /// A server without streams. None where NATS is not installed.
    ///
    /// # Panics
    /// It does not start; or it is not installed in CI.
    pub fn start() -> Option<NatsServer> {
        if missing("nats-server") {
            return None;
        }
        let (port, folder) = (free_port(), tempfile::tempdir().expect("a scratch folder"));
        let child = spawn(port, folder.path());
        let mut server = NatsServer { child, port, folder };
        server.wait_until_it_answers();
        Some(server)
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the process at once, as a crash would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }

    /// Starts it again on the same port, with the data on its disk.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, self.folder.path());
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < DEADLINE, "nats-server does not start");
            assert!(self.child.try_wait().is_ok_and(|ended| ended.is_none()), "nats-server has ended");
            pause();
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(port: u16, folder: &Path) -> Child {
    Command::new("nats-server")
        .args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server can be started")
}
