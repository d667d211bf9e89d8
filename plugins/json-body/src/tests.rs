//! One test for each promise of the README.

use super::*;
use witgate_sdk::test;

fn plugin(settings: &str) -> JsonBody {
    test::configure(settings).expect("the settings are good")
}

fn chunk(content: &str) -> Chunk {
    Chunk { content: content.into(), end: true, context: Vec::new() }
}

/// The body of a JSON response that was edited by these rules.
fn response(rules: &str, content: &str) -> String {
    let plugin = plugin(&format!(r#"{{ "response": {rules} }}"#));
    let response = test::response(200).header("content-type", "application/json; charset=utf-8").build();
    let result = plugin.on_response_body(chunk(content), &response, &test::request().build());
    result.output.map_or(content.to_owned(), |output| String::from_utf8(output).expect("JSON is UTF-8"))
}

#[test]
fn fields_are_removed_wherever_they_stand_in_their_object() {
    let remove = |content: &str| response(r#"{ "remove": ["/secret"] }"#, content);
    assert_eq!(remove(r#"{"secret":1,"a":2}"#), r#"{"a":2}"#);
    assert_eq!(remove(r#"{"a":2,"secret":{"deep":[1]}}"#), r#"{"a":2}"#);
    assert_eq!(remove(r#"{"a":1,"secret":2,"b":3}"#), r#"{"a":1,"b":3}"#);
    assert_eq!(remove(r#"{"secret":2}"#), "{}");
    assert_eq!(remove(r#"{"secret":1,"secret":2,"a":3,"secret":4}"#), r#"{"a":3}"#, "every one of them");
    assert_eq!(remove("{\n  \"a\": 1,\n  \"secret\": 2\n}\n"), "{\n  \"a\": 1\n}\n");
    assert_eq!(remove(r#"{"inner":{"secret":1}}"#), r#"{"inner":{"secret":1}}"#, "only at its path");
}

#[test]
fn elements_are_removed_by_their_place() {
    assert_eq!(response(r#"{ "remove": ["/list/1"] }"#, r#"{"list":[1,2,3]}"#), r#"{"list":[1,3]}"#);
    assert_eq!(response(r#"{ "remove": ["/*"] }"#, "[1, 2]"), "[]");
}

#[test]
fn values_are_redacted_and_names_changed() {
    let rules = r#"{ "redact": ["/card"], "rename": { "/mail": "email" } }"#;
    assert_eq!(
        response(rules, r#"{ "mail" : "a@b.test", "card" : {"n": [1, 2]}, "x": 1 }"#),
        r#"{ "email" : "a@b.test", "card" : "[redacted]", "x": 1 }"#
    );
    let both = r#"{ "redact": ["/a"], "rename": { "/a": "b" } }"#;
    assert_eq!(response(both, r#"{"a":1}"#), r#"{"b":"[redacted]"}"#);
    let twice = plugin(r#"{ "redacted": "\"***\"", "response": { "redact": ["/a"] } }"#);
    assert_eq!(twice.response.redacted, br#""\"***\"""#, "what is written is a JSON string");
}

#[test]
fn paths_reach_through_objects_and_arrays() {
    let content = r#"{"users":[{"email":"a","tags":{"email":"t"}},{"email":"b"}],"email":"c"}"#;
    assert_eq!(
        response(r#"{ "redact": ["/users/*/email"] }"#, content),
        r#"{"users":[{"email":"[redacted]","tags":{"email":"t"}},{"email":"[redacted]"}],"email":"c"}"#
    );
    assert_eq!(
        response(r#"{ "remove": ["/**/email"] }"#, content),
        r#"{"users":[{"tags":{}},{}]}"#,
        "at any depth, none included"
    );
    assert_eq!(response(r#"{ "remove": ["/a~1b/~0"] }"#, r#"{"a/b":{"~":1,"x":2}}"#), r#"{"a/b":{"x":2}}"#);
}

#[test]
fn a_name_is_found_however_it_is_written() {
    let rules = r#"{ "remove": ["/password"] }"#;
    assert_eq!(response(rules, r#"{"p\u0061ssword":"x","a":1}"#), r#"{"a":1}"#);
    assert_eq!(response(r#"{ "remove": ["/ä\"b"] }"#, r#"{"\u00e4\"b":"x"}"#), "{}");
}

#[test]
fn what_is_not_edited_passes_byte_for_byte() {
    let content =
        r#" { "z" : 12345678901234567890.10e+5 , "a":[ ], "b":{ }, "c" : "\u00e4\n", "gone":0, "d":-0.5 } "#;
    let expected = r#" { "z" : 12345678901234567890.10e+5 , "a":[ ], "b":{ }, "c" : "\u00e4\n", "d":-0.5 } "#;
    assert_eq!(response(r#"{ "remove": ["/gone"] }"#, content), expected);
    let plugin = plugin(r#"{ "response": { "remove": ["/gone"] } }"#);
    let view = test::response(200).header("content-type", "application/problem+json").build();
    let result = plugin.on_response_body(chunk(r#"{"a":1}"#), &view, &test::request().build());
    assert_eq!(result, BodyResult::unchanged(), "nothing to edit, nothing to send over the border");
}

#[test]
fn only_json_is_edited() {
    let plugin = plugin(r#"{ "request": { "remove": ["/admin"] } }"#);
    let edit = |content_type: &str| {
        let request = test::request().header("content-type", content_type).build();
        plugin.on_request_body(chunk(r#"{"admin":true}"#), &request)
    };
    for json in ["application/json", "Application/JSON;charset=utf-8", "application/vnd.api+json"] {
        assert_eq!(edit(json), BodyResult::replace("{}"), "{json}");
    }
    for other in ["text/plain", "application/x-ndjson", ""] {
        assert_eq!(edit(other), BodyResult::unchanged(), "{other}");
    }
}

#[test]
fn what_is_not_json_does_not_pass() {
    let rules = r#"{ "remove": ["/secret"] }"#;
    for content in [
        "{",
        "{\"secret\":1,}",
        "{'secret':1}",
        "{\"a\":01}",
        "{\"a\":1} x",
        "nul",
        "[1 2]",
        "{\"a\"}",
        "\"\n\"",
        "[1,]",
        "{\"a\":\"\\x\",\"\\x\":1}",
        "-",
        "1.",
        "1e",
        "\u{feff}{}",
        "{\"\\u+123\":1}",
    ] {
        let gateway = test::Gateway::new();
        assert_eq!(response(rules, content), "null", "{content}");
        assert_eq!(gateway.counted("invalid_json"), 1);
    }
    let passing = plugin(r#"{ "invalid": "pass", "response": { "remove": ["/secret"] } }"#);
    let view = test::response(200).header("content-type", "application/json").build();
    assert_eq!(
        passing.on_response_body(chunk("{"), &view, &test::request().build()),
        BodyResult::unchanged()
    );
}

/// Whether the call fails, so that neither the body nor a replacement passes. The message is returned. A panic ends
/// the whole instance in WebAssembly, so this is tested natively only.
#[cfg(not(target_family = "wasm"))]
fn failure(settings: &str, content: &str) -> Option<String> {
    let plugin = plugin(settings);
    let view = test::response(200).header("content-type", "application/json").build();
    let request = test::request().build();
    let call = std::panic::AssertUnwindSafe(|| plugin.on_response_body(chunk(content), &view, &request));
    let message = std::panic::catch_unwind(call).err()?.downcast::<String>().expect("a message");
    Some(*message)
}

#[cfg(not(target_family = "wasm"))]
#[test]
fn json_that_nests_too_deep_is_a_failure_and_never_replaced() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    let rules = r#""response": { "remove": ["/secret"] }"#;
    for invalid in ["withhold", "pass"] {
        let settings = format!(r#"{{ "invalid": "{invalid}", {rules} }}"#);
        for content in [deep(129), deep(200), format!(r#"{{"secret":1,"a":{}}}"#, deep(128)), "[".repeat(300)]
        {
            let gateway = test::Gateway::new();
            let message = failure(&settings, &content).expect("it cannot be read");
            assert!(message.contains("nests deeper than 128 at byte"), "{message}");
            assert_eq!((gateway.counted("too_deep"), gateway.counted("invalid_json")), (1, 0));
        }
        assert_eq!(failure(&settings, &deep(128)), None, "it can be read");
    }
}

#[test]
fn a_name_with_half_of_a_surrogate_pair_is_json() {
    let content = r#"{"\ud800":1,"secret":2,"\udc00\ud83d\ude00":3}"#;
    assert_eq!(response(r#"{ "remove": ["/secret"] }"#, content), r#"{"\ud800":1,"\udc00\ud83d\ude00":3}"#);
    assert_eq!(response(r#"{ "remove": ["/\ud83d\ude00"] }"#, r#"{"\uD83D\uDE00":1}"#), "{}");
    assert_eq!(
        response(r#"{ "remove": ["/a/\u0008\f\n\r\t"] }"#, r#"{"\u0061":{"\b\f\n\r\t":1}}"#),
        r#"{"a":{}}"#.replace('a', "\\u0061")
    );
}

#[test]
fn a_content_type_is_recognised_whatever_stands_beside_it() {
    let plugin = plugin(r#"{ "request": { "remove": ["/admin"] } }"#);
    let edit = |types: &[&[u8]]| {
        let request =
            types.iter().fold(test::request(), |request, value| request.header("content-type", *value));
        plugin.on_request_body(chunk(r#"{"admin":true}"#), &request.build())
    };
    assert_eq!(edit(&[b"application/json; x=\"\xff\""]), BodyResult::replace("{}"));
    assert_eq!(edit(&[b"text/plain", b"application/json"]), BodyResult::replace("{}"));
    assert_eq!(edit(&[b"text/plain"]), BodyResult::unchanged());
}

#[test]
fn a_body_is_asked_for_only_where_there_are_rules() {
    let interest = plugin(r#"{ "request": { "remove": ["/a"] } }"#).interest();
    assert_eq!((interest.request_body, interest.response_body), (BodyAccess::Buffered, BodyAccess::None));
}

#[test]
fn every_bad_rule_is_reported_at_its_place() {
    let settings = r#"{ "request": { "remove": ["/ok", "secret"] },
                        "response": { "redact": ["/**"], "rename": { "a/b": "c" } } }"#;
    let problems = test::configure::<JsonBody>(settings).err().expect("three problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/request/remove/1", "/response/redact/0", "/response/rename/a~1b"]);
    assert_eq!(test::configure::<JsonBody>("{}").err().expect("no rule")[0].pointer, "");
}
