//! Configurations that are empty, half written or gone on disk: the version in service stays in service.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use witgate_tests::{Gateway, Scratch, eventually, guest};

const LISTENER: &str = "[admin]\naddress = \"off\"\nsocket = \"../admin.sock\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n";
const OPEN: &str = "[[routes]]\npath = \"/*\"\nrespond = { body = \"open\" }\n";
const DENIED: &str = "[[routes]]\npath = \"/secret\"\nrespond = { status = 403, body = \"no\" }\n";

/// A gateway whose configuration is a folder: a listener, an open route, and a route that denies.
async fn folder() -> (Gateway, PathBuf) {
    let scratch = Scratch::new();
    let folder = scratch.path().join("witgate.toml");
    fs::create_dir(&folder).expect("a folder");
    for (name, text) in [("10-web.toml", LISTENER), ("20-open.toml", OPEN), ("30-deny.toml", DENIED)] {
        fs::write(folder.join(name), text).expect("written");
    }
    (Gateway::attend(scratch).await, folder)
}

async fn last_change(gateway: &Gateway) -> Value {
    gateway.admin_get("/status").await.json()["last_change"].clone()
}

async fn secret(gateway: &Gateway) -> u16 {
    gateway.client().await.get("/secret", &[]).await.status.as_u16()
}

/// Waits until a change was refused with all these words.
async fn refused(gateway: &Gateway, words: &[&str]) {
    let mut change = Value::Null;
    eventually(&format!("a refusal with {words:?}"), async || {
        change = last_change(gateway).await;
        let told = change["problems"].to_string();
        change["applied"] == false && words.iter().all(|word| told.contains(word))
    })
    .await;
}

/// Writes a file in its place and asks for a reload, as whoever asks for one by hand at the worst moment.
async fn reload_with(gateway: &Gateway, file: &Path, text: &str) -> Value {
    fs::write(file, text).expect("written");
    gateway.admin_post("/reload").await.json()
}

#[tokio::test]
async fn an_emptied_file_is_refused_and_everything_stays() {
    let only = format!("{}{DENIED}", LISTENER.replace("../", ""));
    for (emptied, word) in
        [("", "is empty"), ("\n  # to be written\n", "is empty"), ("\u{feff}\n", "is empty")]
    {
        let gateway = Gateway::start_exactly(Scratch::new(), &only).await;
        let listeners = gateway.admin_get("/status").await.json()["listeners"].clone();
        let change = reload_with(&gateway, &gateway.scratch.config(), emptied).await;
        assert_eq!(change["applied"], false, "{change}");
        let told = change["problems"].to_string();
        for part in [word, "witgate.toml", "no listener is configured", "no route", "allow_empty = true"] {
            assert!(told.contains(part), "`{part}` is missing in {told}");
        }
        gateway.signal(Signal::HUP);
        eventually("the signal", async || {
            last_change(&gateway).await["reason"].as_str().is_some_and(|reason| reason.contains("SIGHUP"))
        })
        .await;
        assert_eq!(last_change(&gateway).await["applied"], false);
        assert_eq!(gateway.admin_get("/status").await.json()["listeners"], listeners);
        assert_eq!(secret(&gateway).await, 403);
    }
}

#[tokio::test]
async fn the_watcher_refuses_an_emptied_file_too_and_takes_it_when_it_is_written_again() {
    let (gateway, folder) = folder().await;
    fs::write(folder.join("30-deny.toml"), "").expect("written");
    refused(&gateway, &["30-deny.toml", "is empty"]).await;
    assert_eq!(secret(&gateway).await, 403, "the rule still holds");
    fs::write(folder.join("30-deny.toml"), DENIED.replace("403", "404")).expect("written");
    eventually("the new rule", async || secret(&gateway).await == 404).await;
}

#[tokio::test]
async fn a_file_of_a_folder_in_which_no_key_has_a_value_is_empty() {
    let (gateway, folder) = folder().await;
    let deny = folder.join("30-deny.toml");
    let empty = [
        "[gateway]\n",
        "routes = []\n",
        "[gateway.compile]\n[telemetry]\n",
        "routes = [ # none\n]\n[upstreams]\n",
    ];
    for text in empty {
        let change = reload_with(&gateway, &deny, text).await;
        assert_eq!(change["applied"], false, "{text}: {change}");
        let told = change["problems"].to_string();
        assert!(told.contains("30-deny.toml") && told.contains("is empty"), "{text}: {told}");
        assert_eq!(secret(&gateway).await, 403, "{text}");
    }
    let change = reload_with(&gateway, &deny, "[gateway]\ndrain_timeout = \"3s\"\n").await;
    assert_eq!(change["applied"], true, "who writes something else means it: {change}");
    assert_eq!(secret(&gateway).await, 200);
}

#[tokio::test]
async fn a_plugin_or_binding_that_is_declared_by_its_header_alone_is_something() {
    let (gateway, folder) = folder().await;
    gateway.scratch.install(&guest("idle"), "idle");
    let plugins = gateway.scratch.path().join("plugins");
    let gateway_table = format!("{LISTENER}[gateway]\nplugin_folder = {plugins:?}\n");
    fs::write(folder.join("10-web.toml"), gateway_table).expect("written");
    let moved = format!("{OPEN}{DENIED}");
    fs::write(folder.join("20-open.toml"), moved).expect("written");
    let change =
        reload_with(&gateway, &folder.join("30-deny.toml"), "[plugins.idle]\n[bindings.idle]\n").await;
    assert_eq!(change["applied"], true, "{change}");
    assert_eq!(secret(&gateway).await, 403);
}

#[tokio::test]
async fn a_reload_without_routes_or_written_listeners_is_refused_unless_it_is_meant() {
    let only = LISTENER.replace("../", "");
    let gateway = Gateway::start_exactly(Scratch::new(), &format!("{only}{DENIED}")).await;
    let config = gateway.scratch.config();
    let change = reload_with(&gateway, &config, &only).await;
    assert!(change["problems"].to_string().contains("there is no route"), "{change}");
    let admin = "[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n";
    let change = reload_with(&gateway, &config, &format!("{admin}{DENIED}")).await;
    assert!(change["problems"].to_string().contains("no listener is configured"), "{change}");
    assert_eq!(secret(&gateway).await, 403);

    let meant = format!("{admin}[gateway]\nallow_empty = true\n");
    let change = reload_with(&gateway, &config, &meant).await;
    assert_eq!(change["applied"], true, "{change}");
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["listeners"], serde_json::json!([]), "and the default listener is not opened");
}

#[tokio::test]
async fn an_emptied_file_of_a_folder_is_taken_where_the_rest_says_so() {
    let (gateway, folder) = folder().await;
    fs::write(folder.join("30-deny.toml"), "").expect("written");
    let meant = format!("{LISTENER}[gateway]\nallow_empty = true\n");
    let change = reload_with(&gateway, &folder.join("10-web.toml"), &meant).await;
    assert_eq!(change["applied"], true, "{change}");
    assert_eq!(secret(&gateway).await, 200);
}

#[tokio::test]
async fn what_is_gone_or_cannot_be_read_changes_nothing() {
    let (gateway, folder) = folder().await;
    let away = gateway.scratch.path().join("away");
    fs::rename(&folder, &away).expect("moved");
    let change = gateway.admin_post("/reload").await.json();
    assert_eq!(change["applied"], false, "{change}");
    assert!(change["problems"].to_string().contains("cannot read"), "{change}");
    fs::create_dir(&folder).expect("an empty folder");
    let change = gateway.admin_post("/reload").await.json();
    assert!(change["problems"].to_string().contains("no *.toml file"), "{change}");
    fs::remove_dir(&folder).expect("removed");
    fs::rename(&away, &folder).expect("moved back");

    let deny = folder.join("30-deny.toml");
    fs::set_permissions(&deny, fs::Permissions::from_mode(0o000)).expect("permissions");
    // Who runs the tests as root can read it all the same.
    let readable = fs::read(&deny).is_ok();
    let change = gateway.admin_post("/reload").await.json();
    assert_eq!(change["applied"], readable, "{change}");
    fs::set_permissions(&deny, fs::Permissions::from_mode(0o644)).expect("permissions");
    assert_eq!(gateway.admin_post("/reload").await.json()["applied"], true);
    assert_eq!(secret(&gateway).await, 403);
}

#[tokio::test]
async fn a_secret_that_was_emptied_is_refused() {
    let scratch = Scratch::new();
    scratch.write("words", "hello");
    let toml = format!(
        "{}[[routes]]\npath = \"/*\"\nrespond = {{ body = \"${{file:words}}\" }}\n",
        LISTENER.replace("../", "")
    );
    let gateway = Gateway::start_exactly(scratch, &toml).await;
    let change = reload_with(&gateway, &gateway.scratch.path().join("words"), "").await;
    assert_eq!(change["applied"], false, "{change}");
    assert!(change["problems"].to_string().contains("words"), "{change}");
    assert_eq!(gateway.client().await.get("/", &[]).await.text(), "hello");
}

#[tokio::test]
async fn a_writer_that_takes_its_time_is_waited_for() {
    let (gateway, folder) = folder().await;
    // Once a change is noticed, files are certainly watched.
    gateway.scratch.write("witgate.toml/20-open.toml", OPEN.replace("open", "opened"));
    eventually("a first change", async || gateway.version().await > 1).await;
    let version = gateway.version().await;
    // What is written first is valid, opens what the rest denies, and is longer than what was there.
    let first = format!(
        "[[routes]]\npath = \"/other\"\nrespond = {{ body = \"first\" }}\n{}",
        "# long\n".repeat(100)
    );
    let deny = folder.join("30-deny.toml");
    let mut file = fs::File::create(&deny).expect("opened");
    file.write_all(first.as_bytes()).expect("written");
    file.flush().expect("flushed");
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        assert_eq!(secret(&gateway).await, 403, "half a file is not taken");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(gateway.version().await, version);
    file.write_all(DENIED.replace("403", "404").as_bytes()).expect("written");
    drop(file);
    eventually("the whole file", async || secret(&gateway).await == 404).await;
    assert_eq!(gateway.client().await.get("/other", &[]).await.text(), "first");
}

#[tokio::test]
async fn files_that_exchange_their_places_are_taken_together() {
    let (gateway, folder) = folder().await;
    let aside = folder.join("aside");
    for _ in 0..20 {
        fs::rename(folder.join("20-open.toml"), &aside).expect("moved");
        fs::rename(folder.join("30-deny.toml"), folder.join("20-open.toml")).expect("moved");
        gateway.signal(Signal::HUP);
        fs::rename(&aside, folder.join("30-deny.toml")).expect("moved");
        assert_eq!(secret(&gateway).await, 403);
    }
    let change = gateway.admin_post("/reload").await.json();
    assert_eq!(change["applied"], true, "{change}");
    assert_eq!(secret(&gateway).await, 403);
}

#[tokio::test]
async fn a_link_that_is_swapped_takes_effect_and_one_that_leads_nowhere_does_not() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("witgate.toml");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("10-web.toml"), format!("{LISTENER}{OPEN}")).expect("written");
    for (version, status) in [("..1", "403"), ("..2", "404")] {
        fs::create_dir(folder.join(version)).expect("a folder");
        let text = DENIED.replace("403", status);
        fs::write(folder.join(version).join("30-deny.toml"), text).expect("written");
    }
    std::os::unix::fs::symlink("..1", folder.join("..data")).expect("a link");
    std::os::unix::fs::symlink("..data/30-deny.toml", folder.join("30-deny.toml")).expect("a link");
    let gateway = Gateway::attend(scratch).await;
    assert_eq!(secret(&gateway).await, 403);
    let point_to = |version: &str| {
        std::os::unix::fs::symlink(version, folder.join("..new")).expect("a link");
        fs::rename(folder.join("..new"), folder.join("..data")).expect("renamed");
    };
    point_to("..2");
    eventually("the new rule", async || secret(&gateway).await == 404).await;
    point_to("..3");
    refused(&gateway, &["30-deny.toml"]).await;
    assert_eq!(secret(&gateway).await, 404);
}

#[test]
fn a_configuration_without_a_route_is_not_started_unless_it_is_meant() {
    let witgate = |scratch: &Scratch, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
        command.args(arguments).current_dir(scratch.path()).env_remove("WITGATE_CONFIG");
        let output = command.output().expect("the binary can be run");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let scratch = Scratch::new();
    for text in ["", "# nothing yet\n", &LISTENER.replace("../", "")] {
        scratch.write("witgate.toml", text);
        for arguments in [&["run"][..], &["validate"]] {
            let (code, told) = witgate(&scratch, arguments);
            assert_eq!(code, Some(3), "{told}");
            assert!(told.contains("no route") && told.contains("allow_empty = true"), "{told}");
        }
    }
    scratch.write("witgate.toml", "[gateway]\nallow_empty = true\n");
    let (code, told) = witgate(&scratch, &["validate"]);
    assert_eq!(code, Some(0), "{told}");
}
