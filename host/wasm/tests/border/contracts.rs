//! Each contract: its parameters and its results.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use witgate_exchange::contracts::{
    Binding, BodyAccess, Call, ComposedHeader, Contracts, Decision, Header, HeaderChange, Input, Piece,
    RateLimiting as _, RequestOutcome, ResponseOutcome, Routing as _, Transformation as _, ValuePart,
};

use crate::scene::{authenticate, bytes, on_core, probe, request, response, snapshot, tell, transform};

#[test]
fn contracts_and_interest_are_what_the_component_says() {
    let (_scene, loaded) = probe("");
    let binding: Arc<dyn Binding> = loaded.clone();
    let contracts = Contracts::of(&binding);
    assert!(
        contracts.authentication && contracts.rate_limiting && contracts.routing && contracts.transformation
    );
    let interest = loaded.interest();
    assert_eq!(interest.request_headers, ["x-do", "x-with"]);
    assert_eq!(interest.response_headers, ["x-origin"]);
    assert_eq!((interest.request_body, interest.response_body), (BodyAccess::Buffered, BodyAccess::Streamed));
    assert!(interest.response);
    assert_eq!(&**loaded.name(), "b");
}

#[test]
fn authentication_accepts_refuses_or_does_not_know() {
    let (_scene, loaded) = probe("");
    let Ok(Decision::NotMine(challenges)) = authenticate(&loaded, "") else { panic!("not mine") };
    assert_eq!(challenges, ["Probe"]);
    let Ok(Decision::Refused(refusal)) = authenticate(&loaded, "refuse") else { panic!("refused") };
    assert_eq!((refusal.status, &refusal.body[..]), (401, &b"no"[..]));
    assert_eq!(refusal.headers, [Header { name: "set-cookie".into(), value: bytes("a=1") }]);
    let Ok(Decision::Accepted(accepted)) = authenticate(&loaded, "calls") else { panic!("accepted") };
    assert_eq!(accepted.subject, "3", "one instance answered all three calls");
    let shown = r#"Some("POST") Some("/users/7") Some("a=b") Some("example.com:8080") 1"#;
    assert_eq!(accepted.claims, [("shown".to_owned(), shown.to_owned())]);
    assert_eq!(accepted.cacheable_for, Duration::from_millis(1500));
    assert_eq!(accepted.inputs, [Input::Header(HeaderName::from_static("x-do")), Input::Path]);
    assert_eq!(loaded.meter().read().refusals, 1);
}

#[test]
fn rate_limiting_names_buckets() {
    let (_scene, loaded) = probe("");
    let (head, snapshot) = (request(&[("x-do", "calls")]), snapshot());
    let buckets = on_core(loaded.draw(Call { head: &head, fetch: &snapshot })).unwrap().content;
    let bucket = &buckets[0];
    assert_eq!((bucket.policy.as_str(), bucket.key.as_str(), bucket.cost), ("probe", "1", 1));
    assert_eq!((bucket.limit, bucket.window, bucket.burst), (10, Duration::from_secs(60), Some(5)));
}

#[test]
fn routing_chooses_or_leaves_the_choice() {
    let (_scene, loaded) = probe("");
    let snapshot = snapshot();
    let head = request(&[]);
    assert!(on_core(loaded.route(Call { head: &head, fetch: &snapshot })).unwrap().content.is_none());
    let head = request(&[("x-do", "calls")]);
    let chosen = on_core(loaded.route(Call { head: &head, fetch: &snapshot })).unwrap().content.unwrap();
    assert_eq!((chosen.upstream.as_deref(), chosen.path.as_deref()), (Some("2"), Some("/there?a=1")));
    assert_eq!((chosen.hash_key, chosen.timeout), (Some(bytes("hash")), Some(Duration::from_millis(250))));
    assert!(!loaded.may_route_to("2"), "no upstream is granted");
}

#[test]
fn transformation_changes_heads() {
    let (_scene, loaded) = probe("");
    let Ok(RequestOutcome::Proceed(changes)) = transform(&loaded, "calls") else { panic!("proceeds") };
    let header = |name: &str, value: &'static str| Header { name: name.into(), value: bytes(value) };
    assert_eq!(
        changes.headers,
        [
            HeaderChange::Set(header("x-answer", "1")),
            HeaderChange::Append(header("x-more", "example.com:8080")),
            HeaderChange::Remove("x-do".into()),
            HeaderChange::SetComposed(ComposedHeader { name: "x-all".into(), value: every_part() }),
            HeaderChange::AppendComposed(ComposedHeader { name: "x-none".into(), value: vec![] }),
        ]
    );
    assert_eq!((changes.path.as_deref(), changes.method.as_deref()), (Some("a=b"), Some("POST")));
    assert_eq!(changes.context, "context");
    let Ok(RequestOutcome::Respond(answer)) = transform(&loaded, "respond") else { panic!("responds") };
    assert_eq!((answer.status, &answer.body[..]), (418, &b"short"[..]));
}

fn every_part() -> Vec<ValuePart> {
    vec![
        ValuePart::Text(bytes("text")),
        ValuePart::Method,
        ValuePart::Path,
        ValuePart::Query,
        ValuePart::Authority,
        ValuePart::Scheme,
        ValuePart::OriginalPath,
        ValuePart::ClientAddress,
        ValuePart::Route,
        ValuePart::PathParameter("id".into()),
        ValuePart::RequestHeader("x-do".into()),
        ValuePart::RequestId,
        ValuePart::TraceParent,
        ValuePart::Subject,
        ValuePart::Claim("role".into()),
        ValuePart::Status,
        ValuePart::ResponseHeader("server".into()),
    ]
}

#[test]
fn transformation_sees_responses_and_bodies() {
    let (_scene, loaded) = probe("");
    let (head, snapshot) = (request(&[("x-do", "calls")]), snapshot());
    let call = Call { head: &head, fetch: &snapshot };
    let answer = response(&[("x-origin", "1"), ("x-other", "2")]);
    let piece = |end| Piece { content: bytes("some"), end, context: bytes("ctx") };

    let outcome = on_core(loaded.transform_response(call, answer.clone(), bytes("abc"))).unwrap().content;
    let ResponseOutcome::Proceed(changes) = outcome else { panic!("proceeds") };
    let told = Header { name: "x-answer".into(), value: bytes("1 200 1 2 200 false") };
    assert_eq!(changes.headers, [HeaderChange::Set(told)]);
    assert_eq!((changes.status, changes.context), (Some(299), Some(bytes("cba"))));

    let first = on_core(loaded.transform_request_body(call, piece(false))).unwrap();
    assert_eq!((first.output, first.context), (Some(bytes("SOME")), Some(bytes("ctx+"))));
    let last = on_core(loaded.transform_response_body(call, answer, piece(true))).unwrap();
    assert_eq!(last.output, Some(bytes("SOME3")));
}

#[test]
fn the_borrowed_request_tells_all_the_rest() {
    let (_scene, loaded) = probe("");
    let seen = tell(&loaded, "look", "").unwrap();
    assert_eq!(
        seen,
        "POST /users/7 Some(\"a=b\") example.com:8080 https 192.0.2.7 4 2  users Some(\"7\") /./users/7 request-1 "
    );
}

#[test]
fn the_trace_is_told_as_it_came() {
    let (_scene, loaded) = probe("");
    let parent = "00-01010101010101010101010101010101-0202020202020202-01";
    let told = |headers: &[(&str, &str)]| {
        let (head, snapshot) = (request(&[&[("x-do", "look")], headers].concat()), snapshot());
        let drawn = on_core(loaded.draw(Call { head: &head, fetch: &snapshot })).unwrap().content;
        drawn[0].key.rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(told(&[("traceparent", parent)]), parent);
    assert_eq!(told(&[("traceparent", "garbage")]), "garbage");
    assert_eq!(told(&[]), "");
    assert_eq!(told(&[("traceparent", parent), ("traceparent", parent)]), "");
}
