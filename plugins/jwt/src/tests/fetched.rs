//! Keys that are fetched.

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

/// An identity provider whose keys can be changed; none: it is down.
struct Idp {
    gateway: Gateway,
    keys: Rc<RefCell<Option<Value>>>,
}

impl Idp {
    fn new(keys: &[Value]) -> Self {
        let gateway = Gateway::new();
        let published = Rc::new(RefCell::new(Some(json!({ "keys": keys }))));
        let keys = Rc::clone(&published);
        gateway.upstream("idp", move |request| {
            assert_eq!((request.method.as_str(), request.path.as_str()), ("GET", "/keys"));
            match &*published.borrow() {
                Some(document) => Ok(InboundResponse::new(200, document.to_string())),
                None => Err(fetch::Error::Unavailable),
            }
        });
        Self { gateway, keys }
    }

    fn publish(&self, keys: &[Value]) {
        *self.keys.borrow_mut() = Some(json!({ "keys": keys }));
    }

    fn go_down(&self) {
        *self.keys.borrow_mut() = None;
    }

    fn fetches(&self) -> usize {
        self.gateway.fetched().len()
    }
}

fn settings() -> Value {
    json!({ "jwks": { "upstream": "idp", "path": "/keys", "refresh": "10m", "min_interval": "10s", "stale_for": "1h" } })
}

fn token(issuer: &Issuer) -> String {
    issuer.token(json!({ "sub": "ada", "exp": NOW + 100_000 }))
}

fn is_accepted(plugin: &Jwt, issuer: &Issuer) -> bool {
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
    let mut settings = settings();
    settings["jwks"]["store"] = json!("keys");
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
