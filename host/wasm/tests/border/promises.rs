//! Functions that are declared pure, and whether they keep the promise.

use std::sync::Arc;

use http::HeaderName;
use witgate_exchange::contracts::{
    Authentication as _, Binding as _, Call, Decision, Function, Input, RateLimiting as _, Routing as _,
    Transformation as _,
};
use witgate_wasm::{Loaded, Reason};

use crate::scene::{Scene, authenticate, bytes, on_core, probe, request, response, snapshot};

/// A probe that declares only the headers `x-do` and `x-with` as inputs.
fn promising() -> (Scene, Arc<Loaded>) {
    probe("settings.deed = \"pure\"\nquarantine = \"off\"")
}

/// Whether each function kept its promise when it was told to do something, and the result of the draw.
fn kept(loaded: &Loaded, deed: &str, with: &str) -> ([bool; 4], String) {
    let (head, snapshot) = (request(&[("x-do", deed), ("x-with", with), ("x-other", "1")]), snapshot());
    let call = Call { head: &head, fetch: &snapshot };
    on_core(async {
        let draw = loaded.draw(call).await.unwrap();
        let route = loaded.route(call).await.unwrap();
        let changes = loaded.transform_request(call).await.unwrap();
        let answer =
            loaded.transform_response(call, response(&[("x-origin", "1")]), bytes("")).await.unwrap();
        ([draw.pure, route.pure, changes.pure, answer.pure], draw.content[0].key.clone())
    })
}

#[test]
fn inputs_that_are_named_and_cryptography_are_allowed() {
    let (_scene, loaded) = promising();
    let named = ["x-do", "x-with"].map(|name| Input::Header(HeaderName::from_static(name)));
    assert_eq!(loaded.interest().inputs(Function::Route), Some(&named[..]));
    // The call for the response reads the named headers through the borrowed request.
    for (deed, with) in [("", ""), ("digest", "a"), ("header", "X-With")] {
        let (pure, answer) = kept(&loaded, deed, with);
        // The probe reads all response headers, which it does not declare.
        assert_eq!(pure, [true, true, true, false], "{deed}: {answer}");
    }
    let (_scene, makes_no_promise) = probe("");
    assert_eq!(kept(&makes_no_promise, "", "").0, [false; 4]);
}

#[test]
fn a_call_that_did_more_is_good_for_one_request_only() {
    let (_scene, loaded) = promising();
    for (deed, with) in [
        ("header", "x-other"),
        ("header", "x-absent"),
        ("parameter", "id"),
        ("head", ""),
        ("scheme", ""),
        ("id", ""),
        ("look", ""),
        ("log", "line"),
        ("metrics", ""),
        ("store", "get space name"),
        ("time", ""),
        ("chance", ""),
        ("print", "a line"),
    ] {
        let (pure, answer) = kept(&loaded, deed, with);
        // An instance reads its random seed only once.
        let at_first = deed == "chance";
        assert_eq!(pure, [false, at_first, at_first, false], "{deed}: {answer}");
        assert!(kept(&loaded, "", "").0[0], "what one call did is not held against the next");
    }
}

#[test]
fn what_is_not_named_does_not_come_in() {
    let (_scene, loaded) = promising();
    let (head, snapshot) = (request(&[("x-do", "digest")]), snapshot());
    let answer = on_core(loaded.transform_request(Call { head: &head, fetch: &snapshot })).unwrap();
    let shown = format!("{:?}", answer.content);
    assert!(answer.pure && !shown.contains("example.com") && !shown.contains("POST"), "{shown}");
    // The parts can still be read from the gateway.
    assert_eq!(kept(&loaded, "head", "").1, "POST /users/7 Some(\"a=b\") example.com:8080");
}

#[test]
fn authentication_is_shown_what_it_named() {
    let (_scene, loaded) = probe("settings.deed = \"authenticates by header\"");
    let (head, snapshot) = (request(&[("x-do", "head"), ("x-with", "1")]), snapshot());
    let answer = on_core(loaded.authenticate(Call { head: &head, fetch: &snapshot }, true));
    let Ok(Decision::Accepted(accepted)) = answer else { panic!("{answer:?}") };
    assert_eq!(accepted.claims[0].1, r#"None None Some("a=b") None 1"#);
    assert_eq!(accepted.subject, "POST /users/7 Some(\"a=b\") example.com:8080", "it can still be asked for");
}

/// The inputs of an acceptance.
fn inputs(loaded: &Loaded, deed: &str) -> Vec<Input> {
    match authenticate(loaded, deed) {
        Ok(Decision::Accepted(accepted)) => accepted.inputs,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_acceptance_that_looked_beyond_its_inputs_is_not_remembered() {
    let (_scene, loaded) = probe("");
    // The acceptance names a header and the path. Other effects are allowed: a token must be compared with the
    // clock, and its key comes from the store.
    for (deed, lasts) in [("calls", true), ("time", true), ("store", true), ("scheme", false), ("id", false)]
    {
        assert_eq!(!inputs(&loaded, deed).is_empty(), lasts, "{deed}");
    }
}

#[test]
fn an_acceptance_that_names_no_inputs_is_based_on_those_that_come_in() {
    let (_scene, loaded) = probe("settings.deed = \"names no inputs\"");
    assert_eq!(inputs(&loaded, "calls"), [Input::Header(HeaderName::from_static("x-do")), Input::Query]);
    assert_eq!(inputs(&loaded, "scheme"), [], "it looked at more");
    let (_scene, loaded) = probe("settings.deed = \"names and declares no inputs\"");
    assert_eq!(inputs(&loaded, "calls"), [], "everything came in");
}

#[test]
fn an_acceptance_names_its_inputs_only_where_it_is_to_be_remembered() {
    let (_scene, loaded) = probe("");
    let (head, snapshot) = (request(&[("x-do", "calls")]), snapshot());
    for remember in [true, false] {
        let answer = on_core(loaded.authenticate(Call { head: &head, fetch: &snapshot }, remember));
        let Ok(Decision::Accepted(accepted)) = answer else { panic!("{answer:?}") };
        assert_eq!(!accepted.inputs.is_empty(), remember);
    }
}

#[test]
fn promises_that_make_no_sense_are_refused() {
    for (deed, text) in [
        ("pure twice", "`draw` to be pure more than once"),
        ("pure by no header", "`no header` as an input of `draw`"),
        ("pure by too much", "33 inputs of `draw`, at most 32"),
        ("authenticates by no header", "`no header` as an input of `authenticate`"),
    ] {
        let bound = Scene::new().bind("probe", &format!("grants.store = []\nsettings.deed = \"{deed}\""));
        let refusal = bound.err().expect("it is refused");
        assert_eq!(refusal.reason, Reason::Interest);
        assert!(refusal.to_string().contains(text), "{refusal}");
    }
}

#[test]
fn remembering_can_be_turned_off() {
    let (_scene, loaded) = probe("remember = false\nsettings.deed = \"pure\"");
    assert!(!loaded.remembers());
    let (scene, loaded) = promising();
    assert!(loaded.remembers());
    loaded.answered_again();
    let line = "witgate_plugin_answers_remembered_total{binding=\"b\"} 1";
    assert!(scene.telemetry.metrics().expose().contains(line));
}
