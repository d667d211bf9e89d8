//! Tests of fetched keys.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use witgate_sdk::fetch::{self, InboundResponse};
use witgate_sdk::test::Gateway;
use witgate_sdk::{Decision, store};

use super::issuer::{Issuer, NOW};
use super::{decide, plugin, refused, why};
use crate::Jwt;

/// The response of an identity provider.
type Answer = Result<InboundResponse, fetch::Error>;

/// An identity provider whose response can be changed.
pub(super) struct Idp {
    pub(super) gateway: Gateway,
    answer: Rc<RefCell<Answer>>,
}

impl Idp {
    pub(super) fn new(keys: &[Value]) -> Self {
        let gateway = Gateway::new();
        let answer = Rc::new(RefCell::new(Err(fetch::Error::Unavailable)));
        let told = Rc::clone(&answer);
        gateway.upstream("idp", move |request| {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/keys"));
            told.borrow().clone()
        });
        let idp = Self { gateway, answer };
        idp.publish(keys);
        idp
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.answer.borrow_mut() = answer;
    }

    pub(super) fn publish(&self, keys: &[Value]) {
        self.answer(Ok(InboundResponse::new(200, json!({ "keys": keys }).to_string())));
    }

    pub(super) fn go_down(&self) {
        self.answer(Err(fetch::Error::Unavailable));
    }

    pub(super) fn fetches(&self) -> usize {
        self.gateway.fetched().len()
    }
}

pub(super) fn settings() -> Value {
    json!({ "jwks": { "upstream": "idp", "path": "/keys", "refresh": "10m", "min_interval": "10s", "stale_for": "1h" } })
}

pub(super) fn token(issuer: &Issuer) -> String {
    issuer.token(json!({ "sub": "ada", "exp": NOW + 100_000 }))
}

pub(super) fn is_accepted(plugin: &Jwt, issuer: &Issuer) -> bool {
    matches!(decide(plugin, &token(issuer)), Decision::Accepted(_))
}

#[test]
fn keys_are_fetched_once_and_kept_until_they_are_old() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    let plugin = plugin(&settings());
    for _ in 0..5 {
        assert!(is_accepted(&plugin, &issuer));
    }
    assert_eq!(idp.fetches(), 1);
    idp.gateway.advance(Duration::from_secs(600));
    assert!(is_accepted(&plugin, &issuer));
    assert_eq!(idp.fetches(), 2);
}

#[test]
fn a_new_key_is_found_at_once_but_unknown_keys_cannot_make_a_storm() {
    let (old, new) = (Issuer::new("EdDSA", "old"), Issuer::new("EdDSA", "new"));
    let idp = Idp::new(&[old.jwk()]);
    let plugin = plugin(&settings());
    assert!(is_accepted(&plugin, &old));
    idp.gateway.advance(Duration::from_secs(11));
    idp.publish(&[new.jwk()]);
    assert!(is_accepted(&plugin, &new), "rotated");
    assert_eq!(why(decide(&plugin, &token(&old))), "no key fits the token");
    for _ in 0..20 {
        assert_eq!(why(decide(&plugin, &token(&Issuer::new("EdDSA", "unknown")))), "no key fits the token");
    }
    assert_eq!(idp.fetches(), 2);
}

#[test]
fn old_keys_serve_while_there_are_no_new_ones_but_not_for_ever() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    let plugin = plugin(&settings());
    assert!(is_accepted(&plugin, &issuer));
    idp.go_down();
    idp.gateway.advance(Duration::from_secs(4199));
    assert!(is_accepted(&plugin, &issuer));
    assert_eq!(idp.fetches(), 2);
    idp.gateway.advance(Duration::from_secs(1));
    let response = refused(decide(&plugin, &token(&issuer)));
    assert_eq!((response.status, response.header("retry-after")), (503, Some("5")));
    assert!(idp.gateway.logged().iter().any(|(_, line)| line.contains("no keys from upstream idp")));
}

/// Responses that are not a usable key set.
fn failures() -> Vec<Answer> {
    let text = |status: u16, body: &str| Ok(InboundResponse::new(status, body));
    vec![
        Err(fetch::Error::Timeout),
        Err(fetch::Error::Unavailable),
        Err(fetch::Error::TooLarge),
        Err(fetch::Error::Denied),
        text(200, r#"{"keys":[]}"#),
        text(200, r#"{"keys":[7,null,{}]}"#),
        text(200, r#"{"keys":[{"kty":"EC"}]}"#),
        text(200, r#"{"keys":[{"kty":"oct","k":"c2VjcmV0","use":"enc"},{"kty":"RSA","n":"AQAB"}]}"#),
        text(200, r#"{"keys":[{"kty":"EC","crv":"P-521","alg":"ES512","use":"sig"}]}"#),
        text(200, r#"{"keys":[{"kty":""}]}"#),
        text(200, r#"{"keys":{}}"#),
        text(200, "{}"),
        text(200, ""),
        text(200, "<html>maintenance</html>"),
        text(204, ""),
        text(302, ""),
        text(404, r#"{"keys":[]}"#),
        text(500, r#"{"keys":[]}"#),
    ]
}

#[test]
fn a_fetch_that_brings_no_keys_leaves_those_that_are_held_for_stale_for() {
    for failure in failures() {
        let issuer = Issuer::new("ES256", "a");
        let idp = Idp::new(&[issuer.jwk()]);
        let plugin = plugin(&settings());
        assert!(is_accepted(&plugin, &issuer));
        idp.answer(failure.clone());
        for _ in 0..3 {
            idp.gateway.advance(Duration::from_secs(1200));
            assert!(is_accepted(&plugin, &issuer), "{failure:?}");
            assert!(is_accepted(&plugin, &issuer), "{failure:?}");
        }
        assert_eq!(idp.fetches(), 4, "once in each interval: {failure:?}");
        assert_eq!(why(decide(&plugin, &token(&Issuer::new("ES256", "b")))), "no key fits the token");
        idp.gateway.advance(Duration::from_secs(600));
        assert_eq!(refused(decide(&plugin, &token(&issuer))).status, 503, "{failure:?}");
    }
}

#[test]
fn a_key_that_a_good_set_does_not_list_is_revoked_at_once() {
    let (kept, revoked) = (Issuer::new("ES256", "kept"), Issuer::new("ES256", "revoked"));
    let mut encryption = Issuer::new("ES256", "other").jwk();
    encryption["use"] = json!("enc");
    for left in [kept.jwk(), encryption] {
        let idp = Idp::new(&[kept.jwk(), revoked.jwk()]);
        let plugin = plugin(&settings());
        assert!(is_accepted(&plugin, &revoked));
        idp.publish(&[left]);
        idp.gateway.advance(Duration::from_secs(600));
        assert_eq!(why(decide(&plugin, &token(&revoked))), "no key fits the token");
    }
}

#[test]
fn a_new_instance_has_the_keys_of_the_store_while_the_upstream_fails() {
    for failure in failures() {
        let issuer = Issuer::new("ES256", "a");
        let idp = Idp::new(&[issuer.jwk()]);
        let settings = settings();
        assert!(is_accepted(&plugin(&settings), &issuer));
        idp.answer(failure.clone());
        idp.gateway.advance(Duration::from_secs(700));
        for _ in 0..12 {
            assert!(is_accepted(&plugin(&settings), &issuer), "{failure:?}");
        }
        assert_eq!(idp.fetches(), 2, "one of them has tried: {failure:?}");
    }
}

#[test]
fn instances_that_never_had_a_key_do_not_all_ask_an_upstream_that_has_none() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[]);
    let settings = settings();
    for _ in 0..12 {
        assert_eq!(refused(decide(&plugin(&settings), &token(&issuer))).status, 503);
    }
    assert_eq!(idp.fetches(), 1);
    idp.publish(&[issuer.jwk()]);
    idp.gateway.advance(Duration::from_secs(10));
    assert!(is_accepted(&plugin(&settings), &issuer));
}

#[test]
fn a_fetch_has_the_time_that_the_gateway_gives_unless_the_settings_say_less() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    assert!(is_accepted(&plugin(&settings()), &issuer));
    assert_eq!(idp.gateway.fetched()[0].timeout, None);
    idp.gateway.advance(Duration::from_secs(600));
    let mut settings = settings();
    settings["jwks"]["timeout"] = json!("300ms");
    assert!(is_accepted(&plugin(&settings), &issuer));
    assert_eq!(idp.gateway.fetched()[1].timeout, Some(300));
}

#[test]
fn a_gateway_that_never_had_a_key_says_so_and_recovers() {
    let issuer = Issuer::new("ES256", "a");
    let idp = Idp::new(&[issuer.jwk()]);
    idp.go_down();
    let plugin = plugin(&settings());
    assert_eq!(refused(decide(&plugin, &token(&issuer))).status, 503);
    idp.publish(&[issuer.jwk()]);
    assert_eq!(refused(decide(&plugin, &token(&issuer))).status, 503, "not before the interval is over");
    idp.gateway.advance(Duration::from_secs(10));
    assert!(is_accepted(&plugin, &issuer));
}

#[test]
fn instances_share_keys_through_the_store() {
    let (old, new) = (Issuer::new("ES256", "old"), Issuer::new("ES256", "new"));
    let idp = Idp::new(&[old.jwk()]);
    let settings = settings();
    let instances = [plugin(&settings), plugin(&settings), plugin(&settings)];
    assert!(instances.iter().all(|plugin| is_accepted(plugin, &old)));
    assert_eq!(idp.fetches(), 1);
    idp.gateway.advance(Duration::from_secs(11));
    idp.publish(&[old.jwk(), new.jwk()]);
    assert!(instances.iter().all(|plugin| is_accepted(plugin, &new)));
    assert_eq!(idp.fetches(), 2);
    idp.gateway.fail_store(Some(store::Error::Unavailable));
    assert!(is_accepted(&plugin(&settings), &new), "without the store, an instance fetches for itself");
}

#[test]
fn keys_that_are_not_for_us_are_left_out_and_doubtful_sets_refused() {
    let issuer = Issuer::new("RS256", "a");
    let (mut encryption, mut silent) = (Issuer::new("ES256", "a").jwk(), issuer.jwk());
    encryption["use"] = json!("enc");
    silent.as_object_mut().expect("an object").remove("alg");
    let symmetric = Issuer::hmac("HS256", "shared");
    let idp =
        Idp::new(&[encryption, silent, symmetric.jwk(), json!({ "kty": "EC", "crv": "P-521" }), json!(7)]);
    let plugin = plugin(&settings());
    assert!(
        is_accepted(&plugin, &issuer),
        "an RSA key that says no algorithm is for the one in the settings"
    );
    assert_eq!(why(decide(&plugin, &token(&symmetric))), "no key fits the token");

    idp.publish(&[Issuer::new("ES256", "b").jwk(), Issuer::new("ES256", "b").jwk()]);
    idp.gateway.advance(Duration::from_secs(600));
    assert!(is_accepted(&plugin, &issuer), "the keys before stay in use");
    assert!(idp.gateway.logged().iter().any(|(_, line)| line.contains("two keys have the same id")));
}

#[test]
fn keys_of_the_settings_cost_no_fetch() {
    let (own, fetched) = (Issuer::hmac("HS256", "own"), Issuer::new("ES256", "fetched"));
    let idp = Idp::new(&[fetched.jwk()]);
    let mut settings = settings();
    settings["keys"] = json!([own.settings()]);
    let plugin = plugin(&settings);
    assert!(is_accepted(&plugin, &own));
    assert_eq!(idp.fetches(), 0);
    assert!(is_accepted(&plugin, &fetched));
}
