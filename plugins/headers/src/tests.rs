//! One test for each promise of the README.

use super::*;
use witgate_sdk::{ComposedHeader, Header, HeaderChange, Identity, test};

fn plugin(settings: &str) -> Headers {
    test::configure(settings).expect("the settings are good")
}

fn request_changes(settings: &str, request: test::RequestBuilder) -> Vec<HeaderChange> {
    let request = request.build();
    match plugin(settings).on_request(&request) {
        RequestOutcome::Proceed(changes) => composed(changes.headers, &request, None),
        RequestOutcome::Respond(response) => panic!("answered {response:?}"),
    }
}

/// The headers that the gateway composes from the changes.
fn composed(
    changes: Vec<HeaderChange>,
    request: &Request,
    response: Option<&ResponseView>,
) -> Vec<HeaderChange> {
    let value = |header: &ComposedHeader| test::composed(&header.value, request, response);
    let made = changes.into_iter().filter_map(|change| {
        Some(match change {
            HeaderChange::SetComposed(header) => match value(&header) {
                Some(value) => HeaderChange::Set(Header::new(header.name, value)),
                None => HeaderChange::Remove(header.name),
            },
            HeaderChange::AppendComposed(header) => {
                HeaderChange::Append(Header::new(&*header.name, value(&header)?))
            }
            other => other,
        })
    });
    made.collect()
}

fn set(name: &str, value: &str) -> HeaderChange {
    HeaderChange::Set(Header::new(name, value))
}

fn append(name: &str, value: &str) -> HeaderChange {
    HeaderChange::Append(Header::new(name, value))
}

fn remove(name: &str) -> HeaderChange {
    HeaderChange::Remove(name.to_owned())
}

#[test]
fn every_placeholder_of_a_request_is_filled_in() {
    let settings = r#"{ "request": { "set": { "x-all": "{client.address} {request.id} {method} {path} {original_path} {query} {authority} {scheme} {route} {identity.subject} {claim.role} {header.x-in} {parameter.id} {{}}" } } }"#;
    let request = test::request()
        .client_address("192.0.2.7")
        .request_id("id-1")
        .method("PUT")
        .path("/users/1?full=yes")
        .original_path("/api/users/1")
        .authority("api.example.test")
        .scheme("https")
        .route("users")
        .identity(Identity::new("alice").with_claim("role", "admin"))
        .path_parameter("id", "1")
        .header("X-In", "in");
    let expected =
        "192.0.2.7 id-1 PUT /users/1 /api/users/1 full=yes api.example.test https users alice admin in 1 {}";
    assert_eq!(request_changes(settings, request), [set("x-all", expected)]);
}

#[test]
fn edits_apply_in_their_order() {
    let settings = r#"{ "request": {
        "append": { "via-plugin": "yes" }, "set": { "x-fixed": "1" }, "remove": ["Cookie"], "rename": { "X-Old": "x-new" }
    } }"#;
    let request = test::request().header("x-old", "a").header("x-old", "b");
    assert_eq!(
        request_changes(settings, request),
        [
            remove("x-old"),
            set("x-new", "a"),
            append("x-new", "b"),
            remove("cookie"),
            set("x-fixed", "1"),
            append("via-plugin", "yes"),
        ]
    );
}

#[test]
fn a_placeholder_without_a_value_never_leaves_the_clients_own_header_in_place() {
    let settings = r#"{ "request": { "set": { "x-user": "{identity.subject}" }, "append": { "x-role": "{claim.role}" } } }"#;
    assert_eq!(request_changes(settings, test::request().header("x-user", "mallory")), [remove("x-user")]);
}

#[test]
fn a_value_with_line_ends_is_no_value() {
    let settings = r#"{ "request": { "set": { "x-user": "{identity.subject}" } } }"#;
    let request = test::request().identity(Identity::new("alice\r\nx-admin: yes"));
    assert_eq!(request_changes(settings, request), [remove("x-user")]);
}

#[test]
fn renaming_an_absent_header_changes_nothing() {
    assert_eq!(request_changes(r#"{ "request": { "rename": { "x-old": "x-new" } } }"#, test::request()), []);
}

#[test]
fn responses_know_their_request_and_themselves() {
    let plugin = plugin(
        r#"{ "response": { "remove": ["server"], "set": { "x-seen": "{status} {path} {response_header.etag}" } } }"#,
    );
    let request = test::request().path("/a").build();
    let response = test::response(203).header("ETag", "\"1\"").build();
    let ResponseOutcome::Proceed(changes) = plugin.on_response(&response, &request, &[]) else {
        panic!("the response is changed, not replaced");
    };
    let changes = composed(changes.headers, &request, Some(&response));
    assert_eq!(changes, [remove("server"), set("x-seen", "203 /a \"1\"")]);
}

#[test]
fn only_what_is_renamed_is_declared() {
    let interest = plugin(
        r#"{ "request": { "rename": { "a": "b" }, "set": { "c": "{header.d}" } },
             "response": { "rename": { "g": "h" }, "append": { "e": "{response_header.f}" } } }"#,
    )
    .interest();
    assert_eq!(interest.request_headers, ["a"]);
    assert_eq!(interest.response_headers, ["g"]);
    assert!(interest.response);
    assert!(
        !plugin(r#"{ "request": { "remove": ["a"] } }"#).interest().response,
        "no response edit, no response call"
    );
}

#[test]
fn every_bad_template_is_reported_at_its_place() {
    let problems = test::configure::<Headers>(
        r#"{ "request": { "set": { "a": "{nobody}", "b": "{open" }, "append": { "c": "{status}", "d": "a\n{path}" } } }"#,
    )
    .err()
    .expect("four problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    let expected = ["/request/set/a", "/request/set/b", "/request/append/d", "/request/append/c"];
    assert_eq!(pointers, expected);
    let problems = test::configure::<Headers>(r#"{ "response": { "set": { "bad name": "x" } } }"#);
    assert!(problems.err().expect("not a token")[0].message.contains("not a header name"));
}

#[test]
fn edits_go_by_nothing_but_the_values_they_move() {
    let pure = plugin(
        r#"{ "request": { "rename": { "x-old": "x-new" }, "set": { "a": "{identity.subject} {request.id}" } },
             "response": { "set": { "a": "{path} {status}" } } }"#,
    )
    .interest()
    .pure;
    let inputs = |function| pure.iter().find(|pure| pure.function == function).map(|pure| &*pure.inputs);
    assert_eq!(inputs(Function::OnRequest), Some(&[Input::header("x-old")][..]));
    assert_eq!(inputs(Function::OnResponse), Some(&[][..]));
}

#[test]
fn more_than_the_gateway_puts_together_is_reported() {
    let long = "{path} ".repeat(17);
    let many: Vec<String> = (0..65).map(|number| format!(r#""x-{number}": "{{path}}""#)).collect();
    for (settings, pointer) in [
        (format!(r#"{{ "request": {{ "set": {{ "a": "{long}" }} }} }}"#), "/request/set/a"),
        (format!(r#"{{ "response": {{ "append": {{ {} }} }} }}"#, many.join(", ")), "/response"),
    ] {
        let problems = test::configure::<Headers>(settings).err().expect("too much");
        assert_eq!(problems[0].pointer, pointer);
        assert!(problems[0].message.contains("at most"), "{}", problems[0].message);
    }
}
