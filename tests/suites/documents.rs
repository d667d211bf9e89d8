//! Runs every command and configuration of README and examples as a reader would. The book and the other documents
//! are run by `book.rs`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use witgate_tests::{
    Block, Client, DEADLINE, Scratch, Shell, blocks, pause, repository, shared_build, witgate,
};

fn read(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn readme(section: &str, language: &str) -> Vec<Block> {
    blocks_of("README.md", section, language)
}

fn blocks_of(document: &str, section: &str, language: &str) -> Vec<Block> {
    let all = blocks(&read(document));
    let found: Vec<Block> =
        all.into_iter().filter(|block| block.section == section && block.language == language).collect();
    assert!(!found.is_empty(), "{document} has a {language} block under `{section}`");
    found
}

/// A writable folder in which relative commands find the same paths as in the checkout.
fn workplace() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("witgate-").tempdir().expect("a scratch folder");
    witgate();
    for entry in ["target", "README.md", "sdk", "plugins", "wit"] {
        let place = repository().join(entry);
        std::os::unix::fs::symlink(place, folder.path().join(entry)).expect("an empty folder takes links");
    }
    folder
}

/// Gives a separate crate the dependency versions of the workspace, which are compiled already.
fn share_versions(folder: &Path) {
    std::fs::copy(repository().join("Cargo.lock"), folder.join("Cargo.lock"))
        .expect("the folder takes files");
}

/// Lets builds in a shell use what other tests have compiled. The documents set no such variables.
fn share_builds(shell: &mut Shell) {
    for (name, value) in shared_build() {
        shell.follow(&format!("export {name}='{value}'"));
    }
}

/// A program that runs until it is told to end.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Self {
        let command = command.env("LISTEN", "127.0.0.1:0").env("ADMIN", "off").stdin(Stdio::null());
        Running(command.spawn().expect("the program can be run"))
    }

    /// Waits until a gateway responds on an admin socket; returns the address of its first listener.
    fn address(&mut self, socket: &Path, within: std::time::Duration) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let begun = Instant::now();
        loop {
            assert!(self.0.try_wait().expect("it can be asked").is_none(), "the program ended early");
            let status = runtime.block_on(async {
                let mut admin = Client::unix(socket).await.ok()?;
                let ready = admin.get("/readyz", &[]).await.status == 200;
                ready.then_some(admin.get("/status", &[]).await.json())
            });
            if let Some(status) = status {
                return status["listeners"][0]["address"].as_str().expect("an address").to_owned();
            }
            assert!(begun.elapsed() < within, "no gateway answers on {}", socket.display());
            pause();
        }
    }
}

impl Running {
    /// Sends SIGINT (Ctrl-C): the program must end in order within the deadline.
    fn end(mut self) {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("it is ours, and runs");
        let begun = Instant::now();
        while self.0.try_wait().expect("it can be asked").is_none() {
            assert!(begun.elapsed() < DEADLINE, "it did not end");
            pause();
        }
        assert!(self.0.wait().expect("it has ended").success(), "it ended well");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once the exit status is collected, the process id may belong to another process.
        if !self.0.try_wait().is_ok_and(|status| status.is_none()) {
            return;
        }
        // A test failed. The program ends in order, so that the programs that it started end, too.
        let _ = kill_process(Pid::from_child(&self.0), Signal::INT);
        let begun = Instant::now();
        while self.0.try_wait().is_ok_and(|status| status.is_none()) {
            if begun.elapsed() > DEADLINE {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
            pause();
        }
    }
}

#[test]
fn ci_runs_the_test_command_of_the_readme() {
    let tests: Vec<Block> = readme("Run it", "sh");
    assert_eq!(tests[0].text, "cargo run -p quickstart\n");
    assert_eq!(tests[1].text, "cargo test --workspace\n");
    let script = read(".ci/run");
    assert!(
        script.contains("<!-- the test command -->")
            && script.contains("step \"tests\" bash -c \"$test_command\"")
    );
    assert!(script.contains("--features full"), "CI tests what a release ships");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(
        lines <= 130,
        "a reader sees what it is, how to run it and where to go: {lines} lines are too many"
    );
}

#[test]
fn the_plugin_of_the_readme_is_the_example_and_is_short() {
    let block = &readme("Write your own plugin", "rust")[0];
    assert_eq!(block.text, read("examples/own-plugin/src/lib.rs"));
    let lines = block.text.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 15, "the smallest useful plugin has {lines} lines");
}

#[test]
fn the_quick_start_does_what_the_readme_says() {
    let folder = workplace();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let socket = repository().join("target/quickstart/admin.sock");
    let _ = std::fs::remove_file(&socket);
    // The build takes minutes and all cores. At normal priority the gateways of the tests beside it would hardly get to
    // compile their plugins, which they do at the lowest priority.
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(cargo).args(["run", "-p", "quickstart"]).current_dir(repository());
    // The gateway is built as usual; the plugins share what other tests have compiled.
    command.envs(shared_build().into_iter().filter(|(name, _)| name.starts_with("CARGO_PROFILE_RELEASE_")));
    let mut quickstart = Running::start(&mut command);
    let address = quickstart.address(&socket, std::time::Duration::from_secs(1200));
    let mut shell = Shell::new(folder.path());
    for block in readme("Try it", "sh") {
        shell.follow(&block.text.replace("localhost:8080", &address));
    }
    quickstart.end();
}

#[test]
fn a_plugin_of_ones_own_is_made_as_the_readme_says() {
    let folder = workplace();
    let mut shell = Shell::new(folder.path());
    share_builds(&mut shell);
    let steps = readme("Write your own plugin", "sh");
    shell.follow(&steps[0].text);
    // The reader now writes the plugin of the next block into the new crate.
    let source = &readme("Write your own plugin", "rust")[0].text;
    std::fs::write(folder.path().join("require-key/src/lib.rs"), source).expect("the crate was made");
    share_versions(&folder.path().join("require-key"));
    shell.follow(&steps[1].text);

    let scratch = Scratch::new();
    scratch.install(&folder.path().join("require-key/target/require_key.wasm"), "require_key");
    let config = scratch.write("witgate.toml", &blocks_of("docs/src/plugins.md", "Bind it", "toml")[0].text);
    shell.follow(&format!("witgate validate --config {}", config.display()));
}

/// Copies an example to a folder of the test, beside the folders that it refers to.
fn example(name: &str) -> (tempfile::TempDir, PathBuf) {
    let root = workplace();
    let folder = root.path().join("examples").join(name);
    std::fs::create_dir_all(folder.join("src")).expect("an empty folder takes folders");
    for file in
        ["witgate.toml", "origin.toml", "shop.toml", "billing.toml", "README.md", "Cargo.toml", "src/lib.rs"]
    {
        let source = repository().join("examples").join(name).join(file);
        if let Ok(text) = std::fs::read_to_string(source) {
            // A manifest is found only by its real path, because cargo looks for the SDK's workspace above it.
            let sdk = repository().join("sdk");
            let text =
                if file == "Cargo.toml" { text.replace("../../sdk", &sdk.to_string_lossy()) } else { text };
            std::fs::write(folder.join(file), text).expect("an empty folder takes files");
        }
    }
    if folder.join("Cargo.toml").is_file() {
        share_versions(&folder);
    }
    (root, folder)
}

/// Runs the README of an example: the first block prepares and runs the gateway, the second sends requests.
fn follow_example(name: &str, port: &str) {
    let (_root, folder) = example(name);
    follow_in(&folder, port, &[]);
}

fn follow_in(folder: &Path, port: &str, variables: &[(&str, String)]) {
    let document = std::fs::read_to_string(folder.join("README.md")).expect("every example has one");
    assert!(document.lines().count() < 40, "an example's README is short");
    let blocks: Vec<String> = blocks(&document)
        .into_iter()
        .filter(|block| block.language == "sh")
        .map(|block| block.text)
        .collect();
    let mut shell = Shell::new(folder);
    let path = witgate().parent().expect("a file is in a folder").display();
    shell.follow(&format!("export PATH=\"{path}:$PATH\" ADMIN=off"));
    share_builds(&mut shell);
    for (name, value) in variables {
        shell.follow(&format!("export {name}='{value}'"));
    }
    let (prepare, run) = blocks[0].rsplit_once("witgate run").expect("the first block runs the gateway");
    shell.follow(prepare);
    let mut command = Command::new(witgate());
    command.arg("run").args(run.split_whitespace()).current_dir(folder).envs(variables.iter().cloned());
    let mut gateway = Running::start(&mut command);
    let address = gateway.address(&folder.join("admin.sock"), DEADLINE);
    let real = address.rsplit(':').next().expect("an address has a port");
    shell.follow(&blocks[1].replace(port, real));
    gateway.end();
}

#[test]
fn the_example_of_a_plugin_of_ones_own_runs() {
    follow_example("own-plugin", "8080");
}

#[test]
fn the_tls_example_runs() {
    follow_example("tls", "8443");
}

#[test]
fn the_hot_swap_example_runs() {
    follow_example("hot-swap", "8080");
}

/// Ends the origins of an example by the process ids in its folder, even if the test fails.
struct Origins<'a>(&'a Path);

impl Drop for Origins<'_> {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.0).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "pid")
                && let Ok(text) = std::fs::read_to_string(&path)
                && let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw)
            {
                // The process may have ended already.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
    }
}

#[test]
fn the_discovery_example_runs() {
    let (_root, folder) = example("discovery");
    let _origins = Origins(&folder);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = [free(), free()].map(|socket| socket.local_addr().expect("it is bound").port().to_string());
    follow_in(&folder, "8080", &[("PORTS", ports.join(" "))]);
}

#[test]
fn the_mesh_example_runs() {
    let (_root, folder) = example("mesh");
    let _gateways = Origins(&folder);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = [free(), free()].map(|socket| socket.local_addr().expect("it is bound").port());
    let variables = [("BILLING", format!("127.0.0.1:{}", ports[0])), ("INTERN", ports[1].to_string())];
    follow_in(&folder, "8080", &variables);
}

#[test]
fn the_tcp_example_runs() {
    let (_root, folder) = example("tcp");
    let _origins = Origins(&folder);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = [free(), free()].map(|socket| socket.local_addr().expect("it is bound").port().to_string());
    let [one, two] = ports.clone();
    let variables = [("PORTS", ports.join(" ")), ("PORT_1", one), ("PORT_2", two)];
    follow_in(&folder, "8443", &variables);
}

#[test]
fn the_cache_example_runs() {
    let (_root, folder) = example("cache");
    let _origins = Origins(&folder);
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = free.local_addr().expect("it is bound").port().to_string();
    drop(free);
    follow_in(&folder, "8080", &[("PORT", port)]);
}

#[test]
fn the_messages_example_runs() {
    let (_root, folder) = example("messages");
    let _origins = Origins(&folder);
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("it is bound").port().to_string();
    drop(socket);
    follow_in(&folder, "8080", &[("PORT", port)]);
}

#[test]
fn the_resilient_example_runs() {
    let (_root, folder) = example("resilient");
    let _origins = Origins(&folder);
    let free = || std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let ports = [free(), free(), free()].map(|socket| socket.local_addr().expect("it is bound").port());
    let [one, two, three] = ports.map(|port| port.to_string());
    let variables = [
        ("PORTS", format!("{one} {two} {three}")),
        ("PORT_1", one.clone()),
        ("PORT_2", two.clone()),
        ("PORT_3", three.clone()),
    ];
    follow_in(&folder, "8080", &variables);
}
