//! The first day of a plugin's author: `plugin new` and `plugin dev`, as they are printed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{Scratch, pause, repository};

/// The longest wait for a build; the first one compiles the SDK, on a machine that may be busy.
const BUILD: Duration = Duration::from_secs(900);

fn witgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.current_dir(folder).env_remove("WITGATE_SDK").env_remove("CARGO_TARGET_DIR");
    command
}

/// A running `witgate plugin dev`, which is killed when dropped.
struct Dev {
    process: Child,
    lines: Receiver<String>,
}

impl Dev {
    fn start(folder: &Path, more: &[&str]) -> Dev {
        let mut process = witgate(folder)
            .args(["plugin", "dev"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary can be run");
        let output = BufReader::new(process.stdout.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Dev { process, lines }
    }

    /// The address that it prints once the plugin is built.
    fn address(&self) -> SocketAddr {
        let begun = Instant::now();
        loop {
            let line = self
                .lines
                .recv_timeout(BUILD.saturating_sub(begun.elapsed()))
                .expect("it prints its address");
            if let Some(rest) = line.strip_prefix("try it:  curl -i http://") {
                return rest.trim_end_matches('/').parse().expect("an address");
            }
        }
    }

    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.process), signal).expect("the process is ours");
        self.process.wait().expect("it ends").code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The head of the response to a request with this header; `None` if nobody answers.
fn ask(address: SocketAddr, header: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    write!(stream, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    (!answer.is_empty()).then_some(answer)
}

fn wait_for(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < patience, "{what}");
        pause();
    }
}

fn new_plugin(scratch: &Scratch) -> PathBuf {
    let output =
        witgate(scratch.path()).args(["plugin", "new", "door"]).output().expect("the binary can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let folder = scratch.path().join("door");
    // The versions that this checkout is tested with.
    std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock")).expect("copied");
    folder
}

#[test]
fn a_new_plugin_needs_nothing_of_the_machine_that_built_the_gateway() {
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch);
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
    assert!(manifest.contains("witgate-sdk = { path = \".witgate-sdk/sdk\" }"), "{manifest}");
    for file in
        ["settings.json", ".witgate-sdk/Cargo.toml", ".witgate-sdk/sdk/src/lib.rs", ".witgate-sdk/wit/0.1.0"]
    {
        assert!(folder.join(file).exists(), "{file}");
    }
    let metadata = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(folder.join(".witgate-sdk"))
        .output()
        .expect("cargo can be run");
    assert!(metadata.status.success(), "{}", String::from_utf8_lossy(&metadata.stderr));
    let other =
        witgate(scratch.path()).args(["plugin", "new", "other", "--sdk", "0.1"]).output().expect("run");
    assert!(other.status.success());
    assert!(!scratch.path().join("other/.witgate-sdk").exists(), "the author has named another SDK");
}

#[test]
fn dev_runs_what_new_has_made_follows_every_save_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let folder = new_plugin(&scratch);
    let mut dev = Dev::start(&folder, &[]);
    let address = dev.address();
    wait_for("the scratch gateway answers", Duration::from_secs(60), || ask(address, "").is_some());
    let known = ask(address, "x-api-key: open-sesame\r\n").expect("an answer");
    assert!(known.starts_with("HTTP/1.1 200"), "the settings of the template apply: {known}");
    assert!(ask(address, "").is_some_and(|answer| answer.contains("ApiKey")));

    let source = folder.join("src/lib.rs");
    let text = std::fs::read_to_string(&source).expect("the source").replace("\"ApiKey\"", "\"DoorKey\"");
    std::fs::write(&source, text).expect("saved");
    // A page that polls: there is always a request right after the save.
    wait_for("the save takes effect", BUILD, || {
        ask(address, "").is_some_and(|answer| answer.contains("DoorKey"))
    });
    std::fs::write(folder.join("settings.json"), "{ \"key\": \"other\" }").expect("saved");
    wait_for("changed settings take effect", BUILD, || {
        ask(address, "x-api-key: other\r\n").is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    });

    assert_eq!(dev.end(Signal::TERM), Some(0));
    wait_for("its gateway ends with it", Duration::from_secs(10), || TcpStream::connect(address).is_err());
    let mut again = Dev::start(&folder, &["--listen", &address.to_string()]);
    assert_eq!(again.address(), address);
    wait_for("it answers on the same port", Duration::from_secs(60), || ask(address, "").is_some());
    again.end(Signal::KILL);
    wait_for("its gateway ends with it", Duration::from_secs(10), || TcpStream::connect(address).is_err());
}
