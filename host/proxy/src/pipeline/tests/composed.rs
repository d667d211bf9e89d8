//! Values that the gateway composes for a plugin.

use http::Response;
use witgate_exchange::contracts::ValuePart::*;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::authentication::acceptance;
use super::fake::{Fake, header, set};
use super::*;

/// A received `traceparent`. No spans are exported, so plugins see it unchanged.
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn composed(name: &str, value: &[ValuePart]) -> ComposedHeader {
    ComposedHeader { name: name.to_owned(), value: value.to_vec() }
}

fn text(text: &'static str) -> ValuePart {
    Text(Bytes::from_static(text.as_bytes()))
}

/// A binding that always returns the same changes of a request, and declares so.
fn changing(headers: Vec<HeaderChange>) -> Fake {
    let changes = RequestChanges { headers, ..RequestChanges::default() };
    Fake::new("change")
        .request(move |_| Ok(RequestOutcome::Proceed(changes.clone())))
        .pure(Function::OnRequest, &[])
}

/// A binding that recognises its caller by a header.
fn knowing() -> Fake {
    Fake::new("key").authenticate(|head| {
        let subject = head.headers["x-key"].to_str().expect("text");
        let claims = vec![("plan".to_owned(), format!("plan of {subject}"))];
        Ok(Decision::Accepted(Acceptance { claims, ..acceptance(subject) }))
    })
}

#[test]
fn one_answer_serves_every_caller() {
    let value = [Subject, text(": "), Claim("plan".into())];
    let fixture =
        Fixture::new([knowing(), changing(vec![HeaderChange::SetComposed(composed("x-caller", &value))])]);
    for (name, calls) in [("ann", 1), ("bob", 1), ("ann", 1)] {
        let mut exchange = fixture.get("/", &[("x-key", name), ("x-caller", "mallory")]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(values(&exchange.facts.head.headers, "x-caller"), format!("{name}: plan of {name}"));
        assert_eq!(fixture.plugins[1].calls(), calls);
    }
}

#[test]
fn every_part_of_a_request_can_be_shown() {
    let parts = [
        Method,
        Path,
        Query,
        Authority,
        Scheme,
        OriginalPath,
        ClientAddress,
        Route,
        PathParameter("id".into()),
        RequestHeader("x-in".into()),
        RequestId,
        TraceParent,
    ];
    let value: Vec<ValuePart> = parts.into_iter().flat_map(|part| [part, text(",")]).collect();
    let fixture = Fixture::new([changing(vec![HeaderChange::SetComposed(composed("x-all", &value))])]);
    let mut exchange =
        fixture.get("/users/7?full", &[("x-in", "first"), ("x-in", "second"), ("traceparent", PARENT)]);
    let head = Arc::make_mut(&mut exchange.facts.head);
    head.received_target = "/./users/7?full".parse().ok();
    head.route = Some("users".into());
    head.parameters = vec![("id".into(), "7".to_owned())];
    let expected = format!(
        "GET,/users/7,full,{},http,/./users/7,{},users,7,first,{},{},",
        head.authority, head.client.address, head.request_id, PARENT,
    );
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(values(&exchange.facts.head.headers, "x-all"), expected);
}

#[test]
fn a_request_without_a_trace_leaves_the_trace_out_of_a_value() {
    for (value, expected) in [
        (vec![text("trace="), TraceParent, text(";"), Method], "trace=;GET"),
        (vec![TraceParent], ""),
        (vec![TraceParent, TraceParent], ""),
    ] {
        let changes = vec![HeaderChange::SetComposed(composed("x-trace", &value))];
        let fixture = Fixture::new([changing(changes)]);
        let mut exchange = fixture.get("/", &[("x-trace", "mine")]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(values(&exchange.facts.head.headers, "x-trace"), expected);
        assert_eq!(exchange.facts.head.headers.contains_key("x-trace"), !expected.is_empty(), "{value:?}");
    }
}

#[test]
fn values_show_what_was_there_before_the_edits() {
    let show = |name: &str| [RequestHeader(name.to_owned())];
    let fixture = Fixture::new([changing(vec![
        HeaderChange::Remove("x-old".into()),
        HeaderChange::Set(header("x-kept", "new")),
        HeaderChange::SetComposed(composed("x-new", &show("x-old"))),
        HeaderChange::AppendComposed(composed("x-kept", &show("x-kept"))),
    ])]);
    let mut exchange = fixture.get("/", &[("x-old", "old"), ("x-kept", "kept")]);
    forwarded(&mut exchange, Body::Empty);
    assert!(!exchange.facts.head.headers.contains_key("x-old"));
    assert_eq!(values(&exchange.facts.head.headers, "x-new"), "old");
    assert_eq!(values(&exchange.facts.head.headers, "x-kept"), "new | kept");
}

#[test]
fn what_cannot_be_put_together_leaves_no_value_of_the_client() {
    let long = "x".repeat(5000);
    for (query, header, value) in [
        ("", "in", vec![Query]),
        ("", "in", vec![text("a"), Subject]),
        ("", "in", vec![Claim("plan".into())]),
        ("", "in", vec![PathParameter("id".into())]),
        ("", "in", vec![RequestHeader("x-absent".into())]),
        ("", "in", vec![Status]),
        ("", "in", vec![ResponseHeader("x-in".into())]),
        ("", "in", vec![text("blank ")]),
        ("", &long, vec![RequestHeader("x-in".into()), RequestHeader("x-in".into())]),
    ] {
        let changes = vec![
            HeaderChange::SetComposed(composed("x-set", &value)),
            HeaderChange::AppendComposed(composed("x-list", &value)),
        ];
        let fixture = Fixture::new([changing(changes)]);
        let mut exchange =
            fixture.get(&format!("/{query}"), &[("x-in", header), ("x-set", "mine"), ("x-list", "mine")]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(values(&exchange.facts.head.headers, "x-set"), "", "{value:?}");
        assert_eq!(values(&exchange.facts.head.headers, "x-list"), "mine", "{value:?}");
    }
}

#[test]
fn a_subject_with_line_ends_becomes_no_header() {
    let evil = Fake::new("key").authenticate(|_| Ok(Decision::Accepted(acceptance("ann\r\nx-admin: yes"))));
    let fixture =
        Fixture::new([evil, changing(vec![HeaderChange::SetComposed(composed("x-caller", &[Subject]))])]);
    let mut exchange = fixture.get("/", &[("x-caller", "mallory")]);
    forwarded(&mut exchange, Body::Empty);
    assert!(!exchange.facts.head.headers.contains_key("x-caller"));
}

#[test]
fn responses_show_themselves_and_their_request() {
    let value = [Method, text(" "), Status, text(" "), ResponseHeader("server".into())];
    let changes = ResponseChanges {
        headers: vec![
            HeaderChange::SetComposed(composed("server", &[text("gateway")])),
            HeaderChange::SetComposed(composed("x-seen", &value)),
        ],
        status: Some(299),
        ..ResponseChanges::default()
    };
    let fixture = Fixture::new([Fake::new("change")
        .response(move |_| Ok(ResponseOutcome::Proceed(changes.clone())))
        .pure(Function::OnRequest, &[])
        .pure(Function::OnResponse, &[])]);
    for server in ["one", "two"] {
        let mut origin = Response::default();
        origin.headers_mut().insert("server", server.parse().expect("a value"));
        let response = through(&mut fixture.get("/", &[]), origin);
        assert_eq!(values(response.headers(), "x-seen"), format!("GET 200 {server}"));
        assert_eq!(values(response.headers(), "server"), "gateway");
        assert_eq!(response.status(), 299);
    }
    assert_eq!(fixture.plugins[0].again(), 2, "the second request and its response");
}

#[test]
fn a_credential_that_is_only_pointed_at_is_not_kept() {
    let value = [RequestHeader("authorization".into())];
    let fixture = Fixture::new([changing(vec![HeaderChange::SetComposed(composed("x-token", &value))])]);
    for secret in ["one", "two"] {
        let mut exchange = fixture.get("/", &[("authorization", secret)]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(values(&exchange.facts.head.headers, "x-token"), secret);
    }
    assert_eq!(fixture.plugins[0].calls(), 1);
}

#[test]
fn an_answer_that_breaks_a_rule_is_refused() {
    let set = |name: &str, value: &[ValuePart]| HeaderChange::SetComposed(composed(name, value));
    for changes in [
        vec![set("x-forwarded-for", &[ClientAddress])],
        vec![set("content-length", &[text("1")])],
        vec![set("X-Upper", &[text("1")])],
        vec![set("x-a", &[text("a\r\nb")])],
        vec![set("x-a", &[RequestHeader("X-Upper".into())])],
        vec![set("x-a", &[ResponseHeader("no name".into())])],
        vec![set("x-a", &[const { Method }; 33])],
        (0..65).map(|number| set(&format!("x-{number}"), &[Method])).collect(),
    ] {
        let message = format!("{changes:?}");
        let fixture = Fixture::new([changing(changes)]);
        assert_eq!(
            refused(&mut fixture.get("/", &[]), Body::Empty).kind,
            FaultKind::PluginFailed,
            "{message}"
        );
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
    }
}

#[test]
fn later_bindings_see_the_value() {
    let copy = Fake::new("copy").request(|head| {
        Ok(RequestOutcome::Proceed(set("x-copy", head.headers["x-path"].to_str().expect("text"))))
    });
    let fixture =
        Fixture::new([changing(vec![HeaderChange::SetComposed(composed("x-path", &[Path]))]), copy]);
    let mut exchange = fixture.get("/here", &[]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(values(&exchange.facts.head.headers, "x-copy"), "/here");
}
