//! Plugins in the hands of operators and authors: check, call, settings, rollback.

use std::path::Path;
use std::process::{Command, Output};

use witgate_tests::{Gateway, Scratch, eventually, guest, plugin};

fn witgate(folder: &Path, arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_witgate")).args(arguments).current_dir(folder).output();
    output.expect("the binary can be run")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

const LISTENER: &str = "[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                        [[routes]]\npath = \"/*\"\nrespond = { body = \"hello\" }\n";

/// SHA-256 of `open-sesame`.
const KEYS: &str = r#"{"keys": [{"name": "partner", "sha256": "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7"}]}"#;

#[test]
fn check_says_what_a_component_is() {
    let scratch = Scratch::new();
    scratch.install(&plugin("api-key"), "api-key");
    let output = witgate(scratch.path(), &["plugin", "check", "plugins/api-key.wasm"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    for part in
        ["contracts  authentication", "digest     sha256:", "bytes", "witgate:plugin/crypto@0.1.0", "keys ("]
    {
        assert!(out(&output).contains(part), "`{part}` is missing in:\n{}", out(&output));
    }
    let output = witgate(scratch.path(), &["plugin", "check", "plugins/api-key.wasm", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(report["settings"]["properties"]["keys"].is_object(), "{report}");

    for (name, content) in [("core.wasm", &b"\0asm\x01\0\0\0"[..]), ("text.wasm", b"no"), ("empty.wasm", b"")]
    {
        scratch.write(name, content);
        let output = witgate(scratch.path(), &["plugin", "check", name]);
        assert_eq!(output.status.code(), Some(4), "{name}: {}", err(&output));
        assert!(err(&output).contains(name), "{}", err(&output));
    }
}

#[test]
fn call_prints_the_decision_and_the_time() {
    let scratch = Scratch::new();
    scratch.install(&plugin("api-key"), "api-key");
    let call = |more: &[&str]| {
        let first = ["plugin", "call", "plugins/api-key.wasm", "--settings", KEYS];
        witgate(scratch.path(), &[&first[..], more].concat())
    };
    let known = call(&["--header", "x-api-key: open-sesame", "--contract", "authentication"]);
    assert_eq!(known.status.code(), Some(0), "{}", err(&known));
    assert!(out(&known).contains("\"subject\": \"partner\""), "{}", out(&known));
    assert!(out(&known).contains("microseconds"), "{}", out(&known));
    let stranger: serde_json::Value = serde_json::from_slice(&call(&["-o", "json"]).stdout).expect("JSON");
    assert!(stranger[0]["decision"]["not_mine"].is_object(), "{stranger}");
    assert!(stranger[0]["microseconds"].as_f64().is_some_and(|time| time > 0.0));
    assert_eq!(call(&["--contract", "routing"]).status.code(), Some(4));
    let wrong =
        witgate(scratch.path(), &["plugin", "call", "plugins/api-key.wasm", "--settings", "{\"kees\": []}"]);
    assert_eq!(wrong.status.code(), Some(3), "{}", err(&wrong));
    assert!(err(&wrong).contains("kees"), "{}", err(&wrong));
}

/// As in the gateway: what declares a body is shown the empty one too.
#[test]
fn call_shows_an_empty_body_to_a_plugin_that_declares_it() {
    let scratch = Scratch::new();
    scratch.install(&plugin("json-body"), "json-body");
    let call = |settings: &str| -> serde_json::Value {
        let first = ["plugin", "call", "plugins/json-body.wasm", "-o", "json", "--settings", settings];
        let output = witgate(scratch.path(), &first);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", err(&output)))
    };
    let declared = call("{\"request\": {\"remove\": [\"/a\"]}}");
    assert_eq!(declared[0]["decision"]["request_body"], "unchanged", "{declared}");
    let undeclared = call("{\"response\": {\"remove\": [\"/a\"]}}");
    assert!(undeclared[0]["decision"].get("request_body").is_none(), "{undeclared}");
}

#[test]
fn validate_points_at_the_wrong_setting_of_a_plugin() {
    let scratch = Scratch::new();
    scratch.install(&plugin("api-key"), "api-key");
    let bound = "[plugins.api-key]\n[bindings.door]\nplugin = \"api-key\"\n[bindings.door.settings]\nkeys = []\nkees = 3\n";
    scratch.write("witgate.toml", format!("{LISTENER}{bound}"));
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    for part in ["kees", "witgate.toml:15:1", "^^^^"] {
        assert!(err(&output).contains(part), "`{part}` is missing in:\n{}", err(&output));
    }
}

async fn mark(gateway: &Gateway) -> String {
    gateway.client().await.get("/", &[]).await.header("x-mark").to_owned()
}

#[tokio::test]
async fn a_rollback_by_hand_stays_until_it_is_forced_or_the_file_changes() {
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let bound = "[gateway]\nplugins = [\"mark\"]\n[plugins.mark]\n[bindings.mark]\n";
    let gateway = Gateway::start_exactly(scratch, &format!("{LISTENER}{bound}")).await;
    let folder = gateway.scratch.path().to_owned();
    assert_eq!(mark(&gateway).await, "one");
    let nothing = witgate(&folder, &["plugin", "rollback", "mark"]);
    assert_eq!(nothing.status.code(), Some(1), "{}", out(&nothing));

    gateway.scratch.install(&guest("mark-two"), "mark");
    eventually("the new version", async || mark(&gateway).await == "two").await;
    let back = witgate(&folder, &["plugin", "rollback", "mark"]);
    assert_eq!(back.status.code(), Some(0), "{}", err(&back));
    assert_eq!(mark(&gateway).await, "one");
    let status = out(&witgate(&folder, &["status"]));
    assert!(status.contains("rolled-back"), "{status}");

    let reloaded = witgate(&folder, &["reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{}", err(&reloaded));
    assert_eq!(mark(&gateway).await, "one", "a reload does not undo it");
    assert_eq!(witgate(&folder, &["reload", "--force"]).status.code(), Some(0));
    assert_eq!(mark(&gateway).await, "two");
}

#[tokio::test]
async fn other_changes_take_effect_although_a_plugin_is_refused() {
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let bound = "[gateway]\nplugins = [\"mark\"]\n[plugins.mark]\n[bindings.mark]\n";
    let gateway = Gateway::start_exactly(scratch, &format!("{LISTENER}{bound}")).await;
    gateway.scratch.write("plugins/mark.wasm", "broken");
    eventually("the refusal", async || gateway.metric("witgate_reloads_total", &["failed"]).await > 0.0)
        .await;
    gateway.reconfigure(&format!("{}{bound}", LISTENER.replace("hello", "changed"))).await;
    let reply = gateway.client().await.get("/", &[]).await;
    assert_eq!((reply.text(), reply.header("x-mark")), ("changed", "one"));
    let reloaded = witgate(gateway.scratch.path(), &["reload"]);
    assert_eq!(reloaded.status.code(), Some(4), "{}", err(&reloaded));
    let status = gateway.admin_get("/status").await.json();
    assert_eq!(status["bindings"][0]["state"], "last-good");
}

#[test]
fn a_failed_call_says_why_in_one_line() {
    let scratch = Scratch::new();
    scratch.install(&guest("probe"), "probe");
    let call = |deed: &str| {
        let deed = format!("x-do: {deed}");
        let first =
            ["plugin", "call", "plugins/probe.wasm", "--store", "space", "--contract", "authentication"];
        witgate(scratch.path(), &[&first[..], &["--header", &deed, "--header", "x-with: words"]].concat())
    };
    for (deed, part) in [
        ("panic", "panicked at "),
        ("panic", ": told to"),
        ("recurse", "recurses too deeply"),
        ("loop", "cpu"),
    ] {
        let output = call(deed);
        assert_eq!(output.status.code(), Some(1), "{deed}: {}", out(&output));
        let told = err(&output);
        assert!(told.contains(part), "{deed}: {told}");
        assert_eq!(told.matches("call failed").count(), 1, "{deed}: {told}");
        assert!(!told.contains("RUST_BACKTRACE") && !told.contains("fuel"), "{deed}: {told}");
        assert!(told.lines().count() <= 2, "{deed}: {told}");
    }
    let logged = call("log");
    assert_eq!(logged.status.code(), Some(0), "{}", err(&logged));
    assert!(err(&logged).contains("words"), "the plugin's own lines are shown: {}", err(&logged));
}

#[tokio::test]
async fn lines_that_are_left_out_are_announced() {
    let scratch = Scratch::new();
    scratch.install(&guest("misbehaving"), "misbehaving");
    let bound = "[plugins.misbehaving]\n[bindings.misbehaving]\nquarantine = \"off\"\n\
                 settings = { phase = \"request\", deed = \"trap\" }\n";
    let listener = LISTENER.replace("respond", "plugins = [\"misbehaving\"]\nrespond");
    let gateway = Gateway::start_exactly(scratch, &format!("{listener}{bound}")).await;
    let mut client = gateway.client().await;
    for _ in 0..40 {
        assert_eq!(client.get("/bad", &[]).await.status, 503);
    }
    eventually("the last line of a second", async || {
        gateway.output().contains("of this second are left out")
    })
    .await;
    assert!(!gateway.output().contains("RUST_BACKTRACE"), "{}", gateway.output());
}

#[tokio::test]
async fn a_component_that_does_not_fit_its_settings_is_told_with_its_place() {
    let scratch = Scratch::new();
    scratch.install(&guest("mark-one"), "mark");
    let bound = "[gateway]\nplugins = [\"mark\"]\n[plugins.mark]\n[bindings.mark]\n";
    let gateway = Gateway::start_exactly(scratch, &format!("{LISTENER}{bound}")).await;
    gateway.scratch.install(&plugin("api-key"), "mark");
    let line = || {
        let output = gateway.output();
        output.lines().find(|line| line.contains("the last good version stays in service")).map(str::to_owned)
    };
    eventually("the line about it", async || line().is_some()).await;
    let line = line().expect("it is there");
    assert!(line.contains("witgate.toml:13\""), "the place of the binding: {line}");
    assert_eq!(mark(&gateway).await, "one");
}

#[test]
fn conditions_and_credentials_of_bindings_are_explained() {
    let scratch = Scratch::new();
    scratch.install(&plugin("headers"), "headers");
    scratch.install(&plugin("api-key"), "api-key");
    let write = |more: &str| {
        let routes = "[[routes]]\nname = \"api\"\npath = \"/api/*\"\nplugins = [\"beta\"]\nrespond = { body = \"api\" }\n";
        scratch
            .write("witgate.toml", format!("{LISTENER}{routes}[plugins.headers]\n[plugins.api-key]\n{more}"));
    };
    let beta = "[bindings.beta]\nplugin = \"headers\"\nsettings = { request = { set = { x-a = \"1\" } } }\n";
    let route_test =
        |arguments: &[&str]| out(&witgate(scratch.path(), &[&["route", "test"][..], arguments].concat()));

    write(&format!(
        "{beta}when = {{ client = \"10.0.0.0/8\", headers = {{ x-beta = \"1\" }} }}\nunless = {{ method = \"POST\" }}\n"
    ));
    let told = route_test(&["GET", "/api/x"]);
    assert!(
        told.contains("binding beta: left out: the condition on the client's address of its `when`"),
        "{told}"
    );
    let told = route_test(&["GET", "/api/x", "--client", "10.1.2.3"]);
    assert!(told.contains("left out: the condition on the header `x-beta` of its `when`"), "{told}");
    let told = route_test(&["POST", "/api/x", "--client", "10.1.2.3", "--header", "x-beta: 1"]);
    assert!(told.contains("binding beta: left out: its `unless` holds"), "{told}");
    let told = route_test(&["GET", "/api/x", "--client", "10.1.2.3", "--header", "x-beta: 1"]);
    assert!(told.contains("plugins  beta") && !told.contains("left out"), "{told}");
    let validated = err(&witgate(scratch.path(), &["validate"]));
    assert!(validated.contains("note: the binding `beta` can see credentials"), "{validated}");

    write(&format!("{beta}credentials = \"granted\"\nwhen = {{ path = \"/other\" }}\n"));
    let validated = witgate(scratch.path(), &["validate"]);
    assert_eq!(validated.status.code(), Some(0), "{}", err(&validated));
    let warned = "warning: binding `beta` is never called on the routes `api`";
    assert!(err(&validated).contains(warned) && !err(&validated).contains("note:"), "{}", err(&validated));

    let door = format!("[bindings.beta]\nplugin = \"api-key\"\nsettings = {KEYS_TOML}\n");
    for (more, part) in [
        (format!("{beta}when = {{ path = \"/a\" }}\nunless = {{ path = \"/*\" }}\n"), "can never hold"),
        (format!("{door}when = {{ claims = {{ role = \"a\" }} }}\n"), "decides before the identity is known"),
        (
            format!("{door}credentials = {{ headers = [\"x-api-key\"] }}\n"),
            "grants.credentials = [\"x-api-key\"]",
        ),
        (format!("{beta}grants = {{ credentials = [\"cooky\"] }}\n"), "did you mean `cookie`?"),
    ] {
        write(&more);
        let refused = witgate(scratch.path(), &["validate"]);
        assert_ne!(refused.status.code(), Some(0), "{more}");
        assert!(err(&refused).contains(part), "`{part}` is missing in:\n{}", err(&refused));
    }
}

/// The settings of the plugin `api-key`, in TOML.
const KEYS_TOML: &str = "{ keys = [{ name = \"partner\", sha256 = \"d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7\" }] }";
