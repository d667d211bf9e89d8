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
    for (list, kind) in [("Filter", "cors"), ("Filter", "compression"), ("Balancer", "maglev")] {
        let branches = schema["$defs"][list]["anyOf"].as_array().expect("one branch for each kind");
        assert!(branches.iter().any(|branch| branch["properties"]["kind"]["const"] == kind), "{kind}");
    }
}

/// A certificate with its key, PEM.
fn certified() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// `validate` and `run` end with 3 and say the same.
fn refused_by_both(scratch: &Scratch, part: &str) {
    for arguments in [["validate"], ["run"]] {
        let output = witgate(scratch.path(), &arguments);
        assert_eq!(code(&output), 3, "{arguments:?}, {part}: {}", err(&output));
        for part in [part, "witgate.toml:", "= help: "] {
            assert!(err(&output).contains(part), "{arguments:?}, {part}: {}", err(&output));
        }
    }
}

#[test]
fn validate_refuses_what_run_refuses() {
    let scratch = Scratch::new();
    let ((certificate, key), (_, other)) = (certified(), certified());
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    scratch.write("cert.pem", &certificate);
    scratch.write("key.pem", &key);
    scratch.write("other.pem", other);
    scratch.write("encrypted.pem", encrypted);
    scratch.write("garbage.pem", "garbage");
    scratch.write("empty.pem", "");
    let tls = |certificate: &str, key: &str, more: &str| {
        format!("tls = {{ certificate = \"{certificate}.pem\", key = \"{key}.pem\"{more} }}\n[[routes]]")
    };
    for (tls, part) in [
        (tls("cert", "other", ""), "is not the one of the certificate"),
        (tls("key", "cert", ""), "may be exchanged"),
        (tls("cert", "garbage", ""), "garbage.pem` has no private key"),
        (tls("cert", "encrypted", ""), "is encrypted"),
        (tls("empty", "key", ""), "empty.pem` has no certificate"),
        (tls("cert", "key", ", client_ca = \"empty.pem\""), "empty.pem` has no certificate"),
        (tls("cert", "key", ", client_ca = \"garbage.pem\""), "garbage.pem` has no certificate"),
        (tls("cert", "key", ", client_ca = \"key.pem\""), "key.pem` has no certificate"),
    ] {
        scratch.write("witgate.toml", GOOD.replace("[[routes]]", &tls));
        refused_by_both(&scratch, part);
    }
    scratch.write("witgate.toml", GOOD.replace("\"off\"", "\"off\"\nsocket = \"missing/admin.sock\""));
    refused_by_both(&scratch, "create the folder");
    scratch.write("witgate.toml", GOOD.replace("\"off\"", "\"off\"\nsocket = \"cert.pem\""));
    refused_by_both(&scratch, "is not a socket");
    let long = "x".repeat(300);
    for (path, part) in [
        ("missing/access.log", "create its folder"),
        (".", "name a file in this folder"),
        (&*long, "File name too long"),
        ("witgate.toml/access.log", "create its folder"),
        ("new/", "name a file in this folder"),
    ] {
        scratch.write("witgate.toml", format!("{GOOD}[telemetry]\naccess_log = \"{path}\"\n"));
        refused_by_both(&scratch, part);
    }
    scratch
        .write("witgate.toml", GOOD.replace("[[routes]]", &tls("cert", "key", ", client_ca = \"cert.pem\"")));
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    let scratch = Scratch::new();
    let routes = "[[routes]]\nname = \"admin\"\npath = \"/admin/*\"\nrespond = { body = \"admin\" }\n\
                  filters = [{ kind = \"ip\", allow = [\"10.0.0.0/8\"] }]\n\
                  [[routes]]\nname = \"shop\"\nhost = \"a.test\"\npath = \"/*\"\nrespond = { body = \"shop\" }\n\
                  [[routes]]\nname = \"old\"\nhost = \"old.test\"\npath = \"/index.html$\"\n\
                  redirect = { location = \"https://$host$request_uri\" }\n";
    scratch.write("witgate.toml", format!("{GOOD}{routes}"));
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let told = err(&output);
    for part in [
        "warning: the filter `ip` of route `admin`",
        "warning: `$host` in the redirect",
        "looks like a regular expression",
    ] {
        assert!(told.contains(part), "`{part}` is missing in:\n{told}");
    }
    for (wrong, part) in [
        ("path = \"~ ^/api/(.*)$\"\nupstream = \"api\"", "regular expressions are not supported"),
        ("host = \"~^www\"\nupstream = \"api\"", "regular expressions are not supported"),
        (
            "upstream = \"unix\"\n[upstreams.unix]\nendpoints = [\"unix:/run/a.sock\"]",
            "Unix sockets are not supported",
        ),
    ] {
        let api = "[upstreams.api]\nendpoints = [\"127.0.0.1:1\"]\n";
        scratch.write("witgate.toml", format!("{GOOD}[[routes]]\n{wrong}\n{api}"));
        let output = witgate(scratch.path(), &["validate"]);
        assert_eq!(code(&output), 3, "{}", err(&output));
        assert!(err(&output).contains(part), "`{part}` is missing in:\n{}", err(&output));
    }
}

#[test]
fn a_route_is_tested_at_the_listener_of_the_url() {
    let scratch = Scratch::new();
    let (certificate, key) = certified();
    scratch.write("cert.pem", certificate);
    scratch.write("key.pem", key);
    let text = "[admin]\naddress = \"off\"\n[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:8080\"\n\
                [[listeners]]\nname = \"edge\"\naddress = \"127.0.0.1:8443\"\n\
                tls = { certificate = \"cert.pem\", key = \"key.pem\" }\n\
                [[routes]]\nname = \"plain\"\nlisteners = [\"web\"]\nrespond = { status = 200 }\n\
                [[routes]]\nname = \"secret\"\nlisteners = [\"edge\"]\nrespond = { status = 200 }\n";
    scratch.write("witgate.toml", text);
    for (url, listener, route) in [
        ("https://a.test/", "listener edge (127.0.0.1:8443, https)", "route    secret"),
        ("https://a.test:8443/", "listener edge", "route    secret"),
        ("http://a.test:8080/", "listener web (127.0.0.1:8080, http)", "route    plain"),
        ("/", "listener web", "route    plain"),
    ] {
        let output = witgate(scratch.path(), &["route", "test", "GET", url]);
        assert_eq!(code(&output), 0, "{url}: {}", err(&output));
        assert!(out(&output).contains(listener) && out(&output).contains(route), "{url}: {}", out(&output));
    }
    let output = witgate(scratch.path(), &["route", "test", "GET", "https://a.test:9999/"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("no listener serves https at port 9999"), "{}", err(&output));
    let listed = out(&witgate(scratch.path(), &["routes"]));
    assert!(listed.contains("LISTENERS") && listed.contains("secret  edge"), "{listed}");
}

#[test]
fn a_file_that_is_not_utf_8_is_told_with_its_line() {
    let scratch = Scratch::new();
    scratch.write("witgate.toml", [GOOD.as_bytes(), b"# caf\xe9\n"].concat());
    let output = witgate(scratch.path(), &["validate"]);
    assert_eq!(code(&output), 3);
    for part in ["(line 9, byte 6 of it)", "save it as UTF-8"] {
        assert!(err(&output).contains(part), "{}", err(&output));
    }
}

#[test]
fn the_path_of_a_tested_route_is_the_one_that_its_upstream_gets() {
    let scratch = Scratch::new();
    let routes = "[[routes]]\nname = \"store\"\npath = \"/s/*\"\nmerge_slashes = false\nrespond = { status = 200 }\n\
                  [[routes]]\nname = \"other\"\npath = \"/o/*\"\nrespond = { status = 200 }\n";
    scratch.write("witgate.toml", format!("{GOOD}{routes}"));
    for (url, path) in [
        ("/s//a///b/./c", "path     /s//a///b/c\n"),
        ("http://a.test/s/a//", "path     /s/a//\n"),
        ("/o//a///b", "path     /o/a/b\n"),
    ] {
        let output = witgate(scratch.path(), &["route", "test", "GET", url, "--listener", "web"]);
        assert!(out(&output).contains(path), "{url}: {}{}", out(&output), err(&output));
    }
}
