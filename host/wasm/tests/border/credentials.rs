//! Which credentials a component sees: through the views of request and response, and in what is passed with a call.

use std::sync::Arc;

use http::uri::PathAndQuery;
use witgate_exchange::contracts::{Authentication as _, RateLimiting as _, RequestOutcome, ResponseOutcome};
use witgate_exchange::contracts::{Binding as _, Call, Decision, Transformation as _};
use witgate_wasm::Loaded;
use witgate_wasm::refusal::Reason;

use crate::scene::{Scene, on_core, probe, request, response, snapshot};

const LISTED: &str = "credentials = { headers = [\"x-key\"], query = [\"apikey\"] }";

/// Makes the probe do something with a request that has credentials; returns its line of text.
fn seen(loaded: &Loaded, deed: &str, with: &str) -> String {
    let mut head = request(&[
        ("x-do", deed),
        ("x-with", with),
        ("authorization", "Bearer a"),
        ("cookie", "b=c"),
        ("x-key", "d"),
    ]);
    Arc::make_mut(&mut head).target = PathAndQuery::from_static("/users/7?a=b&apikey=e");
    let snapshot = snapshot();
    let buckets = on_core(loaded.draw(Call { head: &head, fetch: &snapshot })).expect("a result");
    buckets.content[0].key.clone()
}

#[test]
fn a_component_of_0_1_sees_everything_unless_the_binding_says_otherwise() {
    let (_scene, loaded) = probe("");
    assert_eq!(seen(&loaded, "header", "Authorization"), "Bearer a");
    assert_eq!(seen(&loaded, "head", ""), "POST /users/7 Some(\"a=b&apikey=e\") example.com:8080");
    assert_eq!(loaded.credentials().ungranted().len(), 4);

    let (_scene, loaded) = probe("credentials = \"granted\"");
    for (name, value) in [("Authorization", ""), ("COOKIE", ""), ("x-key", "d"), ("x-with", "x-with")] {
        assert_eq!(seen(&loaded, "header", name).replace(name, "x-with"), value, "{name}");
    }
    assert!(loaded.credentials().ungranted().is_empty());
}

#[test]
fn listed_headers_and_parameters_are_invisible_unless_granted() {
    let (_scene, loaded) = probe(LISTED);
    assert_eq!(seen(&loaded, "header", "x-key"), "");
    assert_eq!(seen(&loaded, "head", ""), "POST /users/7 Some(\"a=b\") example.com:8080");
    // `look` counts all headers: `x-do` and `x-with` are left.
    assert!(seen(&loaded, "look", "").contains("192.0.2.7 2 0"), "{}", seen(&loaded, "look", ""));

    let (_scene, loaded) =
        probe(&format!("{LISTED}\ngrants.credentials = [\"x-key\", \"apikey\", \"cookie\"]"));
    assert_eq!(seen(&loaded, "header", "x-key"), "d");
    assert_eq!(seen(&loaded, "header", "cookie"), "b=c");
    assert_eq!(seen(&loaded, "header", "authorization"), "");
    assert_eq!(seen(&loaded, "head", ""), "POST /users/7 Some(\"a=b&apikey=e\") example.com:8080");
}

#[test]
fn what_is_passed_with_a_call_has_no_hidden_parameter() {
    let (_scene, loaded) = probe(LISTED);
    let mut head = request(&[("x-do", "calls")]);
    Arc::make_mut(&mut head).target = PathAndQuery::from_static("/users/7?apikey=e");
    let snapshot = snapshot();
    let call = || Call { head: &head, fetch: &snapshot };
    let Ok(Decision::Accepted(accepted)) = on_core(loaded.authenticate(call(), true)) else {
        panic!("accepted")
    };
    assert_eq!(accepted.claims[0].1, "Some(\"POST\") Some(\"/users/7\") None Some(\"example.com:8080\") 1");
    let Ok(answer) = on_core(loaded.transform_request(call())) else { panic!("a result") };
    let RequestOutcome::Proceed(changes) = answer.content else { panic!("it proceeds") };
    assert_eq!(changes.path, None, "the probe returns the query that it got");
}

#[test]
fn cookies_of_a_response_are_invisible() {
    let head = request(&[("x-do", "calls")]);
    for (binding, expected) in [("", " 2 200"), ("credentials = \"granted\"", " 1 200")] {
        let (_scene, loaded) = probe(binding);
        let snapshot = snapshot();
        let answer = response(&[("x-origin", "a"), ("set-cookie", "b=c")]);
        let call = Call { head: &head, fetch: &snapshot };
        let Ok(answer) = on_core(loaded.transform_response(call, answer, "".into())) else {
            panic!("a result")
        };
        let ResponseOutcome::Proceed(changes) = answer.content else { panic!("it proceeds") };
        let told = format!("{:?}", changes.headers);
        assert!(told.contains(expected), "{binding}: {told}");
    }
}

#[test]
fn a_plugin_that_declares_an_ungranted_credential_is_refused() {
    let scene = Scene::new();
    let bind = |more: &str| {
        let listed = "grants.store = [\"space\"]\ncredentials = { headers = [\"x-with\"] }";
        scene.bind("probe", &format!("{listed}\n{more}"))
    };
    let refusal = bind("").err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Grant);
    let told = refusal.to_string();
    assert!(told.contains("`x-with`") && told.contains("grants.credentials = [\"x-with\"]"), "{told}");
    bind("grants.credentials = [\"x-with\"]").expect("it is granted");
}
