//! A real etcd, started by the test on free ports with its data in a scratch folder, alone or as a member of a cluster.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{DEADLINE, free_port, missing, pause};

/// How often ports are tried that were free a moment ago.
const TRIES: usize = 5;

/// A process of `etcd`. It is killed when this is dropped.
pub struct EtcdServer {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    _folder: TempDir,
    /// What `etcdctl` needs to be let in, e.g. `--user=root:secret`.
    pub login: Option<String>,
}

impl EtcdServer {
    /// A cluster of one member. None where etcd is not installed.
    ///
    /// # Panics
    /// It does not start; or it is not installed in CI.
    pub fn start() -> Option<EtcdServer> {
        EtcdServer::cluster(1)?.pop()
    }

    /// A cluster of this many members. None where etcd is not installed.
    ///
    /// # Panics
    /// As [`EtcdServer::start`].
    pub fn cluster(members: usize) -> Option<Vec<EtcdServer>> {
        if missing("etcd") || missing("etcdctl") {
            return None;
        }
        for _ in 0..TRIES {
            let ports: Vec<(u16, u16)> = (0..members).map(|_| (free_port(), free_port())).collect();
            let peer = |(index, (_, peer)): (usize, &(u16, u16))| format!("m{index}=http://127.0.0.1:{peer}");
            let peers = ports.iter().enumerate().map(peer).collect::<Vec<_>>().join(",");
            let start = |(index, (client, peer)): (usize, &(u16, u16))| member(index, *client, *peer, &peers);
            let mut cluster: Vec<EtcdServer> = ports.iter().enumerate().map(start).collect();
            // If one does not answer, somebody else has taken its port meanwhile.
            if cluster.iter_mut().all(EtcdServer::wait_until_it_answers) {
                return Some(cluster);
            }
        }
        panic!("etcd does not start");
    }

    /// Its port for clients, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its address for clients.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What `etcdctl` prints for these arguments. While a cluster elects a leader, it is asked again.
    ///
    /// # Panics
    /// `etcdctl` cannot be run, or fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        let begun = Instant::now();
        loop {
            let (succeeded, text) = self.try_ctl(arguments);
            if succeeded {
                return text;
            }
            let may_pass = ["leader", "timed out", "deadline"].iter().any(|words| text.contains(words));
            assert!(may_pass && begun.elapsed() < DEADLINE, "etcdctl {arguments:?}: {text}");
            pause();
        }
    }

    fn try_ctl(&self, arguments: &[&str]) -> (bool, String) {
        let mut ctl = Command::new("etcdctl");
        ctl.env("ETCDCTL_API", "3").arg(format!("--endpoints={}", self.address())).args(&self.login);
        let output = ctl.args(arguments).stdin(Stdio::null()).output().expect("etcdctl can be run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).trim().to_owned())
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

    /// Starts it again on the same ports, with the data on its disk.
    ///
    /// # Panics
    /// It does not start.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.arguments);
        assert!(self.wait_until_it_answers(), "etcd does not start again on port {}", self.port);
    }

    fn wait_until_it_answers(&mut self) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < DEADLINE {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return false;
            }
            if self.try_ctl(&["endpoint", "health"]).0 {
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

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn member(index: usize, client: u16, peer: u16, peers: &str) -> EtcdServer {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let (client_url, peer_url) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let arguments = [
        format!("--name=m{index}"),
        format!("--data-dir={}", folder.path().display()),
        format!("--listen-client-urls={client_url}"),
        format!("--advertise-client-urls={client_url}"),
        format!("--listen-peer-urls={peer_url}"),
        format!("--initial-advertise-peer-urls={peer_url}"),
        format!("--initial-cluster={peers}"),
        "--heartbeat-interval=50".to_owned(),
        "--election-timeout=500".to_owned(),
    ]
    .to_vec();
    let child = spawn(&arguments);
    EtcdServer { child, port: client, arguments, _folder: folder, login: None }
}

fn spawn(arguments: &[String]) -> Child {
    let mut command = Command::new("etcd");
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("etcd can be started")
}
