//! Loading is limited in time, memory and kind of file; if a load is refused, the old version stays in service.

use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::{Client, Gateway, Scratch, eventually, guest, hostile};

/// A gateway whose plugin adds a header to each response, which shows the version in service.
const MARKING: &str = "[telemetry]\naccess_log = \"off\"\n[plugins.mark]\n[bindings.mark]\n\
                       [[routes]]\npath = \"/*\"\nrespond = { body = \"hello\" }\nplugins = [\"mark\"]\n";

async fn marking(gateway_keys: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    Gateway::start(scratch, &format!("[gateway]\ncache_folder = \"off\"\n{gateway_keys}\n{MARKING}")).await
}

/// Reloads; returns the time that it took and the response.
async fn reload(gateway: &Gateway, target: &str) -> (Duration, Value) {
    let begun = Instant::now();
    let reply = gateway.admin_post(target).await;
    (begun.elapsed(), reply.json())
}

async fn serves_one(gateway: &Gateway) {
    let reply = gateway.client().await.get("/", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.header("x-mark")), (200, "one"), "{}", reply.text());
}

/// Puts something in the place of the plugin's file, in one step.
fn replace(gateway: &Gateway, make: impl FnOnce(&Path)) {
    let folder = gateway.scratch.path().join("plugins");
    let aside = folder.join("aside");
    make(&aside);
    let place = folder.join("mark.wasm");
    // A folder cannot be renamed over a file.
    let _ = std::fs::remove_file(&place).or_else(|_| std::fs::remove_dir(&place));
    std::fs::rename(&aside, &place).expect("a name can be changed in its folder");
}

/// Makes something at a path that is not a plugin.
type Make = fn(&Path);

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe");
}

#[tokio::test]
async fn a_plugin_file_of_another_kind_is_refused_at_once_and_the_old_version_serves() {
    let gateway = marking("").await;
    serves_one(&gateway).await;
    let make: [(&str, Make); 8] = [
        ("a named pipe", pipe),
        ("a device", |path| symlink("/dev/zero", path).expect("linked")),
        ("a folder", |path| std::fs::create_dir(path).expect("made")),
        ("a socket", |path| drop(UnixListener::bind(path).expect("bound"))),
        ("symbolic links", |path| {
            let itself = path.with_file_name("mark.wasm");
            symlink(itself, path).expect("linked");
        }),
        ("at most 64 MiB are read", |path| {
            std::fs::File::create(path).and_then(|file| file.set_len(1 << 40)).expect("a sparse file");
        }),
        ("more than 32 components", |path| std::fs::write(path, hostile::nested(20_000)).expect("written")),
        ("does not have the type", |path| std::fs::write(path, hostile::hollow()).expect("written")),
    ];
    for (expected, make) in make {
        replace(&gateway, make);
        let (took, told) = reload(&gateway, "/reload").await;
        let status = gateway.admin_get("/status").await.json();
        assert!(
            status["bindings"][0]["problem"].to_string().contains(expected),
            "{expected}: {told} {status}"
        );
        assert!(took < Duration::from_secs(5), "{expected}: {took:?}");
        serves_one(&gateway).await;
    }
    // The control plane and the watcher still work.
    gateway.scratch.install(&guest("mark-two"), "mark");
    eventually("the next version, found by the watcher", async || {
        gateway.client().await.get("/", &[]).await.header("x-mark") == "two"
    })
    .await;
}

#[tokio::test]
async fn a_pipe_among_the_files_of_the_configuration_is_refused_and_not_waited_for() {
    let gateway = marking("").await;
    let config = gateway.scratch.config();
    let good = std::fs::read_to_string(&config).expect("the configuration");
    let secret = gateway.scratch.path().join("secret");
    pipe(&secret);
    gateway.scratch.write("witgate.toml", good.replace("[admin]\n", "[admin]\ntoken = \"${file:secret}\"\n"));
    let (_, told) = reload(&gateway, "/reload").await;
    assert_eq!(told["applied"], false, "{told}");
    assert!(told.to_string().contains("a named pipe"), "{told}");
    // An access log that cannot be opened is reported in the gateway's own log and is no reason to refuse the
    // reload.
    gateway.scratch.write("witgate.toml", good.replace("access_log = \"off\"", "access_log = \"secret\""));
    let (_, told) = reload(&gateway, "/reload").await;
    assert_eq!(told["applied"], true, "{told}");
    eventually("a line about it", async || gateway.output().contains("the access log cannot be opened"))
        .await;
    serves_one(&gateway).await;
    std::fs::remove_file(&config).expect("removed");
    pipe(&config);
    let (_, told) = reload(&gateway, "/reload").await;
    assert!(told.to_string().contains("a named pipe"), "{told}");
    serves_one(&gateway).await;
    std::fs::remove_file(&config).expect("removed");
    gateway.scratch.write("witgate.toml", good);
    let (_, told) = reload(&gateway, "/reload").await;
    assert_eq!(told["applied"], true, "{told}");
}

/// The processes that a process has started and not yet collected.
fn children(of: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if parent == Some(of) {
            found.extend(entry.file_name().to_string_lossy().parse::<u32>().ok());
        }
    }
    found
}

#[tokio::test]
async fn a_component_that_takes_too_long_to_compile_is_refused_in_words_and_only_once() {
    let gateway = marking("compile = { cpu = \"2s\" }").await;
    gateway.scratch.write("plugins/mark.wasm", hostile::loops(20_000, 20_000));
    let begun = Instant::now();
    loop {
        // Two seconds of CPU time may take a minute where other programs use all cores.
        assert!(begun.elapsed() < Duration::from_secs(180), "it was not refused");
        tokio::time::sleep(Duration::from_millis(50)).await;
        let status = gateway.admin_get("/status").await.json();
        if status["bindings"][0]["problem"].to_string().contains("more than 2 s of CPU time") {
            break;
        }
        serves_one(&gateway).await;
    }
    let (again, told) = reload(&gateway, "/reload").await;
    assert!(told.to_string().contains("more than 2 s of CPU time"), "{told}");
    assert!(again < Duration::from_secs(2), "it was not compiled again: {again:?}");
    assert_eq!(children(gateway.process()), [] as [u32; 0], "every child was collected");
    // The component is compiled again on request. The response takes as long as the first one.
    let mut admin = Client::unix(&gateway.scratch.path().join("admin.sock")).await.expect("the admin socket");
    let forced = tokio::spawn(async move { admin.post("/reload?force=true", &[], "").await });
    eventually("another child", async || !children(gateway.process()).is_empty()).await;
    serves_one(&gateway).await;
    forced.abort();
}

#[tokio::test]
async fn a_child_that_compiles_does_not_outlive_the_gateway() {
    let mut gateway = marking("compile = { cpu = \"1h\", wall = \"1h\" }").await;
    gateway.scratch.write("plugins/mark.wasm", hostile::loops(20_000, 20_000));
    let parent = gateway.process();
    eventually("a child that compiles", async || !children(parent).is_empty()).await;
    serves_one(&gateway).await;
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["compiling"]["plugin"], "mark", "{status}");
    let child = children(parent)[0];
    let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
    assert_eq!(environment, b"", "its environment is empty");
    gateway.signal(Signal::KILL);
    gateway.exit().await;
    eventually("the child to end", async || !Path::new(&format!("/proc/{child}")).exists()).await;
}

#[tokio::test]
async fn a_schema_without_end_is_refused_in_words() {
    let gateway = marking("").await;
    gateway.scratch.install(&guest("endless-schema"), "mark");
    let (_, told) = reload(&gateway, "/reload").await;
    assert!(told.to_string().contains("too complex"), "{told}");
    serves_one(&gateway).await;
}
