//! The choice of the upstream and the target, and what a binding may not choose.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::SET_COOKIE;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::fake::{Fake, header};
use super::*;

fn to(upstream: &str) -> Destination {
    Destination { upstream: Some(upstream.to_owned()), ..Destination::default() }
}

fn path(path: &str) -> Destination {
    Destination { path: Some(path.to_owned()), ..Destination::default() }
}

fn routing(binding: &str, destination: Destination) -> Fake {
    let mut fake = Fake::new(binding).route(move |_| Ok(Some(destination.clone())));
    fake.granted = vec!["users", "orders", "ghost"];
    fake
}

#[test]
fn without_a_word_the_route_decides() {
    let fixture = Fixture::new([Fake::new("silent").route(|_| Ok(None))]);
    let mut exchange = fixture.get("/a", &[]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(exchange.facts.upstream.as_deref(), Some("users"));
    assert_eq!(exchange.facts.head.upstream_target, None);
}

#[test]
fn the_last_word_on_each_field_counts_and_timeouts_only_shorten() {
    let first = Destination {
        path: Some("/first".into()),
        hash_key: Some(Bytes::from_static(b"ann")),
        timeout: Some(Duration::from_secs(1)),
        response_headers: vec![header("set-cookie", "sticky=1")],
        ..to("orders")
    };
    let second = Destination { timeout: Some(Duration::from_secs(9)), ..path("/second/../third?q=1") };
    let mut fixture = Fixture::new([routing("one", first), routing("two", second)]);
    fixture.route.timeout = Some(Duration::from_secs(5));
    let mut exchange = fixture.get("/a", &[]);
    forwarded(&mut exchange, Body::Empty);
    assert_eq!(exchange.facts.upstream.as_deref(), Some("orders"));
    assert_eq!(
        exchange.facts.head.upstream_target.as_ref().map(|target| target.as_str()),
        Some("/third?q=1")
    );
    assert_eq!(exchange.facts.head.path(), "/a", "the router's path stays");
    assert_eq!(exchange.facts.hash_key.as_deref(), Some(&b"ann"[..]));
    assert_eq!(exchange.facts.timeout, Some(Duration::from_secs(1)));
    assert_eq!(exchange.facts.response_headers, [(SET_COOKIE, HeaderValue::from_static("sticky=1"))]);
}

#[test]
fn answers_that_break_a_rule_are_failed_calls_and_change_nothing() {
    let headers = |name: &str| Destination { response_headers: vec![header(name, "x")], ..to("orders") };
    let broken = [
        to("payments"),
        to("ghost"),
        path("relative"),
        path("/../above"),
        path("/a%00b"),
        path("/a%2Fb"),
        path("/a b\n"),
        path("http://elsewhere/"),
        headers("connection"),
        headers("transfer-encoding"),
    ];
    for destination in broken {
        let fixture = Fixture::new([routing("one", destination.clone())]);
        assert_eq!(
            refused(&mut fixture.get("/", &[]), Body::Empty).kind,
            FaultKind::PluginFailed,
            "{destination:?}"
        );
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
        let fixture = Fixture::new([routing("one", destination).skip()]);
        let mut exchange = fixture.get("/", &[]);
        forwarded(&mut exchange, Body::Empty);
        assert_eq!(exchange.facts.upstream.as_deref(), Some("users"));
        assert!(exchange.facts.response_headers.is_empty() && exchange.facts.head.upstream_target.is_none());
    }
}

#[test]
fn a_route_that_answers_by_itself_asks_nobody_where_to() {
    let mut fixture = Fixture::new([routing("one", to("orders"))]);
    fixture.route.action = Action::Respond { status: 204, headers: Vec::new(), body: String::new() };
    let response = through(&mut fixture.get("/", &[]), Response::default());
    assert_eq!(response.status(), 204);
    assert_eq!(fixture.plugins[0].calls(), 0);
}
