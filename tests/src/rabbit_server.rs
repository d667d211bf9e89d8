//! A real RabbitMQ, started by the test with a name, ports and a data folder of its own.

use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::{DEADLINE, free_port, missing, pause};

/// Where Debian has the programs. The ones in the path insist on another user.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// A RabbitMQ node and the port mapper that it needs. Both end when this is dropped.
pub struct RabbitServer {
    node: Child,
    /// The port mapper of Erlang. Without this one, the node would start one that outlives it.
    mapper: Child,
    port: u16,
    mapper_port: u16,
    distribution_port: u16,
    folder: TempDir,
}

impl RabbitServer {
    /// A node without queues. None where RabbitMQ is not installed.
    ///
    /// # Panics
    /// It does not start; or it is not installed in CI.
    pub fn start() -> Option<RabbitServer> {
        if !Path::new(PROGRAMS).exists() && missing("rabbitmq-server") {
            return None;
        }
        let (port, mapper_port, distribution_port) = (free_port(), free_port(), free_port());
        let folder = tempfile::tempdir().expect("a scratch folder");
        std::fs::write(folder.path().join("plugins"), "[].").expect("the scratch folder can be written");
        std::fs::write(folder.path().join("environment"), "").expect("the scratch folder can be written");
        let mapper = Command::new("epmd")
            .args(["-port", &mapper_port.to_string(), "-address", "127.0.0.1"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the port mapper can be started");
        let node = spawn(folder.path(), port, mapper_port, distribution_port);
        let mut server = RabbitServer { node, mapper, port, mapper_port, distribution_port, folder };
        server.wait_until_it_answers();
        Some(server)
    }

    /// The address for clients.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends the node at once, as a crash would.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let group = Pid::from_child(&self.node);
        let _ended = kill_process_group(group, Signal::KILL);
        let _status = self.node.wait();
    }

    /// Stops the node where it stands: it keeps its connections and answers nothing.
    pub fn pause(&self) {
        kill_process_group(Pid::from_child(&self.node), Signal::STOP).expect("the group is ours");
    }

    /// Lets a stopped node go on.
    pub fn resume(&self) {
        kill_process_group(Pid::from_child(&self.node), Signal::CONT).expect("the group is ours");
    }

    /// Starts it again on the same port, with the data on its disk.
    pub fn restart(&mut self) {
        self.node = spawn(self.folder.path(), self.port, self.mapper_port, self.distribution_port);
        self.wait_until_it_answers();
    }

    fn wait_until_it_answers(&mut self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let output = || std::fs::read_to_string(self.folder.path().join("output")).unwrap_or_default();
            assert!(begun.elapsed() < 2 * DEADLINE, "RabbitMQ does not start:\n{}", output());
            if self.node.try_wait().is_ok_and(|ended| ended.is_some()) {
                panic!("RabbitMQ has ended:\n{}", output());
            }
            pause();
        }
    }
}

impl Drop for RabbitServer {
    fn drop(&mut self) {
        self.kill();
        // It may have ended by itself.
        let _ended = self.mapper.kill();
        let _status = self.mapper.wait();
    }
}

fn spawn(folder: &Path, port: u16, mapper_port: u16, distribution_port: u16) -> Child {
    let output = std::fs::File::create(folder.join("output")).expect("the scratch folder can be written");
    Command::new(Path::new(PROGRAMS).join("rabbitmq-server"))
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("test{port}@localhost"))
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", port.to_string())
        .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
        .env("RABBITMQ_MNESIA_BASE", folder.join("data"))
        .env("RABBITMQ_LOG_BASE", folder.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", folder.join("plugins"))
        .env("RABBITMQ_CONFIG_FILE", folder.join("none"))
        .env("RABBITMQ_CONF_ENV_FILE", folder.join("environment"))
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+S 1:1 +sbwt none")
        .env("ERL_EPMD_PORT", mapper_port.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file can be shared"))
        .stderr(output)
        // The program is a script, and what it starts is ended with it.
        .process_group(0)
        .spawn()
        .expect("RabbitMQ can be started")
}
