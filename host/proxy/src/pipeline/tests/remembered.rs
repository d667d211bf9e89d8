//! Which results are used again, and which are not.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::head::RequestHead;

use super::authentication::acceptance;
use super::fake::{Fake, header, local, set};
use super::*;

const GROUP: HeaderName = HeaderName::from_static("x-group");

fn group(head: &RequestHead) -> String {
    head.headers.get(GROUP).map_or(String::new(), |value| value.to_str().expect("text").to_owned())
}

/// A binding of every contract whose results depend on one header only, and which declares so.
fn by_group(binding: &str) -> Fake {
    let by = [Input::Header(GROUP)];
    let fake = Fake::new(binding)
        .draw(|head| Ok(vec![bucket(&group(&head))]))
        .route(|head| {
            let upstream = (group(&head) == "new").then(|| "orders".to_owned());
            let response_headers = vec![header("x-routed", &group(&head))];
            Ok(Some(Destination { upstream, response_headers, ..Destination::default() }))
        })
        .request(|head| Ok(RequestOutcome::Proceed(set("x-seen", &group(&head)))));
    let mut fake = Function::ALL[..3].iter().fold(fake, |fake, function| fake.pure(*function, &by));
    fake.granted = vec!["orders"];
    fake
}

fn bucket(key: &str) -> Bucket {
    Bucket {
        policy: "all".to_owned(),
        key: key.to_owned(),
        cost: 1,
        limit: if key == "many" { 100 } else { 2 },
        window: Duration::from_secs(3600),
        burst: None,
    }
}

/// The outcome of a request of a group: its upstream, the header that it was given, and what the client is told.
fn outcome(fixture: &Fixture, target: &str, name: &str) -> (String, String, String) {
    let mut exchange = fixture.get(target, &[("x-group", name)]);
    let response = through(&mut exchange, Response::default());
    let upstream = exchange.facts.upstream.as_deref().unwrap_or_default().to_owned();
    let told = format!(
        "{} {} {}",
        response.status().as_u16(),
        values(response.headers(), "ratelimit"),
        values(response.headers(), "x-routed")
    );
    (upstream, values(&exchange.facts.head.headers, "x-seen"), told)
}

#[test]
fn equal_inputs_make_no_call_and_others_do() {
    let fixture = Fixture::new([by_group("all")]);
    let first = outcome(&fixture, "/a", "new");
    assert_eq!(first, ("orders".into(), "new".into(), "200 \"all\";r=1;t=1800 new".into()));
    assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (3, 0));
    // The path is not an input. The draw is remembered, but not the state of the bucket.
    let second = outcome(&fixture, "/b", "new");
    assert_eq!(second, ("orders".into(), "new".into(), "200 \"all\";r=0;t=3600 new".into()));
    assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (3, 3));
    assert!(outcome(&fixture, "/b", "new").2.starts_with("429 "));
    let other = outcome(&fixture, "/a", "old");
    assert_eq!(other, ("users".into(), "old".into(), "200 \"all\";r=1;t=1800 old".into()));
    assert_eq!(fixture.plugins[0].calls(), 6);
}

#[test]
fn nothing_is_remembered_of_a_binding_that_may_not() {
    for (remembers, keeps_promises) in [(false, true), (true, false)] {
        let mut fake = by_group("all");
        (fake.remembers, fake.keeps_promises) = (remembers, keeps_promises);
        let fixture = Fixture::new([fake]);
        outcome(&fixture, "/", "new");
        outcome(&fixture, "/", "new");
        assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (6, 0));
    }
    let mut fake = Fake::new("key").authenticate(|_| {
        let inputs = vec![Input::Header(GROUP)];
        Ok(Decision::Accepted(Acceptance { cacheable_for: Duration::MAX, inputs, ..acceptance("ann") }))
    });
    fake.remembers = false;
    let fixture = Fixture::new([fake]);
    outcome(&fixture, "/", "new");
    outcome(&fixture, "/", "new");
    assert_eq!(fixture.plugins[0].calls(), 2);
}

#[test]
fn a_binding_is_told_whether_its_acceptance_is_to_be_remembered() {
    for remembers in [true, false] {
        let mut fake = Fake::new("key").authenticate(|head: Arc<RequestHead>| {
            let inputs = vec![Input::Header(GROUP)];
            let accepted = Acceptance { inputs, ..acceptance(&group(&head)) };
            Ok(Decision::Accepted(Acceptance { cacheable_for: Duration::from_secs(60), ..accepted }))
        });
        fake.remembers = remembers;
        let fixture = Fixture::new([fake]);
        for number in 0..1000 {
            outcome(&fixture, "/", &format!("group {number}"));
        }
        let told = fixture.plugins[0].to_remember();
        // If no inputs come twice, soon hardly any result is remembered.
        assert!(if remembers { (100..300).contains(&told) } else { told == 0 }, "{told}");
        assert_eq!(fixture.plugins[0].calls(), 1000);
    }
}

#[test]
fn another_version_and_another_snapshot_ask_anew() {
    let mut fixture = Fixture::new([by_group("all")]);
    outcome(&fixture, "/", "new");
    fixture.plugins = vec![Arc::new(by_group("all"))];
    outcome(&fixture, "/", "new");
    assert_eq!(fixture.plugins[0].calls(), 3);

    let mut ask = |version: u64| {
        fixture.version = version;
        through(&mut fixture.get("/", &[("x-group", "many")]), Response::default());
        fixture.plugins[0].calls()
    };
    // The last request but one began before the swap: no result is used for it, and none is remembered.
    assert_eq!([ask(7), ask(7), ask(8), ask(8), ask(7), ask(8)], [6, 6, 9, 9, 12, 12]);
}

#[test]
fn what_was_validated_under_another_rule_is_not_used() {
    let pure = Fake::new("edit")
        .request(|_| Ok(RequestOutcome::Proceed(set("x-user", "ann"))))
        .pure(Function::OnRequest, &[]);
    let mut fixture = Fixture::new([pure]);
    forwarded(&mut fixture.get("/", &[]), Body::Empty);
    fixture.config.gateway.identity_headers.insert("x-user".into(), model::IdentitySource::Subject);
    fixture.version = 2;
    assert_eq!(refused(&mut fixture.get("/", &[]), Body::Empty).kind, FaultKind::PluginFailed);
}

#[test]
fn callers_never_see_what_was_answered_to_others() {
    let knows = Fake::new("key").authenticate(|head: Arc<RequestHead>| {
        let mut accepted = acceptance(&group(&head));
        accepted.claims = vec![("level".into(), head.query().unwrap_or_default().to_owned())];
        Ok(Decision::Accepted(accepted))
    });
    let shows = Fake::new("show")
        .request(|head: Arc<RequestHead>| {
            let identity = head.identity.clone().expect("somebody");
            let text = format!("{} {}", identity.subject, identity.claims[0].1);
            Ok(RequestOutcome::Proceed(set("x-caller", &text)))
        })
        .pure(Function::OnRequest, &[Input::Identity]);
    let fixture = Fixture::new([knows, shows]);
    let caller = |name: &str, target: &str| {
        let mut exchange = fixture.get(target, &[("x-group", name)]);
        forwarded(&mut exchange, Body::Empty);
        (values(&exchange.facts.head.headers, "x-caller"), fixture.plugins[1].calls())
    };
    assert_eq!(caller("ann", "/?1"), ("ann 1".into(), 1));
    assert_eq!(caller("bob", "/?1"), ("bob 1".into(), 2));
    assert_eq!(caller("ann", "/?2"), ("ann 2".into(), 3));
    assert_eq!(caller("ann", "/?1"), ("ann 1".into(), 3));
    assert_eq!(caller("bob", "/?1"), ("bob 1".into(), 3));
}

/// The response that the client gets. The binding writes into it what it saw.
fn answered(fixture: &Fixture, context: &str, status: u16, headers: &[(&str, &str)]) -> (String, u64) {
    let mut exchange = fixture.get("/", &[("x-context", context)]);
    let mut origin = testing::response(headers, "");
    *origin.status_mut() = StatusCode::from_u16(status).expect("a status");
    let response = through(&mut exchange, origin);
    (values(response.headers(), "x-told"), fixture.plugins[0].calls())
}

fn tells() -> Fake {
    let mut fake = Fake::new("tell")
        .request(|head: Arc<RequestHead>| {
            let context = head.headers.get("x-context").map(|value| value.as_bytes().to_vec());
            let context = Bytes::from(context.unwrap_or_default());
            Ok(RequestOutcome::Proceed(RequestChanges { context, ..RequestChanges::default() }))
        })
        .response(|(response, context)| {
            let declared = values(&response.headers, "server");
            let context = String::from_utf8_lossy(&context).into_owned();
            let text = format!("{} {declared} {context} {}", response.status, response.local);
            let headers = vec![HeaderChange::Set(header("x-told", &text))];
            Ok(ResponseOutcome::Proceed(ResponseChanges { headers, ..ResponseChanges::default() }))
        })
        .pure(Function::OnRequest, &[Input::Header(HeaderName::from_static("x-context"))])
        .pure(Function::OnResponse, &[]);
    fake.interest.response_headers = vec![HeaderName::from_static("server")];
    fake
}

#[test]
fn responses_count_by_status_declared_headers_and_context() {
    let fixture = Fixture::new([tells()]);
    let server = [("server", "a"), ("date", "1")];
    assert_eq!(answered(&fixture, "x", 200, &server), ("200 a x false".into(), 2));
    assert_eq!(answered(&fixture, "x", 200, &[("server", "a"), ("date", "2")]), ("200 a x false".into(), 2));
    assert_eq!(answered(&fixture, "x", 404, &server), ("404 a x false".into(), 3));
    assert_eq!(answered(&fixture, "x", 200, &[("server", "b")]), ("200 b x false".into(), 4));
    assert_eq!(answered(&fixture, "x", 200, &[]), ("200  x false".into(), 5));
    assert_eq!(answered(&fixture, "y", 200, &server), ("200 a y false".into(), 7));
    assert_eq!(answered(&fixture, "y", 200, &server), ("200 a y false".into(), 7));
}

#[test]
fn responses_of_the_gateway_are_told_from_those_of_upstreams() {
    let fixture = Fixture::new([tells()]);
    assert_eq!(answered(&fixture, "", 502, &[]), ("502   false".into(), 2));
    let mut exchange = fixture.get("/", &[]);
    let response = testing::run(async {
        forwarded_in(&mut exchange).await;
        exchange.facts.local_response = true;
        let mut response = Response::new(Body::Empty);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        ascended(&mut exchange, response).await
    });
    assert_eq!(values(response.headers(), "x-told"), "502   true");
}

async fn forwarded_in(exchange: &mut Routed) {
    assert!(matches!(descend(exchange, Body::Empty).await, Ok(Descent::Passed(_))));
}

#[test]
fn changes_made_with_a_credential_are_not_kept() {
    for name in ["authorization", "cookie"] {
        let input = Input::Header(HeaderName::from_static(name));
        let fake = Fake::new("edit")
            .request(move |head: Arc<RequestHead>| {
                Ok(RequestOutcome::Proceed(set("x-copy", head.headers[name].to_str().expect("text"))))
            })
            .route(|_| Ok(None))
            .pure(Function::OnRequest, std::slice::from_ref(&input))
            .pure(Function::Route, &[input]);
        let fixture = Fixture::new([fake]);
        for secret in ["one", "one", "two"] {
            let mut exchange = fixture.get("/", &[(name, secret)]);
            forwarded(&mut exchange, Body::Empty);
            assert_eq!(values(&exchange.facts.head.headers, "x-copy"), secret);
        }
        // Three calls for the changes and two for the route, whose result is remembered under the digest.
        assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (5, 1));
    }
}

#[test]
fn a_response_in_place_of_the_upstreams_is_made_each_time() {
    let fake = Fake::new("stop")
        .request(|_| Ok(RequestOutcome::Respond(local(403, Vec::new(), "no"))))
        .pure(Function::OnRequest, &[]);
    let fixture = Fixture::new([fake]);
    for _ in 0..2 {
        let response = through(&mut fixture.get("/", &[]), Response::default());
        assert_eq!(&read(response.into_body()).expect("a body").0[..], b"no");
    }
    assert_eq!(fixture.plugins[0].calls(), 2);
}

#[test]
fn a_head_without_room_for_the_changes_fails_as_it_does_in_a_call() {
    let fake = Fake::new("edit")
        .request(|_| Ok(RequestOutcome::Proceed(set("x-more", "1"))))
        .pure(Function::OnRequest, &[]);
    let fixture = Fixture::new([fake]);
    forwarded(&mut fixture.get("/", &[]), Body::Empty);
    let mut exchange = fixture.get("/", &[]);
    let mut full = HeaderMap::new();
    (0..1024).for_each(|_| {
        full.append("x-full", HeaderValue::from_static("1"));
    });
    Arc::make_mut(&mut exchange.facts.head).headers = full;
    assert_eq!(refused(&mut exchange, Body::Empty).kind, FaultKind::PluginFailed);
}
