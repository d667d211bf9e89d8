//! What a transformation or a routing plugin can do to credentials that it may not see: nothing.

use witgate_exchange::contracts::*;
use witgate_exchange::credentials::{Border, Credentials};
use witgate_exchange::fault::FaultKind;

use super::fake::Fake;
use super::*;

/// The credentials of a binding that lists a header and a query parameter, with these grants.
fn credentials(granted: &str) -> Credentials {
    let text = format!(
        "[plugins.p]\n[bindings.p]\ngrants = {{ credentials = [{granted}] }}\n\
         credentials = {{ headers = [\"x-key\"], query = [\"apikey\"] }}\n[[routes]]\nrespond = {{ status = 200 }}\n"
    );
    let loaded = witgate_config::parse_str(&text);
    let config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    Credentials::of(&config.bindings["p"], Border::V0_1)
}

fn field(name: &str, value: &'static str) -> Header {
    Header { name: name.to_owned(), value: value.into() }
}

/// A binding that changes a request in this way and has these grants.
fn changing(granted: &str, changes: RequestChanges) -> Fixture {
    let mut fake = Fake::new("p").request(move |_| Ok(RequestOutcome::Proceed(changes.clone())));
    fake.credentials = credentials(granted);
    Fixture::new([fake])
}

fn header_changes(name: &str) -> [HeaderChange; 5] {
    let composed = || ComposedHeader { name: name.to_owned(), value: vec![ValuePart::Method] };
    [
        HeaderChange::Set(field(name, "x")),
        HeaderChange::Append(field(name, "x")),
        HeaderChange::Remove(name.to_owned()),
        HeaderChange::SetComposed(composed()),
        HeaderChange::AppendComposed(composed()),
    ]
}

#[test]
fn a_change_of_an_unseen_header_fails_the_call_and_a_grant_permits_it() {
    for name in ["authorization", "cookie", "set-cookie", "x-key"] {
        for change in header_changes(name) {
            let changes = RequestChanges { headers: vec![change.clone()], ..RequestChanges::default() };
            let fixture = changing("", changes.clone());
            let fault = refused(&mut fixture.get("/", &[(name, "secret")]), Body::Empty);
            assert_eq!(fault.kind, FaultKind::PluginFailed, "{change:?}");
            let rejected = fixture.plugins[0].rejected().join("");
            assert!(rejected.contains(name) && rejected.contains("grants.credentials"), "{rejected}");
            let fixture = changing(&format!("{name:?}"), changes);
            drop(forwarded(&mut fixture.get("/", &[(name, "secret")]), Body::Empty));
        }
    }
}

#[test]
fn what_was_not_seen_reaches_the_upstream_unchanged() {
    let changes = RequestChanges {
        headers: vec![HeaderChange::Remove("x-other".to_owned())],
        path: Some("/moved?page=2".to_owned()),
        ..RequestChanges::default()
    };
    let fixture = changing("", changes);
    let sent = [("authorization", "Bearer a"), ("cookie", "b=c"), ("x-key", "d"), ("x-other", "e")];
    let mut routed = fixture.get("/?apikey=f&page=1&%61pikey=g", &sent);
    drop(forwarded(&mut routed, Body::Empty));
    let head = &routed.facts.head;
    let target = head.upstream_target.as_ref().expect("a new target");
    assert_eq!(target.as_str(), "/moved?page=2&apikey=f&%61pikey=g");
    let left: Vec<_> = sent.iter().filter(|(name, _)| head.headers.contains_key(*name)).collect();
    assert_eq!(left.len(), 3, "only `x-other` was removed: {left:?}");
}

#[test]
fn a_target_with_an_unseen_parameter_fails_the_call() {
    for path in ["/?apikey=mine", "/?a=1&api%6bey=mine"] {
        let fixture =
            changing("", RequestChanges { path: Some(path.to_owned()), ..RequestChanges::default() });
        let fault = refused(&mut fixture.get("/?apikey=theirs", &[]), Body::Empty);
        assert_eq!(fault.kind, FaultKind::PluginFailed, "{path}");
        let mut routing = Fake::new("p")
            .route(move |_| Ok(Some(Destination { path: Some(path.to_owned()), ..Destination::default() })));
        routing.credentials = credentials("");
        let fault = refused(&mut Fixture::new([routing]).get("/", &[]), Body::Empty);
        assert_eq!(fault.kind, FaultKind::PluginFailed, "{path}");
    }
    let mut routing = Fake::new("p")
        .route(|_| Ok(Some(Destination { path: Some("/b".to_owned()), ..Destination::default() })));
    routing.credentials = credentials("");
    let fixture = Fixture::new([routing]);
    let mut routed = fixture.get("/a?apikey=theirs&x=1", &[]);
    drop(forwarded(&mut routed, Body::Empty));
    let target = routed.facts.head.upstream_target.as_ref().expect("a new target");
    assert_eq!(target.as_str(), "/b?apikey=theirs");
}

#[test]
fn values_are_composed_as_if_unseen_parts_were_missing() {
    let composed = |name: &str, value: Vec<ValuePart>| {
        HeaderChange::SetComposed(ComposedHeader { name: name.to_owned(), value })
    };
    let changes = RequestChanges {
        headers: vec![
            composed("x-copy", vec![ValuePart::RequestHeader("authorization".to_owned())]),
            composed("x-query", vec![ValuePart::Query]),
        ],
        ..RequestChanges::default()
    };
    for (granted, copy, query) in
        [("", "", "page=1"), ("\"authorization\", \"apikey\"", "Bearer a", "apikey=f&page=1")]
    {
        let fixture = changing(granted, changes.clone());
        let mut routed =
            fixture.get("/?apikey=f&page=1", &[("authorization", "Bearer a"), ("x-copy", "old")]);
        drop(forwarded(&mut routed, Body::Empty));
        let headers = &routed.facts.head.headers;
        assert_eq!(
            (values(headers, "x-copy"), values(headers, "x-query")),
            (copy.to_owned(), query.to_owned())
        );
    }
}

#[test]
fn a_plugin_may_add_a_cookie_for_the_client_but_not_touch_those_of_others() {
    let origin =
        || Response::builder().header("set-cookie", "theirs=1").body(Body::Empty).expect("a response");
    let answer = |change: HeaderChange| {
        let mut fake = Fake::new("p").response(move |_| {
            let changes = ResponseChanges { headers: vec![change.clone()], ..ResponseChanges::default() };
            Ok(ResponseOutcome::Proceed(changes))
        });
        fake.credentials = credentials("");
        let fixture = Fixture::new([fake]);
        through(&mut fixture.get("/", &[]), origin())
    };
    let [set, append, remove, ..] = header_changes("set-cookie");
    assert_eq!(values(answer(append).headers(), "set-cookie"), "theirs=1 | x");
    for change in [set, remove] {
        assert_eq!(answer(change.clone()).status(), 503, "{change:?}");
    }
    let copy = vec![ValuePart::ResponseHeader("set-cookie".to_owned())];
    let copied = answer(HeaderChange::SetComposed(ComposedHeader { name: "x-copy".to_owned(), value: copy }));
    assert_eq!(values(copied.headers(), "x-copy"), "");
}

#[test]
fn changes_by_a_listed_credential_are_not_remembered() {
    let remembered = |input: Input| {
        let mut fake = Fake::new("p").request(|_| Ok(RequestOutcome::Proceed(RequestChanges::default())));
        fake = fake.pure(Function::OnRequest, &[input]);
        fake.credentials = credentials("\"x-key\", \"apikey\"");
        let fixture = Fixture::new([fake]);
        for _ in 0..8 {
            drop(forwarded(&mut fixture.get("/?apikey=1", &[("x-key", "1"), ("x-a", "1")]), Body::Empty));
        }
        fixture.plugins[0].again() > 0
    };
    let header = |name: &'static str| Input::Header(http::HeaderName::from_static(name));
    assert!(remembered(header("x-a")), "this is no credential");
    assert!(!remembered(header("x-key")) && !remembered(Input::Query) && !remembered(header("cookie")));
}
