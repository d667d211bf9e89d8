//! Tests that the algorithm is that of the key.

use serde_json::json;
use witgate_sdk::{Authentication, Decision, test};

use super::issuer::{Issuer, NOW, encoded};
use super::{decide, plugin, plugin_with, why};
use crate::Jwt;
use crate::algorithm::Algorithm;

#[test]
fn every_algorithm_verifies_its_own_tokens_and_no_others() {
    let claims = json!({ "sub": "ada", "exp": NOW + 60 });
    for (algorithm, _) in Algorithm::ALL {
        let (issuer, stranger) = (Issuer::new(algorithm, "a"), Issuer::new(algorithm, "b"));
        let plugin = plugin(&json!({ "keys": [issuer.settings()] }));
        let decision = decide(&plugin, &issuer.token(claims.clone()));
        assert!(matches!(decision, Decision::Accepted(_)), "{algorithm}: {decision:?}");

        let forged = stranger.token_with(json!({ "alg": algorithm, "kid": "a" }), claims.clone());
        assert_eq!(why(decide(&plugin, &forged)), "the signature is invalid", "{algorithm}");
        assert_eq!(
            why(decide(&plugin, &stranger.token(claims.clone()))),
            "no key fits the token",
            "{algorithm}"
        );
        let token = issuer.token(claims.clone());
        let (signed, _) = token.rsplit_once('.').expect("three parts");
        assert_eq!(why(decide(&plugin, &format!("{signed}."))), "the signature is invalid", "{algorithm}");
    }
}

#[test]
fn a_token_without_a_signature_is_refused_whatever_it_calls_itself() {
    let (plugin, _) = plugin_with(json!({}));
    for none in ["none", "None", "NONE", ""] {
        let header = encoded(json!({ "alg": none, "kid": "demo" }).to_string());
        let payload = encoded(json!({ "sub": "ada", "exp": NOW + 60 }).to_string());
        let token = format!("{header}.{payload}.");
        assert_eq!(why(decide(&plugin, &token)), "the algorithm is none of those accepted", "{none}");
    }
}

#[test]
fn a_public_key_is_never_a_secret() {
    let rsa = Issuer::new("RS256", "a");
    let plugin = plugin(&json!({ "keys": [rsa.settings()] }));
    let header = json!({ "alg": "HS256", "kid": "a" });
    let signed = format!("{}.{}", encoded(header.to_string()), encoded(json!({ "sub": "ada" }).to_string()));
    let tag = witgate_sdk::crypto::hmac(witgate_sdk::crypto::Hash::Sha256, rsa.modulus(), &signed);
    let token = format!("{signed}.{}", encoded(tag));
    assert_eq!(why(decide(&plugin, &token)), "the signature is invalid");
}

#[test]
fn a_token_does_not_choose_among_the_algorithms_of_a_family() {
    let issuer = Issuer::new("PS256", "a");
    let mut jwk = issuer.jwk();
    jwk["alg"] = json!("RS256");
    let plugin = plugin(&json!({ "keys": [{ "jwk": jwk }] }));
    let token = issuer.token(json!({ "sub": "ada", "exp": NOW + 60 }));
    assert_eq!(why(decide(&plugin, &token)), "the signature is invalid");
}

#[test]
fn a_key_for_something_else_is_refused() {
    let issuer = Issuer::new("ES256", "a");
    let with = |member: &str, value: serde_json::Value| {
        let mut jwk = issuer.jwk();
        jwk[member] = value;
        test::configure::<Jwt>(json!({ "keys": [{ "jwk": jwk }] }).to_string())
            .map(|_| ())
            .map_err(|problems| problems[0].message.clone())
    };
    assert_eq!(with("use", json!("enc")), Err("its `use` is not `sig`".to_owned()));
    assert_eq!(with("key_ops", json!(["encrypt"])), Err("its `key_ops` do not have `verify`".to_owned()));
    assert_eq!(with("alg", json!("ES384")), Err("the key does not fit its algorithm".to_owned()));
    assert_eq!(with("alg", json!("HS256")), Err("the key does not fit its algorithm".to_owned()));
    assert_eq!(with("x", json!("AQAB")), Err("a coordinate on P-256 has 32 bytes".to_owned()));
    assert_eq!(with("key_ops", json!(["verify"])), Ok(()));
}

#[test]
fn a_key_without_an_id_is_tried_for_any_token_of_its_algorithm() {
    let issuer = Issuer::hmac("HS256", "a");
    let mut key = issuer.settings();
    key.as_object_mut().expect("an object").remove("kid");
    let plugin = plugin(&json!({ "keys": [Issuer::hmac("HS256", "other").settings(), key] }));
    let claims = json!({ "sub": "ada", "exp": NOW + 60 });
    for token in [issuer.token(claims.clone()), issuer.token_with(json!({ "alg": "HS256" }), claims)] {
        assert!(matches!(decide(&plugin, &token), Decision::Accepted(_)));
    }
}

#[test]
fn a_pem_is_a_key() {
    // The public half of a P-256 key, and a token made with it: `openssl ec -pubout`.
    let (pem, issuer) = super::issuer::with_pem();
    let plugin = plugin(&json!({ "keys": [{ "alg": "ES256", "pem": pem }] }));
    assert!(matches!(
        decide(&plugin, &issuer.token(json!({ "sub": "ada", "exp": NOW + 60 }))),
        Decision::Accepted(_)
    ));
}

#[test]
fn what_is_no_signed_token_is_refused() {
    let (plugin, issuer) = plugin_with(json!({}));
    assert_eq!(why(decide(&plugin, "nonsense")), "not a token");
    assert_eq!(why(decide(&plugin, "a.b.c.d.e")), "an encrypted token, or none at all");
    assert_eq!(why(decide(&plugin, "a b.c.d")), "a part is not base64url");
    assert_eq!(why(decide(&plugin, "e30.e30.e30")), "the header is malformed");
    let critical = issuer.token_with(json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), json!({}));
    assert_eq!(why(decide(&plugin, &critical)), "the header has critical extensions");
    assert_eq!(why(decide(&plugin, &issuer.token(json!(["sub"])))), "the claims are malformed");
    // JSON is UTF-8 (RFC 8259 section 8.1), also in claims that are not used.
    let claims = [br#"{"sub":"ada","exp":9999999999,"note":""#, &b"\xFF"[..], br#""}"#].concat();
    let token = issuer.token_of(&json!({ "alg": "HS256", "kid": "demo" }), &claims);
    assert_eq!(why(decide(&plugin, &token)), "the claims are malformed");
    let no_text = test::request().header("authorization", b"Bearer \xFF.e30.e30").build();
    assert_eq!(why(plugin.authenticate(&no_text)), "a part is not base64url");
}
