//! One test for each promise of the README.

use std::time::Duration;

use super::*;
use witgate_sdk::{Identity, test};

/// The output of `printf %s open-sesame | sha256sum`.
const OPEN_SESAME: &str = "d7ecdf25eaf3deba0f2628771dbdd22d4138ab6cf38f91ed02a2ca0dec7c8ab7";
/// The output of `printf %s second | sha256sum`.
const SECOND: &str = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

fn plugin(more: &str) -> ApiKeys {
    let settings = format!(
        r#"{{ {more} "keys": [
            {{ "name": "partner", "sha256": "{OPEN_SESAME}", "claims": {{ "plan": "gold" }} }},
            {{ "name": "other", "sha256": "{SECOND}" }}
        ] }}"#
    );
    test::configure(settings).expect("the settings are good")
}

fn accepted(decision: Decision) -> Acceptance {
    match decision {
        Decision::Accepted(acceptance) => acceptance,
        other => panic!("not accepted: {other:?}"),
    }
}

#[test]
fn a_known_key_is_its_owner() {
    let request = test::request().header("X-Api-Key", "open-sesame").build();
    let acceptance = accepted(plugin("").authenticate(&request));
    assert_eq!(acceptance.identity, Identity::new("partner").with_claim("plan", "gold"));
    let request = test::request().header("X-Api-Key", "second").build();
    assert_eq!(accepted(plugin("").authenticate(&request)).identity, Identity::new("other"));
}

#[test]
fn a_wrong_key_is_refused_and_no_key_is_not_ours() {
    for wrong in ["open-sesam", "open-sesame ", "", OPEN_SESAME] {
        let request = test::request().header("x-api-key", wrong).build();
        assert_eq!(plugin("").authenticate(&request), Decision::unauthorized("ApiKey"), "{wrong}");
    }
    assert_eq!(plugin("").authenticate(&test::request().build()), Decision::not_mine("ApiKey"));
}

#[test]
fn two_keys_in_one_request_are_refused() {
    let request = test::request().header("x-api-key", "open-sesame").header("x-api-key", "second").build();
    assert_eq!(plugin("").authenticate(&request), Decision::unauthorized("ApiKey"));
    let both = plugin(r#""header": "x-key", "query": "key","#);
    for query in [
        "key=open-sesame&key=bad",
        "key=bad&key=open-sesame",
        "key=open-sesame&a=b&%6bey=second",
        "key=open-sesame&key=open-sesame",
        "key=open-sesame&key",
        "key=%ff&key=open-sesame",
        "key=open-sesame&key=%ff",
    ] {
        let request = test::request().path(&format!("/?{query}")).build();
        assert_eq!(both.authenticate(&request), Decision::unauthorized("ApiKey"), "{query}");
    }
    for (header, query) in [("open-sesame", "bad"), ("open-sesame", ""), ("open-sesame", "open-sesame")] {
        let request = test::request().header("x-key", header).path(&format!("/?key={query}")).build();
        assert_eq!(both.authenticate(&request), Decision::unauthorized("ApiKey"), "{header} {query}");
    }
}

#[test]
fn a_key_that_is_no_text_is_a_wrong_key() {
    let both = plugin(r#""header": "x-key", "query": "key","#);
    let query = test::request().path("/?key=%ff").build();
    assert_eq!(both.authenticate(&query), Decision::unauthorized("ApiKey"));
    let header = test::request().header("x-key", b"\xff").build();
    assert_eq!(both.authenticate(&header), Decision::unauthorized("ApiKey"));
}

#[test]
fn an_identity_that_no_header_can_carry_is_a_mistake_in_the_settings() {
    let settings = format!(
        r#"{{ "keys": [{{ "name": "a\nb", "sha256": "{SECOND}", "claims": {{ "ok": "a\tb", "x/y": "\u0000" }} }}] }}"#
    );
    let problems = test::configure::<ApiKeys>(settings).err().expect("two problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/keys/0/name", "/keys/0/claims/x~1y"]);
}

#[test]
fn a_query_parameter_serves_where_it_is_named() {
    let request = || test::request().path("/?a=b&key=open%2Dsesame").build();
    let plugin_of = |more: &str| plugin(more).authenticate(&request());
    assert_eq!(plugin_of(""), Decision::not_mine("ApiKey"));
    assert_eq!(accepted(plugin_of(r#""query": "key","#)).identity.subject, "partner");
    let both = plugin(r#""header": "x-key", "query": "key","#);
    assert_eq!(accepted(both.authenticate(&request())).identity.subject, "partner");
    let header_wins = test::request().path("/?key=open-sesame").header("x-key", "wrong").build();
    assert_eq!(both.authenticate(&header_wins), Decision::unauthorized("ApiKey"));
}

#[test]
fn a_decision_is_remembered_by_all_it_looked_at() {
    let request = test::request().header("x-key", "second").build();
    let both = plugin(r#""header": "x-key", "query": "key", "cache_for": "5m","#);
    assert_eq!(accepted(both.authenticate(&request)).cacheable_for, 300_000);
    assert_eq!(both.interest().authenticates_by, Some(vec![Input::header("x-key"), Input::Query]));
    let default = plugin("");
    let request = test::request().header("x-api-key", "second").build();
    let expected = Acceptance::from(Identity::new("other")).cacheable_for(Duration::from_secs(60));
    assert_eq!(accepted(default.authenticate(&request)), expected);
    assert_eq!(default.interest().authenticates_by, Some(vec![Input::header("x-api-key")]));
}

#[test]
fn every_bad_key_is_reported_at_its_place() {
    let empty = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
    let settings = format!(
        r#"{{ "keys": [
            {{ "name": "a", "sha256": "secret" }},
            {{ "name": "", "sha256": "{SECOND}" }},
            {{ "name": "c", "sha256": "{SECOND}" }},
            {{ "name": "d", "sha256": "{empty}" }}
        ] }}"#
    );
    let problems = test::configure::<ApiKeys>(settings).err().expect("it is full of problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/keys/0/sha256", "/keys/1/name", "/keys/2/sha256", "/keys/3/sha256"]);
    let none = test::configure::<ApiKeys>(r#"{ "keys": [] }"#).err().expect("nobody could be let in");
    assert_eq!(none[0].pointer, "/keys");
}
