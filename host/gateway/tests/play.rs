//! `witgate plugin play`: whole exchanges, as the command prints them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use witgate_tests::{Scratch, plugin};

/// Plays a file; returns what is printed, what is printed as an error, and the exit code.
fn play(file: &Path, more: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    let output =
        command.args(["plugin", "play"]).arg(file).args(more).output().expect("the binary can be run");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("the command prints text");
    (text(output.stdout), text(output.stderr), output.status.code().expect("it ends by itself"))
}

/// A folder with a component beside the files.
fn beside(name: &str) -> Scratch {
    let scratch = Scratch::new();
    std::fs::copy(plugin(name), scratch.path().join("plugin.wasm")).expect("a copy");
    scratch
}

#[test]
fn an_exchange_is_told_from_the_head_to_the_last_byte() {
    let scratch = beside("json-body");
    let file = scratch.write(
        "play.toml",
        r#"
plugin = "plugin.wasm"
[binding]
budget = { cpu = "1s", wall = "5s" }
[binding.settings]
request = { remove = ["/admin"] }
response = { redact = ["/**/password"] }
[request]
method = "POST"
target = "/orders?page=2"
headers = { content-type = "application/json", x-many = ["a", "b"] }
client = "192.0.2.7"
subject = "ada"
chunks = ['{"admin":true,', '"keep":1}']
[response]
status = 201
headers = { content-type = "application/json" }
chunks = ['{"user":{"pass', 'word":"x"}}']
"#,
    );
    let (printed, errors, code) = play(&file, &["-o", "json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let report: Value = serde_json::from_str(&printed).expect("JSON");
    let events = report["events"].as_array().expect("a list");
    let phases: Vec<&str> = events.iter().filter_map(|event| event["call"]["phase"].as_str()).collect();
    assert_eq!((phases.first(), phases.last()), (Some(&"request"), Some(&"response-body")));
    let sent = &events.iter().find(|event| event["sent"].is_object()).expect("it was sent")["sent"];
    assert_eq!((&sent["upstream"], &sent["line"]), (&"origin".into(), &"POST /orders?page=2".into()));
    assert_eq!(sent["body"], r#"{"keep":1}"#);
    let headers = sent["headers"].to_string();
    for header in ["x-many: a", "x-many: b", "x-auth-subject: ada", "x-real-ip: 192.0.2.7"] {
        assert!(headers.contains(header), "{header}: {headers}");
    }
    let answered = &events.last().expect("there are events")["answered"];
    assert_eq!((&answered["status"], &answered["complete"]), (&201.into(), &true.into()));
    assert_eq!(answered["body"], r#"{"user":{"password":"[redacted]"}}"#);

    let (printed, ..) = play(&file, &[]);
    for line in ["-> origin: POST /orders?page=2", "<- client: 201", r#"     {"keep":1}"#] {
        assert!(printed.lines().any(|known| known == line), "{line}: {printed}");
    }
}

#[test]
fn fetches_and_stores_are_as_the_file_tells() {
    let scratch = beside("introspection");
    let file = scratch.write(
        "play.json",
        r#"{
    "plugin": "plugin.wasm",
    "binding": {
        "budget": { "cpu": "1s", "wall": "5s" },
        "grants": { "fetch": ["idp"], "store": ["tokens"] },
        "settings": { "upstream": "idp" }
    },
    "request": { "headers": { "authorization": "Bearer a" } },
    "upstreams": { "idp": [{ "headers": { "content-type": "application/json" }, "body": "{\"active\":false}" }] },
    "store": { "tokens": { "other": "kept", "count": 7 } }
}"#,
    );
    let (printed, errors, code) = play(&file, &[]);
    assert_eq!((code, errors.as_str()), (0, ""), "{printed}");
    let at = |part: &str| printed.find(part).unwrap_or_else(|| panic!("{part}: {printed}"));
    let order = [at("-> idp: POST /introspect"), at("authentication ("), at("<- client: 401")];
    assert!(order.is_sorted(), "{printed}");
    assert!(
        printed.contains("store tokens: count = 7\n") && printed.contains("store tokens: other = kept\n")
    );
    assert!(!printed.contains("-> origin"), "nothing passed");
}

#[test]
fn mistakes_are_shown_with_their_line_and_what_to_do() {
    let scratch = beside("maintenance");
    for (text, line, told) in [
        ("plugin = \"plugin.wasm\"\n[request]\nmehtod = \"GET\"\n", 3, "unknown field `mehtod`"),
        ("plugin = \"plugin.wasm\"\n[request]\nmethod = \"G T\"\n", 3, "not a method"),
        ("plugin = \"plugin.wasm\"\n[request]\ntarget = \"x\"\n", 3, "begins with `/`"),
        ("plugin = \"plugin.wasm\"\n[request]\nbody = \"a\"\nchunks = [\"b\"]\n", 2, "more than once"),
        ("plugin = \"plugin.wasm\"\n[request.headers]\n\"a b\" = \"c\"\n", 3, "not a header name"),
        ("plugin = \"plugin.wasm\"\n[request.headers]\ncontent-length = \"1\"\n", 3, "follows from"),
        ("plugin = \"plugin.wasm\"\n[request.claims]\na = \"b\"\n", 2, "claims need a subject"),
        ("plugin = \"plugin.wasm\"\n[response]\nstatus = 99\n", 3, "from 200 to 599"),
        ("plugin = \"plugin.wasm\"\n[upstreams.origin]\nstatus = 200\n", 2, "[response]"),
        ("plugin = \"plugin.wasm\"\n[upstreams]\nidp = []\n", 3, "at least one response"),
        ("plugin = \"plugin.wasm\"\n[binding.settings]\nstatus = 700\n", 3, "from 400 to 599"),
        ("plugin = \"plugin.wasm\"\n[binding]\ngrnats = {}\n", 3, "grants"),
        ("plugin = \"other.wasm\"\n", 1, "other.wasm"),
        ("plugin = \"plugin.wasm\"\n[request", 2, "unclosed"),
        ("[request]\n", 1, "missing field `plugin`"),
    ] {
        let file = scratch.write("play.toml", text);
        let (printed, errors, code) = play(&file, &[]);
        assert!(code != 0 && printed.is_empty(), "{text}: {printed}");
        assert!(errors.contains(told), "{text}: {errors}");
        assert!(errors.contains(&format!("play.toml:{line}:")), "{text}: {errors}");
    }
    let (_, errors, code) = play(&scratch.path().join("none.toml"), &[]);
    assert!(code == 2 && errors.contains("--help` has an example"), "{errors}");
}

#[test]
fn what_the_gateway_refuses_is_told_and_fails() {
    let scratch = Scratch::new();
    std::fs::copy(witgate_tests::guest("misbehaving-additions"), scratch.path().join("plugin.wasm"))
        .expect("a copy");
    for (deed, told) in [
        ("trap", "FAILED: the plugin trapped"),
        ("control_bytes", "the gateway REFUSED this result"),
        ("forbidden_header", "the gateway REFUSED this result"),
    ] {
        let text = format!(
            "plugin = \"plugin.wasm\"\n[binding.settings]\nphase = \"gate\"\ndeed = \"{deed}\"\n[request]\ntarget = \"/bad\"\n"
        );
        let (printed, errors, code) = play(&scratch.write("play.toml", text), &[]);
        assert_eq!(code, 1, "{deed}: {printed}{errors}");
        assert!(printed.contains(told) && printed.contains("<- client: 503"), "{deed}: {printed}");
        assert!(errors.contains("a call failed, or the gateway refused"), "{deed}: {errors}");
    }
}

#[test]
fn the_cost_of_a_call_is_measured_and_instructions_are_the_same_each_time() {
    let scratch = beside("maintenance");
    let component = scratch.path().join("plugin.wasm");
    let bench = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
        let output =
            command.args(["plugin", "bench"]).arg(&component).args(["--calls", "50", "-o", "json"]).output();
        let output = output.expect("the binary can be run");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")[0].clone()
    };
    let (one, two) = (bench(), bench());
    assert_eq!((&one["contract"], &one["calls"]), (&"gate".into(), &50.into()));
    assert!(one["microseconds"].as_f64().expect("a number") > 0.0);
    let count = |cost: &Value| cost["instructions"].as_u64().expect("a number");
    assert!(count(&one) > 100 && count(&one) == count(&two), "{one} {two}");
    assert!(one["memory"].as_u64().expect("a number") >= 64 * 1024);
}

#[test]
fn a_call_sees_the_response_that_is_described() {
    let scratch = beside("json-body");
    let body = scratch.write("body", r#"{"password":"x"}"#);
    let settings = r#"{ "response": { "redact": ["/password"] } }"#;
    let mut command = Command::new(env!("CARGO_BIN_EXE_witgate"));
    command.args(["plugin", "call"]).arg(scratch.path().join("plugin.wasm")).args([
        "--settings",
        settings,
        "-o",
        "json",
    ]);
    command.args([
        "--response",
        "200",
        "--response-header",
        "content-type: application/json",
        "--response-body",
    ]);
    let output = command.arg(body).output().expect("the binary can be run");
    let printed: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(
        printed[0]["decision"]["response_body"]["replace"], r#"{"password":"[redacted]"}"#,
        "{printed}"
    );
}
