//! Tests of the claims of a token.

use serde_json::{Value, json};
use witgate_sdk::{Acceptance, Authentication, Decision, Identity, Input};

use super::issuer::NOW;
use super::{decide, plugin_with, refused, why};

fn with(settings: Value, claims: Value) -> Decision {
    let (plugin, issuer) = plugin_with(settings);
    decide(&plugin, &issuer.token(claims))
}

fn accepted(decision: Decision) -> Acceptance {
    match decision {
        Decision::Accepted(acceptance) => acceptance,
        other => panic!("not accepted: {other:?}"),
    }
}

#[test]
fn a_token_is_good_from_nbf_to_exp_give_or_take_the_leeway() {
    let at = |exp: Value, nbf: Value| {
        with(json!({ "leeway": "30s" }), json!({ "sub": "ada", "exp": exp, "nbf": nbf }))
    };
    accepted(at(json!(NOW + 60), json!(NOW)));
    accepted(at(json!(NOW - 29), json!(NOW + 30)));
    accepted(at(json!(NOW as f64 + 0.5), json!(NOW)));
    assert_eq!(why(at(json!(NOW - 30), json!(NOW))), "the token has expired");
    assert_eq!(why(at(json!(NOW + 60), json!(NOW + 31))), "the token is not valid yet");
    assert_eq!(why(at(json!("soon"), json!(NOW))), "a date is not a number");
}

#[test]
fn a_token_without_an_end_is_refused_unless_that_is_allowed() {
    assert_eq!(why(with(json!({}), json!({ "sub": "ada" }))), "the token has no exp");
    accepted(with(json!({ "allow_unlimited": true }), json!({ "sub": "ada" })));
}

#[test]
fn issuer_and_audience_must_be_ours() {
    let settings = || json!({ "issuer": "https://idp.test", "audience": ["api", "web"] });
    let claims = |iss: &str, aud: Value| json!({ "sub": "ada", "exp": NOW + 60, "iss": iss, "aud": aud });
    accepted(with(settings(), claims("https://idp.test", json!("api"))));
    accepted(with(settings(), claims("https://idp.test", json!(["other", "web"]))));
    assert_eq!(
        why(with(settings(), claims("https://idp.test/", json!("api")))),
        "the token is from another issuer"
    );
    assert_eq!(
        why(with(settings(), claims("https://idp.test", json!(["other"])))),
        "the token is for another audience"
    );
    let without = json!({ "sub": "ada", "exp": NOW + 60, "iss": "https://idp.test" });
    assert_eq!(why(with(settings(), without)), "the token is for another audience");
}

#[test]
fn a_token_without_a_scope_that_is_needed_is_forbidden() {
    let settings = || json!({ "scopes": ["orders:read", "orders:write"] });
    let claims = |scope: Value| json!({ "sub": "ada", "exp": NOW + 60, "scope": scope });
    accepted(with(settings(), claims(json!("orders:write other orders:read"))));
    accepted(with(
        settings(),
        json!({ "sub": "a", "exp": NOW + 60, "scp": ["orders:read", "orders:write"] }),
    ));
    let response = refused(with(settings(), claims(json!("orders:read orders:writer"))));
    let challenge = "Bearer error=\"insufficient_scope\", scope=\"orders:read orders:write\"";
    assert_eq!((response.status, response.header("www-authenticate")), (403, Some(challenge)));
}

#[test]
fn claims_that_are_named_go_into_the_identity() {
    let claims = json!({
        "sub": "ada", "exp": NOW + 60, "email": "ada@example.test", "age": 36, "secret": "not named",
        "realm_access": { "roles": ["admin", "user"] }, "https://example.test/plan": "gold",
    });
    let named = ["email", "age", "realm_access.roles", "https://example.test/plan", "missing"];
    let identity = accepted(with(json!({ "claims": named }), claims)).identity;
    let expected = Identity::new("ada")
        .with_claim("email", "ada@example.test")
        .with_claim("age", "36")
        .with_claim("realm_access.roles", "admin,user")
        .with_claim("https://example.test/plan", "gold");
    assert_eq!(identity, expected);
}

#[test]
fn another_claim_may_name_the_caller_but_one_must() {
    let claims = json!({ "client_id": "batch", "exp": NOW + 60, "sub": "" });
    assert_eq!(accepted(with(json!({ "subject": "client_id" }), claims.clone())).identity.subject, "batch");
    assert_eq!(why(with(json!({}), claims)), "the token names no subject");
}

#[test]
fn a_control_character_in_the_identity_is_the_fault_of_the_token() {
    let settings = || json!({ "claims": ["email", "roles", "realm.name"] });
    let token = |more: Value| {
        let mut claims = json!({ "sub": "ada", "exp": NOW + 60 });
        claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        with(settings(), claims)
    };
    for subject in ["a\nb", "\r\nx-admin: yes", "\0", "ada\u{7f}", "\u{1b}[31m"] {
        assert_eq!(
            why(token(json!({ "sub": subject }))),
            "the subject has a control character",
            "{subject:?}"
        );
    }
    for claims in [
        json!({ "email": "a\nb" }),
        json!({ "roles": ["admin", "us\rer"] }),
        json!({ "realm": { "name": "\u{1}" } }),
    ] {
        assert_eq!(why(token(claims.clone())), "a claim has a control character", "{claims}");
    }
    accepted(token(json!({ "sub": "Ada\tÄ", "email": "ä\u{85}", "roles": { "a": "\n" }, "other": "\n" })));
}

#[test]
fn a_decision_is_remembered_until_the_token_ends_and_not_for_longer_than_allowed() {
    let cacheable = |settings: Value, exp: u64| {
        accepted(with(settings, json!({ "sub": "ada", "exp": exp }))).cacheable_for
    };
    assert_eq!(cacheable(json!({}), NOW + 3600), 60_000);
    assert_eq!(cacheable(json!({}), NOW + 7), 7_000);
    assert_eq!(cacheable(json!({}), NOW - 7), 0, "in the leeway, but past its end");
    assert_eq!(cacheable(json!({ "cache_for": "0s" }), NOW + 3600), 0);
    let unlimited = accepted(with(json!({ "allow_unlimited": true }), json!({ "sub": "ada" })));
    assert_eq!(unlimited.cacheable_for, 60_000);
}

#[test]
fn a_decision_is_based_on_the_header_with_the_token() {
    for (settings, header) in [(json!({}), "authorization"), (json!({ "header": "x-token" }), "x-token")] {
        let inputs = plugin_with(settings).0.interest().authenticates_by;
        assert_eq!(inputs, Some(vec![Input::header(header)]));
    }
}
