//! Authentication, and which of its decisions are remembered.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Response, StatusCode};
use witgate_config::model::IdentitySource;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::RequestHead;
use witgate_exchange::identity::Identity;

use super::fake::{Fake, header, local};
use super::*;

/// An acceptance of a subject that is not to be remembered.
pub(super) fn acceptance(subject: &str) -> Acceptance {
    Acceptance {
        subject: subject.to_owned(),
        claims: vec![("role".to_owned(), "admin".to_owned())],
        response_headers: Vec::new(),
        cacheable_for: Duration::ZERO,
        inputs: Vec::new(),
    }
}

/// Recognises the value of a header as the subject; `bad` is refused.
fn by_header(binding: &str, name: &'static str) -> Fake {
    Fake::new(binding).authenticate(move |head: Arc<RequestHead>| {
        match head.headers.get(name).map(|value| value.to_str().expect("text")) {
            None => Ok(Decision::NotMine(vec![format!("{name} realm=\"a\"")])),
            Some("bad") => Ok(Decision::Refused(local(403, vec![header("set-cookie", "a=b")], "go away"))),
            Some("trap") => Err(CallFailure::Trap),
            Some(subject) => Ok(Decision::Accepted(acceptance(subject))),
        }
    })
}

fn two(auth: Auth) -> Fixture {
    let mut fixture = Fixture::new([by_header("one", "x-one"), by_header("two", "x-two")]);
    fixture.route.auth = auth;
    fixture
}

fn subject(exchange: &Exchange) -> Option<(&str, &str)> {
    exchange.facts.head.identity.as_ref().map(|identity| (identity.subject.as_str(), &*identity.binding))
}

#[test]
fn the_first_that_recognises_the_caller_decides() {
    let fixture = two(Auth::Required);
    let mut exchange = fixture.get("/", &[("x-two", "ann")]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(subject(&exchange), Some(("ann", "two")));
    let mut exchange = fixture.get("/", &[("x-one", "bob"), ("x-two", "bad")]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(subject(&exchange), Some(("bob", "one")));
}

#[test]
fn nobody_known_is_401_with_all_challenges_unless_optional() {
    let fault = refused(&mut two(Auth::Required).get("/", &[]), Body::Empty);
    assert_eq!(fault.kind, FaultKind::Unauthenticated);
    let challenges: Vec<_> = fault.headers.iter().map(|(name, value)| (name.as_str(), value)).collect();
    assert_eq!(challenges.len(), 2);
    assert!(challenges.iter().all(|(name, _)| *name == "www-authenticate"));
    let mut exchange = two(Auth::Optional).get("/", &[]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(subject(&exchange), None);
}

#[test]
fn a_refusal_is_sent_at_once_in_every_mode() {
    for auth in [Auth::Required, Auth::Optional, Auth::All] {
        let fixture = two(auth);
        let response =
            through(&mut fixture.get("/", &[("x-one", "bad"), ("x-two", "ann")]), Response::default());
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert_eq!(values(response.headers(), "set-cookie"), "a=b");
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"go away");
        assert_eq!(fixture.plugins[1].calls(), 0);
    }
}

#[test]
fn all_needs_every_binding() {
    let fixture = two(Auth::All);
    assert_eq!(
        refused(&mut fixture.get("/", &[("x-one", "ann")]), Body::Empty).kind,
        FaultKind::Unauthenticated
    );
    assert_eq!(
        refused(&mut fixture.get("/", &[("x-two", "ann")]), Body::Empty).kind,
        FaultKind::Unauthenticated
    );
    let mut exchange = fixture.get("/", &[("x-one", "ann"), ("x-two", "bob")]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(subject(&exchange), Some(("ann", "one")));
}

#[test]
fn a_failed_call_that_is_skipped_still_fails_closed() {
    let mut fixture = Fixture::new([by_header("one", "x-one").skip()]);
    let trap = [("x-one", "trap")];
    assert_eq!(refused(&mut fixture.get("/", &trap), Body::Empty).kind, FaultKind::Unauthenticated);
    fixture.route.auth = Auth::All;
    assert_eq!(refused(&mut fixture.get("/", &trap), Body::Empty).kind, FaultKind::Unauthenticated);
    let fixture = Fixture::new([by_header("one", "x-one")]);
    assert_eq!(refused(&mut fixture.get("/", &trap), Body::Empty).kind, FaultKind::PluginFailed);
}

#[test]
fn answers_that_break_a_rule_are_failed_calls() {
    let answers: [fn() -> Decision; 6] = [
        || Decision::Accepted(acceptance("")),
        || Decision::Accepted(acceptance("ann\r\nx-role: admin")),
        || Decision::NotMine(vec!["Basic\n".into()]),
        || Decision::Refused(local(102, Vec::new(), "")),
        || Decision::Refused(local(403, vec![header("content-length", "5")], "")),
        || Decision::Refused(local(403, vec![header("X-Upper", "5")], "")),
    ];
    for answer in answers {
        let mut fixture = Fixture::new([Fake::new("one").authenticate(move |_| Ok(answer()))]);
        fixture.config.gateway.identity_headers.insert("x-user".into(), IdentitySource::Subject);
        assert_eq!(refused(&mut fixture.get("/", &[]), Body::Empty).kind, FaultKind::PluginFailed);
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
    }
}

#[test]
fn upstreams_see_identity_headers_that_only_the_gateway_wrote() {
    let mut fixture = two(Auth::Optional);
    fixture.config.gateway.identity_headers = BTreeMap::from([
        ("x-user".into(), IdentitySource::Subject),
        ("x-role".into(), IdentitySource::Claim("role".into())),
        ("x-team".into(), IdentitySource::Claim("team".into())),
        ("x-by".into(), IdentitySource::Binding),
    ]);
    let forged = [("x-one", "ann"), ("x-user", "root"), ("x-user", "root"), ("x-team", "root")];
    let mut exchange = fixture.get("/", &forged);
    forwarded(&mut exchange, Body::Empty);
    let seen = |name: &str| values(&exchange.facts.head.headers, name);
    assert_eq!([seen("x-user"), seen("x-role"), seen("x-team"), seen("x-by")], ["ann", "admin", "", "one"]);
    let mut exchange = fixture.get("/", &forged[1..]);
    forwarded(&mut exchange, Body::Empty);
    assert!(exchange.facts.head.headers.is_empty());
}

#[test]
fn headers_of_an_acceptance_land_on_the_response() {
    let fixture = Fixture::new([Fake::new("session").authenticate(|_| {
        let response_headers = vec![header("set-cookie", "a=1"), header("set-cookie", "b=2")];
        Ok(Decision::Accepted(Acceptance { response_headers, ..acceptance("ann") }))
    })]);
    let response = through(&mut fixture.get("/", &[]), testing::response(&[("set-cookie", "c=3")], ""));
    assert_eq!(values(response.headers(), "set-cookie"), "c=3 | a=1 | b=2");
}

/// Accepts everybody for this time, based on these inputs.
fn remembering(binding: &str, time: Duration, inputs: Vec<Input>) -> Fake {
    Fake::new(binding).authenticate(move |head: Arc<RequestHead>| {
        let subject = head.headers.get("x-key").map_or("nobody", |value| value.to_str().expect("text"));
        Ok(Decision::Accepted(Acceptance {
            cacheable_for: time,
            inputs: inputs.clone(),
            ..acceptance(subject)
        }))
    })
}

const KEY: HeaderName = HeaderName::from_static("x-key");

const LONG: Duration = Duration::from_secs(3600);

#[test]
fn a_decision_is_used_again_for_requests_that_agree_in_its_inputs() {
    let inputs = vec![Input::Header(KEY), Input::Path];
    let fixture = Fixture::new([remembering("key", LONG, inputs)]);
    let ask = |target: &str, key: &str| {
        let mut exchange = fixture.get(target, &[("x-key", key), ("x-other", target)]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(subject(&exchange), Some((key, "key")));
        fixture.plugins[0].calls()
    };
    assert_eq!([ask("/a", "ann"), ask("/a", "ann"), ask("/a?q", "ann")], [1, 1, 1]);
    assert_eq!([ask("/b", "ann"), ask("/a", "bob"), ask("/a", "bob")], [2, 3, 3]);
}

#[test]
fn repeated_headers_do_not_read_like_one() {
    let fixture = Fixture::new([remembering("key", LONG, vec![Input::Header(KEY)])]);
    for headers in [&[("x-key", "ab")][..], &[("x-key", "a"), ("x-key", "b")], &[]] {
        forwarded(&mut fixture.get("/", headers), Body::Empty);
    }
    assert_eq!(fixture.plugins[0].calls(), 3);
    let inputs = vec![Input::Header(KEY), Input::Header(HeaderName::from_static("x-other"))];
    let fixture = Fixture::new([remembering("key", LONG, inputs)]);
    for header in [("x-key", "a"), ("x-other", "a")] {
        forwarded(&mut fixture.get("/", &[header]), Body::Empty);
    }
    assert_eq!(fixture.plugins[0].calls(), 2);
}

#[test]
fn what_may_not_be_remembered_is_not() {
    let inputs = || vec![Input::Header(KEY)];
    for (time, inputs) in [(Duration::ZERO, inputs()), (LONG, Vec::new())] {
        let fixture = Fixture::new([remembering("key", time, inputs)]);
        for _ in 0..2 {
            forwarded(&mut fixture.get("/", &[("x-key", "ann")]), Body::Empty);
        }
        assert_eq!(fixture.plugins[0].calls(), 2);
    }
}

#[test]
fn another_version_or_binding_never_sees_a_decision() {
    for _ in 0..2 {
        let fixture = Fixture::new([remembering("key", LONG, vec![Input::Header(KEY)])]);
        forwarded(&mut fixture.get("/", &[("x-key", "ann")]), Body::Empty);
        assert_eq!(fixture.plugins[0].calls(), 1);
    }
}

#[test]
fn every_input_counts() {
    let certificate = |fingerprint: &str| {
        let fingerprint = fingerprint.to_owned();
        Arc::new(witgate_exchange::head::ClientCertificate {
            subject: String::new(),
            names: Vec::new(),
            fingerprint,
            ..Default::default()
        })
    };
    type Change = Box<dyn Fn(&mut RequestHead)>;
    let changes: Vec<(Input, Change)> = vec![
        (Input::Method, Box::new(|head| head.method = Method::POST)),
        (Input::Path, Box::new(|head| head.target = "/b".parse().expect("a path"))),
        (Input::Query, Box::new(|head| head.target = "/?".parse().expect("a path"))),
        (Input::Scheme, Box::new(|head| head.scheme = witgate_exchange::head::Scheme::Https)),
        (Input::OriginalPath, Box::new(|head| head.received_target = "/b".parse().ok())),
        (Input::Route, Box::new(|head| head.route = Some("b".into()))),
        (
            Input::PathParameter("id".into()),
            Box::new(|head| head.parameters = vec![("id".into(), String::new())]),
        ),
        (
            Input::Identity,
            Box::new(|head| {
                let somebody = Identity { subject: String::new(), claims: Vec::new(), binding: "a".into() };
                head.identity = Some(Arc::new(somebody));
            }),
        ),
        (Input::Authority, Box::new(|head| head.authority = "b.example".into())),
        (Input::ClientAddress, Box::new(|head| head.client.address = [10, 0, 0, 1].into())),
        (Input::ClientCertificate, Box::new(move |head| head.client.certificate = Some(certificate("aa")))),
        (
            Input::Header(KEY),
            Box::new(|head| {
                head.headers.insert(HeaderName::from_static("x-key"), "b".parse().expect("a value"));
            }),
        ),
    ];
    for (input, change) in changes {
        let fixture = Fixture::new([remembering("key", LONG, vec![input.clone()])]);
        forwarded(&mut fixture.get("/", &[]), Body::Empty);
        let mut other = fixture.get("/", &[]);
        change(Arc::make_mut(&mut other.facts.head));
        forwarded(&mut other, Body::Empty);
        assert_eq!(fixture.plugins[0].calls(), 2, "{input:?}");
    }
}
