//! One test for each promise of the README.

use std::time::Duration;

use super::*;
use witgate_sdk::{clock, test};

fn plugin(settings: &str) -> Signed {
    test::configure(settings).expect("the settings are good")
}

fn decide(plugin: &Signed, headers: &[(&str, &str)], body: &str) -> Decision {
    let request = headers.iter().fold(test::request(), |request, (name, value)| request.header(name, *value));
    plugin.authenticate_by_body(&Body::whole(body), &request.build())
}

const GITHUB: &str = r#"{ "format": "github", "secrets": ["It's a Secret to Everybody"] }"#;
/// The example in GitHub's documentation of webhooks.
const EXAMPLE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

#[test]
fn a_signature_of_github_is_accepted_for_its_body_only() {
    let plugin = plugin(GITHUB);
    assert_eq!(plugin.reads(), Reading::whole(1 << 20));
    let name = "X-Hub-Signature-256";
    assert_eq!(decide(&plugin, &[(name, EXAMPLE)], "Hello, World!"), Decision::accept("webhook"));
    let upper = EXAMPLE.to_ascii_uppercase().replace("SHA256", "sha256");
    assert_eq!(decide(&plugin, &[(name, &upper)], "Hello, World!"), Decision::accept("webhook"));
    let refused = Decision::unauthorized("Signature");
    assert_eq!(decide(&plugin, &[(name, EXAMPLE)], "Hello, World?"), refused);
    assert_eq!(decide(&plugin, &[(name, EXAMPLE)], ""), refused);
    for wrong in ["", "sha256=", &EXAMPLE[..70], &EXAMPLE[7..], "sha1=757107ea", &format!("{EXAMPLE}0")] {
        assert_eq!(decide(&plugin, &[(name, wrong)], "Hello, World!"), refused, "{wrong}");
    }
    assert_eq!(decide(&plugin, &[(name, EXAMPLE), (name, EXAMPLE)], "Hello, World!"), refused);
    assert_eq!(decide(&plugin, &[], "Hello, World!"), Decision::not_mine("Signature"));
}

#[test]
fn one_of_several_secrets_has_to_fit() {
    let plugin = plugin(
        r#"{ "format": "github", "secrets": ["new", "It's a Secret to Everybody"], "subject": "gh" }"#,
    );
    assert_eq!(decide(&plugin, &[("x-hub-signature-256", EXAMPLE)], "Hello, World!"), Decision::accept("gh"));
}

#[test]
fn a_signature_of_stripe_holds_a_time_that_has_to_be_near() {
    let gateway = test::Gateway::new();
    let plugin = plugin(r#"{ "format": "stripe", "secrets": ["whsec"], "tolerance": "5m" }"#);
    let sign = |time: u64, body: &str| {
        Encoding::Hex.encode(&crypto::hmac(Hash::Sha256, "whsec", format!("{time}.{body}")))
    };
    let now = clock::unix_seconds();
    let (good, other) = (sign(now, "{}"), sign(now, "[]"));
    let accepted =
        |value: &str| decide(&plugin, &[("stripe-signature", value)], "{}") == Decision::accept("webhook");
    assert!(accepted(&format!("t={now},v1={good}")));
    assert!(accepted(&format!("t={now},v1={other},v1={good},v0={other}")), "while a secret is rotated");
    for wrong in [
        format!("t={now},v1={other}"),
        format!("t={now},v0={good}"),
        format!("t={},v1={good}", now + 1),
        format!("v1={good}"),
        format!("t={now},t={now},v1={good}"),
        format!("t={now}"),
        format!("t=now,v1={good}"),
        String::new(),
    ] {
        assert!(!accepted(&wrong), "{wrong}");
    }
    gateway.advance(Duration::from_secs(300));
    assert!(accepted(&format!("t={now},v1={good}")));
    gateway.advance(Duration::from_secs(1));
    assert!(!accepted(&format!("t={now},v1={good}")), "too old");
    let early = clock::unix_seconds() + 301;
    assert!(!accepted(&format!("t={early},v1={}", sign(early, "{}"))), "too new");
}

#[test]
fn a_generic_signature_is_in_the_header_in_the_form_that_is_configured() {
    for (more, name, prefix, hash, encoding) in [
        ("", "x-signature", "", Hash::Sha256, Encoding::Hex),
        (
            r#", "header": "X-Sign", "prefix": "v1 ", "hash": "sha512""#,
            "x-sign",
            "v1 ",
            Hash::Sha512,
            Encoding::Hex,
        ),
        (r#", "encoding": "base64", "hash": "sha384""#, "x-signature", "", Hash::Sha384, Encoding::Base64),
    ] {
        let plugin = plugin(&format!(r#"{{ "format": "generic", "secrets": ["s"]{more} }}"#));
        assert_eq!(plugin.interest().request_headers, [name]);
        let value = format!("{prefix}{}", encoding.encode(&crypto::hmac(hash, "s", "body")));
        assert_eq!(decide(&plugin, &[(name, &value)], "body"), Decision::accept("webhook"), "{value}");
        assert_eq!(decide(&plugin, &[(name, &value)], "other"), Decision::unauthorized("Signature"));
    }
}

#[test]
fn base64_is_that_of_the_rfc() {
    // RFC 4648 section 10.
    for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
        assert_eq!(Encoding::Base64.encode(bytes.as_bytes()), text);
    }
}

#[test]
fn a_secret_is_needed() {
    for (settings, pointer) in [
        (r#"{ "format": "github", "secrets": [] }"#, "/secrets"),
        (r#"{ "format": "github", "secrets": ["a", " "] }"#, "/secrets/1"),
        (r#"{ "format": "github", "secrets": ["a"], "subject": "" }"#, "/subject"),
        (r#"{ "format": "gitlab", "secrets": ["a"] }"#, "/format"),
    ] {
        let problems = test::configure::<Signed>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
