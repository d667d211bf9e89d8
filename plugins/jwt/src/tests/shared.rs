//! Tests of fetched keys in the store: what outlasts an instance, and what happens if the store cannot be used.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use witgate_sdk::fetch::{self, InboundResponse};
use witgate_sdk::log::Level;
use witgate_sdk::{Decision, store};

use super::fetched::{Idp, is_accepted, settings, token};
use super::issuer::Issuer;
use super::{decide, plugin, refused, why};

/// A call on an instance of its own whose client disconnects during the fetch, which ends the instance.
fn leave_while_fetching(idp: &Idp, issuer: &Issuer) {
    idp.gateway.upstream("idp", |_| resume_unwind(Box::new("the client has left")));
    let _ = catch_unwind(AssertUnwindSafe(|| decide(&plugin(&settings()), &token(issuer))));
}

/// Makes the identity provider respond again.
fn answer_again(idp: &Idp, keys: Vec<Value>) {
    let text = json!({ "keys": keys }).to_string();
    idp.gateway.upstream("idp", move |_| Ok(InboundResponse::new(200, &*text)));
}

#[test]
fn a_client_that_leaves_during_a_fetch_does_not_end_the_interval() {
    let (known, unknown) = (Issuer::new("ES256", "known"), Issuer::new("ES256", "unknown"));
    let idp = Idp::new(&[known.jwk()]);
    assert!(is_accepted(&plugin(&settings()), &known));
    for interval in 2..5 {
        idp.gateway.advance(Duration::from_secs(10));
        for _ in 0..20 {
            leave_while_fetching(&idp, &unknown);
            assert!(is_accepted(&plugin(&settings()), &known), "the keys are held");
        }
        assert_eq!(idp.fetches(), interval);
    }
}

#[test]
fn clients_that_leave_before_there_are_keys_neither_make_a_storm_nor_a_long_outage() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    for _ in 0..160 {
        leave_while_fetching(&idp, &issuer);
    }
    assert_eq!(idp.fetches(), 33, "one, and 32 beside it");
    for _ in 0..3 {
        idp.gateway.advance(Duration::from_secs(1));
        for _ in 0..20 {
            leave_while_fetching(&idp, &issuer);
        }
    }
    assert_eq!(idp.fetches(), 36, "one each second");
    answer_again(&idp, vec![issuer.jwk()]);
    assert_eq!(refused(decide(&plugin(&settings()), &token(&issuer))).status, 503);
    idp.gateway.advance(Duration::from_secs(1));
    assert!(is_accepted(&plugin(&settings()), &issuer));
}

#[test]
fn while_one_instance_fetches_the_others_serve_what_is_held() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    let held = plugin(&settings());
    assert!(is_accepted(&held, &issuer));
    idp.gateway.advance(Duration::from_secs(600));
    let beside = Rc::new(issuer);
    let issuer = Rc::clone(&beside);
    idp.gateway.upstream("idp", move |_| {
        assert!(is_accepted(&held, &beside), "an instance that holds keys");
        assert!(is_accepted(&plugin(&settings()), &beside), "a new one");
        Err(fetch::Error::Timeout)
    });
    assert!(is_accepted(&plugin(&settings()), &issuer));
    assert_eq!(idp.fetches(), 2);
}

#[test]
fn calls_at_a_start_need_not_wait_for_the_first_fetch() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    let document = json!({ "keys": [issuer.jwk()] }).to_string();
    let (inner, token) = (token(&issuer), token(&issuer));
    let gateway = &idp.gateway;
    gateway.upstream("idp", move |_| {
        // The mock serves one fetch at a time; the test only checks that the second one was sent.
        let _ = decide(&plugin(&settings()), &inner);
        Ok(InboundResponse::new(200, &*document))
    });
    assert!(matches!(decide(&plugin(&settings()), &token), Decision::Accepted(_)));
    assert_eq!(idp.fetches(), 2);
}

#[test]
fn after_a_start_without_keys_all_instances_recover_after_one_interval() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    idp.go_down();
    let instances = [plugin(&settings()), plugin(&settings()), plugin(&settings())];
    for _ in 0..10 {
        for instance in &instances {
            assert_eq!(refused(decide(instance, &token(&issuer))).status, 503);
        }
        idp.gateway.advance(Duration::from_secs(1));
    }
    assert_eq!(idp.fetches(), 1);
    idp.publish(&[issuer.jwk()]);
    assert!(instances.iter().all(|instance| is_accepted(instance, &issuer)));
    assert_eq!(idp.fetches(), 2);
}

#[test]
fn keys_from_one_place_are_never_taken_for_keys_from_another() {
    let (one, other) = (Issuer::new("ES256", "one"), Issuer::new("ES256", "other"));
    let idp = Idp::new(&[one.jwk()]);
    let text = json!({ "keys": [other.jwk()] }).to_string();
    idp.gateway.upstream("second", move |_| Ok(InboundResponse::new(200, &*text)));
    let mut second = settings();
    second["jwks"]["upstream"] = json!("second");
    assert!(is_accepted(&plugin(&settings()), &one));
    assert!(is_accepted(&plugin(&second), &other));
    assert_eq!(why(decide(&plugin(&second), &token(&one))), "no key fits the token");
    assert_eq!(why(decide(&plugin(&settings()), &token(&other))), "no key fits the token");
}

#[test]
fn without_the_store_an_instance_fetches_for_itself_and_says_once_what_to_do() {
    for error in [store::Error::Denied, store::Error::Unavailable, store::Error::Full] {
        let issuer = Issuer::new("ES256", "a");
        let idp = Idp::new(&[issuer.jwk()]);
        idp.gateway.fail_store(Some(error));
        let plugin = plugin(&settings());
        assert!(is_accepted(&plugin, &issuer));
        idp.go_down();
        idp.gateway.advance(Duration::from_secs(600));
        for _ in 0..30 {
            assert!(is_accepted(&plugin, &issuer), "held keys serve");
            idp.gateway.advance(Duration::from_secs(1));
        }
        assert_eq!(idp.fetches(), 4, "once in each interval");
        let lines = idp.gateway.logged();
        let told: Vec<_> = lines.iter().filter(|(_, line)| line.contains("keys are not shared")).collect();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, Level::Warn);
        assert!(told[0].1.contains("503"), "what it costs");
        assert_eq!(error == store::Error::Denied, told[0].1.contains("Add \"jwks\" to `store`"));
    }
}

/// Large, deep or long texts within the size limit of `fetch`.
fn garbage() -> Vec<(&'static str, String)> {
    let junk =
        |count: usize| json!({ "keys": vec![json!({ "kty": "X", "a": [1, 1, 1] }); count] }).to_string();
    vec![
        ("many keys", junk(25_000)),
        ("one key too many", junk(65)),
        ("numbers", format!("{{\"keys\":[{}1]}}", "1,".repeat(200_000))),
        ("lists in lists", format!("{{\"keys\":[{}{}]}}", "[".repeat(100), "]".repeat(100))),
        ("too deep", format!("{{\"keys\":{}", "[".repeat(400_000))),
        ("longer than 512 KiB", json!({ "p": "x".repeat(600_000), "keys": [{ "kty": "EC" }] }).to_string()),
        ("two lists", r#"{"keys":[{"kty":"EC"}],"keys":[{"kty":"EC"}]}"#.to_owned()),
        ("more behind it", r#"{"keys":[{"kty":"EC"}]} {}"#.to_owned()),
    ]
}

#[test]
fn a_garbage_set_is_a_failed_fetch() {
    for (name, text) in garbage() {
        let issuer = Issuer::new("ES256", "a");
        let idp = Idp::new(&[issuer.jwk()]);
        let plugin = plugin(&settings());
        assert!(is_accepted(&plugin, &issuer));
        idp.answer(Ok(InboundResponse::new(200, &*text)));
        idp.gateway.advance(Duration::from_secs(600));
        assert!(is_accepted(&plugin, &issuer), "{name}");
        assert!(
            idp.gateway.logged().iter().any(|(_, line)| line.contains("no keys from upstream")),
            "{name}"
        );
    }
}

#[test]
fn a_set_of_many_keys_with_certificates_is_read_and_shared() {
    let issuer = Issuer::new("ES256", "last");
    let mut keys: Vec<Value> = (0..63)
        .map(|index| {
            let mut key = issuer.jwk();
            key["kid"] = json!(format!("key {index}"));
            key["x5c"] = json!(["M".repeat(1500), "M".repeat(1500), "M".repeat(1500)]);
            key["key_ops"] = json!(["verify"]);
            key
        })
        .collect();
    keys.push(issuer.jwk());
    let idp = Idp::new(&keys);
    assert!(is_accepted(&plugin(&settings()), &issuer));
    assert!(is_accepted(&plugin(&settings()), &issuer));
    assert_eq!(idp.fetches(), 1);
}

#[test]
fn a_member_of_a_wrong_kind_leaves_only_its_key_out() {
    let issuer = Issuer::new("ES256", "good");
    for (member, value) in [
        ("kid", json!(7)),
        ("kid", json!({})),
        ("kid", json!(["a"])),
        ("key_ops", json!([1])),
        ("use", json!(1.5)),
        ("alg", json!(false)),
    ] {
        let wrong = Issuer::new("ES256", "wrong");
        let mut key = wrong.jwk();
        key[member] = value;
        let _idp = Idp::new(&[key, json!(7), json!([[]]), issuer.jwk()]);
        let plugin = plugin(&settings());
        assert!(is_accepted(&plugin, &issuer), "{member}");
        assert_eq!(why(decide(&plugin, &token(&wrong))), "no key fits the token", "{member}");
    }
}
