//! One test for each promise of the README.

mod claims;
mod fetched;
mod issuer;
mod keys;
mod shared;

use serde_json::{Value, json};
use witgate_sdk::{Decision, Response, test};

use crate::Jwt;
use issuer::{Issuer, NOW};
use witgate_sdk::Authentication;

/// A plugin with these settings.
fn plugin(settings: &Value) -> Jwt {
    test::configure(settings.to_string()).expect("the settings are good")
}

/// A plugin with one HS256 key with id `demo`, and further settings.
fn plugin_with(more: Value) -> (Jwt, Issuer) {
    let issuer = Issuer::hmac("HS256", "demo");
    let mut settings = json!({ "keys": [issuer.settings()] });
    settings.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    (plugin(&settings), issuer)
}

fn decide(plugin: &Jwt, token: &str) -> Decision {
    plugin.authenticate(&test::request().header("authorization", format!("Bearer {token}")).build())
}

fn refused(decision: Decision) -> Response {
    match decision {
        Decision::Refused(response) => response,
        other => panic!("not refused: {other:?}"),
    }
}

/// Why a token was refused, by its challenge.
fn why(decision: Decision) -> String {
    let challenge = refused(decision).header("www-authenticate").expect("a challenge").to_owned();
    let why =
        challenge.strip_prefix("Bearer error=\"invalid_token\", error_description=\"").expect(&challenge);
    why.trim_end_matches('"').to_owned()
}

#[test]
fn a_request_without_a_bearer_token_is_not_ours() {
    let (plugin, _) = plugin_with(json!({}));
    for request in
        [test::request(), test::request().header("authorization", "Basic YWxhZGRpbjpvcGVuc2VzYW1l")]
    {
        assert_eq!(plugin.authenticate(&request.build()), Decision::not_mine("Bearer"));
    }
}

#[test]
fn two_tokens_in_one_request_are_refused() {
    let (plugin, issuer) = plugin_with(json!({}));
    let token = format!("Bearer {}", issuer.token(json!({ "sub": "ada", "exp": NOW + 60 })));
    let request = test::request().header("authorization", &*token).header("authorization", &*token).build();
    let response = refused(plugin.authenticate(&request));
    assert_eq!(
        (response.status, response.header("www-authenticate")),
        (400, Some("Bearer error=\"invalid_request\""))
    );
}

#[test]
fn another_header_may_carry_the_token_alone() {
    let (plugin, issuer) = plugin_with(json!({ "header": "X-Token" }));
    let token = issuer.token(json!({ "sub": "ada", "exp": NOW + 60 }));
    for value in [token.clone(), format!("bearer {token}")] {
        let decision = plugin.authenticate(&test::request().header("x-token", value).build());
        assert!(matches!(decision, Decision::Accepted(_)), "{decision:?}");
    }
}

#[test]
fn every_bad_setting_is_reported_at_its_place() {
    let problems = |settings: Value| -> Vec<String> {
        let problems = test::configure::<Jwt>(settings.to_string()).err().expect("it has problems");
        problems.into_iter().map(|problem| problem.pointer).collect()
    };
    assert_eq!(problems(json!({})), [""]);
    assert_eq!(problems(json!({ "keys": [{ "kid": "a" }] })), ["/keys/0"]);
    assert_eq!(problems(json!({ "keys": [{ "alg": "HS256", "secret": "short" }] })), ["/keys/0/secret"]);
    assert_eq!(problems(json!({ "keys": [{ "alg": "RS256", "pem": "nonsense" }] })), ["/keys/0/pem"]);
    assert_eq!(problems(json!({ "keys": [{ "alg": "none", "secret": "x" }] })), ["/keys/0/alg"]);
    assert_eq!(
        problems(json!({ "keys": [{ "jwk": { "kty": "RSA", "n": "AQAB", "e": "AQAB" } }] })),
        ["/keys/0/jwk"]
    );
    let jwks = json!({ "jwks": { "upstream": "", "path": "keys", "rsa_algorithm": "HS256" } });
    assert_eq!(problems(jwks), ["/jwks/upstream", "/jwks/path", "/jwks/rsa_algorithm"]);
    assert_eq!(problems(json!({ "isuer": "x" })), ["/isuer"]);
    let key = json!({ "kid": "a", "alg": "HS256", "secret": "x".repeat(32) });
    assert_eq!(problems(json!({ "keys": [key, key] })), ["/keys/1"]);
}

#[test]
fn a_scope_that_no_challenge_can_carry_is_reported_at_its_place() {
    let settings = json!({
        "keys": [Issuer::hmac("HS256", "demo").settings()],
        "scopes": ["orders:read", "two words", "a\"b", "", "a\nb", "a\\b"],
    });
    let problems = test::configure::<Jwt>(settings.to_string()).err().expect("five problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/scopes/1", "/scopes/2", "/scopes/3", "/scopes/4", "/scopes/5"]);
}
