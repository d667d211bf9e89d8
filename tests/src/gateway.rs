//! The gateway as a process of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Reply};
use crate::{artifacts, eventually};

/// A folder for one test, with a configuration and plugins.
pub struct Scratch {
    folder: tempfile::TempDir,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// An empty folder with `plugins/` in it.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("witgate-").tempdir().expect("a scratch folder");
        std::fs::create_dir(folder.path().join("plugins")).expect("an empty folder takes a folder");
        Scratch { folder }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.path().join("witgate.toml")
    }

    /// Writes a file of the folder by renaming, so that no reader gets half of it.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        let aside = path.with_extension("new");
        std::fs::write(&aside, content).expect("the scratch folder can be written");
        std::fs::rename(&aside, &path).expect("a file can be renamed in its folder");
        path
    }

    /// Puts a component into the plugin folder.
    pub fn install(&self, component: &Path, name: &str) {
        let bytes =
            std::fs::read(component).unwrap_or_else(|error| panic!("{}: {error}", component.display()));
        self.write(&format!("plugins/{name}.wasm"), bytes);
    }
}

/// A running gateway. It is killed when dropped, if it still runs.
pub struct Gateway {
    /// Its folder.
    pub scratch: Scratch,
    process: Child,
    listeners: Vec<(String, SocketAddr)>,
}

impl Gateway {
    /// Starts a gateway with a configuration and waits until it is ready. A listener `web` on a free port and an
    /// admin socket are added in front of `toml`; it may configure more.
    pub async fn start(scratch: Scratch, toml: &str) -> Self {
        Self::start_exactly(scratch, &Self::completed(toml)).await
    }

    /// A configuration with the text that [`Gateway::start`] adds in front, for [`Gateway::reconfigure`].
    pub fn completed(toml: &str) -> String {
        let preamble = "[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\n\
             [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\n";
        format!("{preamble}{toml}")
    }

    /// Starts a gateway with exactly this configuration, which must name the admin socket `admin.sock`.
    pub async fn start_exactly(scratch: Scratch, toml: &str) -> Self {
        scratch.write("witgate.toml", toml);
        Self::attend(scratch).await
    }

    /// Starts a gateway with the configuration (a file or folder) that is already in its scratch folder.
    pub async fn attend(scratch: Scratch) -> Self {
        let mut gateway = Self::launch(scratch);
        gateway.wait_until_ready().await;
        gateway
    }

    /// Starts a gateway with this configuration, completed as by [`Gateway::start`], without waiting: call
    /// [`Gateway::wait_until_ready`].
    pub fn begin(scratch: Scratch, toml: &str) -> Self {
        scratch.write("witgate.toml", Self::completed(toml));
        Self::launch(scratch)
    }

    fn launch(scratch: Scratch) -> Self {
        let process = Self::spawn(&scratch);
        Gateway { scratch, process, listeners: Vec::new() }
    }

    /// Starts another process with the same folder, after this one has ended, and waits until it is ready.
    pub async fn start_again(&mut self) {
        self.process = Self::spawn(&self.scratch);
        self.listeners.clear();
        self.wait_until_ready().await;
    }

    fn spawn(scratch: &Scratch) -> Child {
        let output = File::create(scratch.path().join("output")).expect("the scratch folder can be written");
        Command::new(artifacts::witgate())
            .args(["run", "--config"])
            .arg(scratch.config())
            .current_dir(scratch.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output)
            .spawn()
            .expect("the gateway's binary can be run")
    }

    /// Waits until the gateway is ready.
    ///
    /// # Panics
    /// The gateway ends, or is not ready within the deadline.
    pub async fn wait_until_ready(&mut self) {
        let socket = self.scratch.path().join("admin.sock");
        let begun = std::time::Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("the process can be asked") {
                panic!("the gateway ended with {status}:\n{}", self.output());
            }
            if let Ok(mut admin) = Client::unix(&socket).await
                && admin.get("/readyz", &[]).await.status == 200
            {
                break;
            }
            assert!(begun.elapsed() < crate::DEADLINE, "the gateway is not ready:\n{}", self.output());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        let status = self.admin_get("/status").await.json();
        for listener in status["listeners"].as_array().expect("status lists the listeners") {
            let name = listener["name"].as_str().expect("a listener has a name");
            let address = listener["address"].as_str().and_then(|text| text.parse().ok());
            self.listeners.push((name.to_owned(), address.expect("a listener has an address")));
        }
    }

    /// The address of the listener `web`.
    pub fn address(&self) -> SocketAddr {
        self.listener("web")
    }

    /// The address of a listener.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.listeners.iter().find(|(known, _)| known == name);
        found.unwrap_or_else(|| panic!("no listener `{name}`")).1
    }

    /// A new HTTP/1.1 connection to the listener `web`.
    pub async fn client(&self) -> Client {
        Client::http1(self.address()).await
    }

    /// Sends a GET request to the admin socket.
    pub async fn admin_get(&self, target: &str) -> Reply {
        let mut admin =
            Client::unix(&self.scratch.path().join("admin.sock")).await.expect("the admin socket");
        admin.get(target, &[]).await
    }

    /// Sends a POST request to the admin socket.
    pub async fn admin_post(&self, target: &str) -> Reply {
        let mut admin =
            Client::unix(&self.scratch.path().join("admin.sock")).await.expect("the admin socket");
        admin.post(target, &[], "").await
    }

    /// The value of a metric, summed over all lines that contain the name and all these labels; 0 if there are
    /// none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let reply = self.admin_get("/metrics").await;
        reply
            .text()
            .lines()
            .filter(|line| line.starts_with(name) && line[name.len()..].starts_with(['{', ' ']))
            .filter(|line| labels.iter().all(|label| line.contains(label)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Replaces the configuration and waits until a new snapshot is in service.
    pub async fn reconfigure(&self, toml: &str) {
        let before = self.version().await;
        self.scratch.write("witgate.toml", toml);
        eventually("a new snapshot", async || self.version().await > before).await;
    }

    /// The version of the snapshot in service.
    pub async fn version(&self) -> u64 {
        self.admin_get("/status").await.json()["version"].as_u64().expect("status tells the version")
    }

    /// Sends a signal to the gateway's process.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the process is ours");
    }

    /// Waits until the process has ended.
    pub async fn exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the gateway to end", async || {
            status = self.process.try_wait().expect("the process can be asked");
            status.is_some()
        })
        .await;
        status.expect("the loop ended with one")
    }

    /// The child processes that have not ended, e.g. one that compiles.
    pub fn children(&self) -> Vec<u32> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.process.id()));
        let listed = threads.into_iter().flatten().flatten().map(|thread| {
            // A thread may have ended since it was listed.
            std::fs::read_to_string(thread.path().join("children")).unwrap_or_default()
        });
        listed
            .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let statm =
            std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).expect("a live process");
        let pages: u64 =
            statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("the second field");
        pages * rustix::param::page_size() as u64
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("a live process");
        // A thread may end meanwhile.
        let name = |task: std::io::Result<std::fs::DirEntry>| {
            Some(std::fs::read_to_string(task.ok()?.path().join("comm")).ok()?.trim_end().to_owned())
        };
        tasks.filter_map(name).collect()
    }

    /// The id of its process.
    pub fn process(&self) -> u32 {
        self.process.id()
    }

    /// The number of its open file descriptors.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process.id());
        std::fs::read_dir(folder).expect("a live process").count()
    }

    /// Everything that it wrote to standard output and standard error.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.scratch.path().join("output")).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.process)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The process may have ended already. Waiting for it collects its exit status.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
