//! Which changes of heads are applied, and which are refused.

use bytes::Bytes;
use http::{HeaderName, Response, StatusCode};
use witgate_config::model::IdentitySource;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::fake::{Fake, header, local, set};
use super::*;

fn requesting(changes: RequestChanges) -> Fake {
    Fake::new("change").request(move |_| Ok(RequestOutcome::Proceed(changes.clone())))
}

fn responding(changes: ResponseChanges) -> Fake {
    Fake::new("change").response(move |_| Ok(ResponseOutcome::Proceed(changes.clone())))
}

#[test]
fn changes_of_a_request_are_applied_in_order() {
    let fixture = Fixture::new([requesting(RequestChanges {
        headers: vec![
            HeaderChange::Append(header("x-list", "b")),
            HeaderChange::Append(header("x-list", "c")),
            HeaderChange::Set(header("x-set", "new")),
            HeaderChange::Remove("x-gone".into()),
            HeaderChange::Set(header("x-late", "1")),
            HeaderChange::Remove("x-late".into()),
        ],
        path: Some("/v2/%75sers".into()),
        method: Some("PUT".into()),
        ..RequestChanges::default()
    })]);
    let mut exchange =
        fixture.get("/a", &[("x-list", "a"), ("x-set", "old"), ("x-set", "older"), ("x-gone", "1")]);
    forwarded(&mut exchange, Body::Empty);
    let head = &exchange.facts.head;
    assert_eq!(values(&head.headers, "x-list"), "a | b | c");
    assert_eq!(values(&head.headers, "x-set"), "new");
    assert!(!head.headers.contains_key("x-gone") && !head.headers.contains_key("x-late"));
    assert_eq!((head.method.as_str(), head.path()), ("GET", "/a"), "what the router saw stays");
    assert_eq!(head.upstream_target.as_ref().map(|target| target.as_str()), Some("/v2/users"));
    assert_eq!(head.upstream_method, Some(Method::PUT));
}

#[test]
fn later_bindings_see_what_earlier_ones_changed() {
    let second = Fake::new("second").request(|head| {
        let seen = head.headers.get("x-first").map_or("", |value| value.to_str().expect("text"));
        Ok(RequestOutcome::Proceed(set("x-second", seen)))
    });
    let fixture = Fixture::new([requesting(set("x-first", "1")), second]);
    let mut exchange = fixture.get("/", &[]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(values(&exchange.facts.head.headers, "x-second"), "1");
}

#[test]
fn a_request_that_breaks_a_rule_changes_nothing_at_all() {
    let mut names =
        vec!["connection", "content-length", "transfer-encoding", "host", "te", "trailer", "upgrade"];
    names.extend([
        "keep-alive",
        "expect",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "x-user",
        "traceparent",
    ]);
    names.extend(["X-Upper", "x under", "", "x-\n", "x_user", ":path", "via", "proxy-connection"]);
    let mut broken: Vec<RequestChanges> = names.iter().map(|name| set(name, "1")).collect();
    let remove = |name: &str| RequestChanges {
        headers: vec![HeaderChange::Remove(name.to_owned())],
        ..RequestChanges::default()
    };
    broken.extend(["x-forwarded-for", "content-length", "host"].map(remove));
    broken.extend(["a\r\nb", "a\nb", "a\0b", "\x7f", " a", "a\t"].map(|value| set("x-value", value)));
    broken.extend(
        ["GET ", "", "CONNECT", "TRACE", "G\nT"]
            .map(|method| RequestChanges { method: Some(method.into()), ..RequestChanges::default() }),
    );
    broken.push(RequestChanges { path: Some("//..".into()), ..RequestChanges::default() });
    broken.push(RequestChanges { context: Bytes::from_static(&[0; 17]), ..RequestChanges::default() });
    for mut changes in broken {
        changes.headers.insert(0, HeaderChange::Set(header("x-good", "1")));
        let text = format!("{changes:?}");
        let mut fixture = Fixture::new([requesting(changes).skip()]);
        fixture.config.gateway.identity_headers.insert("x-user".into(), IdentitySource::Subject);
        let mut exchange = fixture.get("/a", &[("x-kept", "1")]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(exchange.facts.head.headers.len(), 1, "{text}");
        assert!(
            exchange.facts.head.upstream_target.is_none() && exchange.facts.head.upstream_method.is_none(),
            "{text}"
        );
        assert!(exchange.transformations.is_empty(), "{text}");
        assert_eq!(fixture.plugins[0].rejected().len(), 1, "{text}");
    }
}

#[test]
fn reasons_do_not_tell_values() {
    let fixture = Fixture::new([requesting(set("x-value", "secret\n"))]);
    refused(&mut fixture.get("/", &[]), Body::Empty);
    assert!(!fixture.plugins[0].rejected()[0].contains("secret"));
}

#[test]
fn an_early_answer_is_complete_and_its_own_binding_has_had_its_word() {
    let early = || {
        Fake::new("early")
            .request(|_| Ok(RequestOutcome::Respond(local(403, vec![header("x-why", "because")], "no"))))
            .response(|_| panic!("it has answered already"))
    };
    let fixture = Fixture::new([early()]);
    let response = through(&mut fixture.get("/", &[]), Response::default());
    assert_eq!(response.status(), 403);
    assert_eq!(values(response.headers(), "x-why"), "because");
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"no");
}

#[test]
fn the_context_comes_back_and_local_responses_are_seen_as_such() {
    let watching = || {
        Fake::new("watch")
            .request(|_| {
                let context = Bytes::from_static(b"from request");
                Ok(RequestOutcome::Proceed(RequestChanges { context, ..RequestChanges::default() }))
            })
            .response(|(view, context)| {
                assert_eq!(&context[..], b"from request");
                let text = format!("{} {}", view.status, if view.local { "local" } else { "upstream" });
                let headers = vec![HeaderChange::Set(header("x-saw", &text))];
                Ok(ResponseOutcome::Proceed(ResponseChanges { headers, ..ResponseChanges::default() }))
            })
    };
    let fixture = Fixture::new([watching()]);
    let response = through(&mut fixture.get("/", &[]), Response::default());
    assert_eq!(values(response.headers(), "x-saw"), "200 upstream");
    let fixture = Fixture::new([watching(), Fake::new("trap").request(|_| Err(CallFailure::Trap))]);
    let response = through(&mut fixture.get("/", &[]), Response::default());
    assert_eq!(response.status(), 503);
    assert_eq!(values(response.headers(), "x-saw"), "503 local");
}

#[test]
fn changes_of_a_response_are_applied() {
    let fixture = Fixture::new([responding(ResponseChanges {
        headers: vec![
            HeaderChange::Append(header("set-cookie", "b=2")),
            HeaderChange::Remove("server".into()),
        ],
        status: Some(418),
        ..ResponseChanges::default()
    })]);
    let origin = testing::response(&[("set-cookie", "a=1"), ("server", "x")], "tea");
    let response = through(&mut fixture.get("/", &[]), origin);
    assert_eq!(response.status(), 418);
    assert_eq!(values(response.headers(), "set-cookie"), "a=1 | b=2");
    assert!(!response.headers().contains_key("server"));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"tea");
}

#[test]
fn a_response_that_breaks_a_rule_denies_or_stays_as_it_was() {
    let change = |headers: Vec<HeaderChange>, status| ResponseChanges {
        headers,
        status,
        ..ResponseChanges::default()
    };
    let broken = [
        change(vec![HeaderChange::Set(header("connection", "close"))], None),
        change(vec![HeaderChange::Set(header("content-length", "1"))], None),
        change(vec![HeaderChange::Remove("transfer-encoding".into())], None),
        change(vec![HeaderChange::Append(header("x-a", "b\r\nc"))], None),
        change(Vec::new(), Some(101)),
        change(Vec::new(), Some(600)),
        change(Vec::new(), Some(0)),
        ResponseChanges { context: Some(Bytes::from_static(&[0; 17])), ..ResponseChanges::default() },
    ];
    for changes in broken {
        let fixture = Fixture::new([responding(changes.clone())]);
        let mut exchange = fixture.get("/", &[]);
        let response = through(&mut exchange, testing::response(&[("x-kept", "1")], "secret"));
        assert_eq!(response.status(), 503, "{changes:?}");
        assert_eq!(
            exchange.facts.record.fault.as_ref().map(|(kind, _)| *kind),
            Some(FaultKind::PluginFailed)
        );
        assert!(!response.headers().contains_key("x-kept"));
        let fixture = Fixture::new([responding(changes.clone()).skip()]);
        let response =
            through(&mut fixture.get("/", &[]), testing::response(&[("x-kept", "1")], "as it was"));
        assert_eq!(response.status(), 200, "{changes:?}");
        assert_eq!(values(response.headers(), "x-kept"), "1");
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"as it was");
    }
}

#[test]
fn a_response_may_be_replaced_and_the_next_binding_sees_that() {
    let outer = Fake::new("outer").response(|(view, _)| {
        let headers = vec![HeaderChange::Set(header("x-saw", &view.status.to_string()))];
        Ok(ResponseOutcome::Proceed(ResponseChanges { headers, ..ResponseChanges::default() }))
    });
    let inner = Fake::new("inner").response(|_| Ok(ResponseOutcome::Respond(local(410, Vec::new(), "gone"))));
    let fixture = Fixture::new([outer, inner]);
    let response = through(&mut fixture.get("/", &[]), testing::response(&[("x-old", "1")], "old"));
    assert_eq!(response.status(), StatusCode::GONE);
    assert_eq!(values(response.headers(), "x-saw"), "410");
    assert!(!response.headers().contains_key(HeaderName::from_static("x-old")));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"gone");
}

#[test]
fn switching_protocols_is_shown_to_nobody() {
    let fixture = Fixture::new([Fake::new("watch").response(|_| panic!("101 is no final response"))]);
    let mut switching = Response::new(Body::Empty);
    *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    assert_eq!(through(&mut fixture.get("/", &[]), switching).status(), 101);
}

#[test]
fn a_method_made_head_leaves_no_length_without_bytes() {
    let head = RequestChanges { method: Some("HEAD".into()), ..RequestChanges::default() };
    let fixture = Fixture::new([requesting(head)]);
    let response = through(&mut fixture.get("/", &[]), testing::response(&[("content-length", "5")], ""));
    assert!(!response.headers().contains_key("content-length"));
}
