//! The commands as a person or a script meets them: what they print, what they end with.

use std::path::Path;
use std::process::{Command, Output};

use witgate_tests::Scratch;

const GOOD: &str = "[admin]\naddress = \"off\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
                    [[routes]]\npath = \"/*\"\nrespond = { body = \"hello\" }\n";

fn witgate(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_witgate"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("WITGATE_CONFIG")
        .env_remove("WITGATE_ADMIN")
        .output()
        .expect("the binary can be run")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it ended by itself")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn a_good_configuration_is_valid() {
    let scratch = Scratch::new();
    scratch.write("witgate.toml", GOOD);
    for arguments in [&["validate"][..], &["run", "-t"], &["validate", "--config", "."]] {
        let output = witgate(scratch.path(), arguments);
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(out(&output).contains("is valid: listeners 1, routes 1"), "{}", out(&output));
    }
}

#[test]
fn every_problem_is_told_at_once_with_its_place_and_a_hint() {
    let scratch = Scratch::new();
    scratch.write("witgate.toml", GOOD.replace("respond", "respnd") + "[gateway]\nworkers = \"many\"\n");
    for arguments in [["validate"], ["run"]] {
        let output = witgate(scratch.path(), &arguments);
        let text = err(&output);
        assert_eq!(code(&output), 3, "{text}");
        for part in
            ["witgate.toml:8:1", "^^^^^^", "did you mean `respond`?", "witgate.toml:10:11", "2 problems."]
        {
            assert!(text.contains(part), "`{part}` is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "no colours where no terminal is");
    }
}

#[test]
fn what_only_the_data_path_knows_is_found_too() {
    let scratch = Scratch::new();
    let tls = "tls = { certificates = [{ certificate = \"no.pem\", key = \"no.key\" }] }\n[[routes]]";
    scratch.write("witgate.toml", GOOD.replace("[[routes]]", tls));
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(code(&output), 3, "{}", err(&output));
    assert!(err(&output).contains("no.pem"), "{}", err(&output));
}

#[test]
fn a_plugin_that_cannot_be_loaded_has_an_exit_code_of_its_own() {
    let scratch = Scratch::new();
    let bound = "[gateway]\nplugins = [\"door\"]\n[plugins.door]\n[bindings.door]\n";
    scratch.write("witgate.toml", format!("{GOOD}{bound}"));
    for arguments in [["validate"], ["run"]] {
        let output = witgate(scratch.path(), &arguments);
        assert_eq!(code(&output), 4, "{}", err(&output));
        assert!(err(&output).contains("plugins/door.wasm"), "{}", err(&output));
    }
    scratch.write("plugins/door.wasm", "not a component");
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(code(&output), 4, "{}", err(&output));
    assert!(err(&output).contains("door.wasm"), "{}", err(&output));
}

#[test]
fn nonsense_on_the_command_line_is_a_matter_of_usage() {
    let scratch = Scratch::new();
    for arguments in
        [&["rum"][..], &["run", "--bogus"], &["plugin"], &["proxy", "--from", "x", "--to", "127.0.0.1:1"]]
    {
        let output = witgate(scratch.path(), arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_gateway_that_does_not_run_cannot_be_reached() {
    let scratch = Scratch::new();
    for arguments in [
        &["status", "--admin", "unix:admin.sock"][..],
        &["reload", "--admin", "127.0.0.1:1"],
        &["drain", "--admin", "./admin.sock"],
        &["plugin", "rollback", "door", "--admin", "unix:admin.sock"],
        &["upstreams", "set", "api", "127.0.0.1:1", "--drain", "--admin", "unix:admin.sock"],
        &["upstreams", "--admin", "unix:admin.sock"],
    ] {
        let output = witgate(scratch.path(), arguments);
        assert_eq!(code(&output), 5, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("cannot be reached"), "{}", err(&output));
    }
}

#[test]
fn a_missing_configuration_is_named() {
    let scratch = Scratch::new();
    let output = witgate(scratch.path(), &["run", "--config", "nowhere.toml"]);
    assert_eq!(code(&output), 3);
    assert!(err(&output).contains("nowhere.toml"), "{}", err(&output));
}

#[test]
fn lists_are_tables_for_people_and_json_for_programs() {
    let scratch = Scratch::new();
    let upstream = "[[routes]]\nname = \"api\"\npath = \"/api/*\"\nupstream = \"api\"\n\
                    [upstreams.api]\nendpoints = [\"127.0.0.1:1\", \"127.0.0.1:2\"]\n";
    scratch.write("witgate.toml", format!("{GOOD}{upstream}"));
    assert!(out(&witgate(scratch.path(), &["routes"])).contains("/api/*"));
    for arguments in [&["routes"][..], &["upstreams", "--configured"]] {
        let output = witgate(scratch.path(), &[arguments, &["-o", "json"]].concat());
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let found = rows.as_array().expect("a list").iter().any(|row| row["name"] == "api");
        assert!(found, "{rows}");
    }
    let version: serde_json::Value =
        serde_json::from_slice(&witgate(scratch.path(), &["version", "-o", "json"]).stdout).expect("JSON");
    assert_eq!(version["witgate"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn where_no_gateway_runs_the_upstreams_of_the_configuration_are_listed() {
    let scratch = Scratch::new();
    let upstream = "[upstreams.api]\nendpoints = [\"127.0.0.1:1\"]\n";
    scratch.write(
        "witgate.toml",
        format!("{GOOD}{upstream}").replace("\"off\"", "\"off\"\nsocket = \"admin.sock\""),
    );
    let output = witgate(scratch.path(), &["upstreams"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("api       127.0.0.1:1  http/1.1  round-robin"), "{}", out(&output));
    assert!(err(&output).contains("admin.sock does not respond"), "{}", err(&output));
}

#[test]
fn the_schema_of_the_configuration_is_published() {
    let output = witgate(Path::new("."), &["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["properties"]["bindings"].is_object(), "{schema}");
}
