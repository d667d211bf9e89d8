//! One test for each promise of the README.

use std::cell::RefCell;
use std::rc::Rc;

use super::*;
use witgate_sdk::fetch::{Error, InboundResponse};
use witgate_sdk::{clock, test};

const PLAIN: &str = r#"{ "upstream": "idp", "client_id": "gate way", "client_secret": "a:b" }"#;

fn plugin(settings: &str) -> Introspection {
    test::configure(settings).expect("the settings are good")
}

/// Answers with what the cell holds.
fn endpoint(gateway: &test::Gateway) -> Rc<RefCell<Result<InboundResponse, Error>>> {
    let answer = Rc::new(RefCell::new(Err(Error::Unavailable)));
    let held = Rc::clone(&answer);
    gateway.upstream("idp", move |_| held.borrow().clone());
    answer
}

fn json(text: impl Into<String>) -> Result<InboundResponse, Error> {
    Ok(InboundResponse::new(200, text.into()).with_header("content-type", "application/json;charset=UTF-8"))
}

fn decide(plugin: &Introspection, credentials: &str) -> Decision {
    plugin.authenticate(&test::request().header("authorization", credentials).build())
}

fn status(decision: &Decision) -> u16 {
    match decision {
        Decision::Accepted(_) => 200,
        Decision::Refused(response) => response.status,
        Decision::NotMine(_) => 0,
    }
}

#[test]
fn the_question_is_that_of_the_rfc() {
    let gateway = test::Gateway::new();
    *endpoint(&gateway).borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    assert_eq!(status(&decide(&plugin(PLAIN), "bEARER tok~1+/==")), 200);
    let asked = &gateway.fetched()[0];
    assert_eq!((&*asked.method, &*asked.path), ("POST", "/introspect"));
    assert_eq!(asked.body, b"token=tok%7E1%2B%2F%3D%3D&token_type_hint=access_token");
    let header = |name: &str| {
        let header = asked.headers.iter().find(|header| header.name == name);
        header.map(|header| String::from_utf8_lossy(&header.value).into_owned()).unwrap_or_default()
    };
    assert_eq!(header("content-type"), FORM);
    // RFC 6749 section 2.3.1: both parts are form-encoded first.
    assert_eq!(header("authorization"), format!("Basic {}", encoding::base64("gate+way:a%3Ab")));

    let post = PLAIN.replace("\"client_id\"", "\"client_auth\": \"post\", \"client_id\"");
    assert_eq!(status(&decide(&plugin(&post), "Bearer other")), 200);
    let asked = &gateway.fetched()[1];
    assert!(asked.body.ends_with(b"&client_id=gate+way&client_secret=a%3Ab"));
    assert!(asked.headers.iter().all(|header| header.name != "authorization"));
}

#[test]
fn an_answer_is_used_until_it_is_too_old_or_the_token_expires() {
    let gateway = test::Gateway::new();
    let answer = endpoint(&gateway);
    let plugin = plugin(PLAIN);
    let now = clock::unix_seconds();
    *answer.borrow_mut() = json(format!(r#"{{"active":true,"sub":"ada","exp":{}}}"#, now + 20));
    let Decision::Accepted(accepted) = decide(&plugin, "Bearer a") else { panic!("it is active") };
    assert_eq!((&*accepted.identity.subject, accepted.cacheable_for), ("ada", 20_000));
    gateway.advance(Duration::from_secs(15));
    let Decision::Accepted(accepted) = decide(&plugin, "Bearer a") else { panic!("it is active") };
    assert_eq!(accepted.cacheable_for, 5_000, "the gateway remembers it no longer than this plugin");
    assert_eq!(gateway.fetched().len(), 1);
    gateway.advance(Duration::from_secs(5));
    assert_eq!(status(&decide(&plugin, "Bearer a")), 401, "expired, whatever the endpoint says");
    assert_eq!(gateway.fetched().len(), 2);

    *answer.borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    assert_eq!(status(&decide(&plugin, "Bearer b")), 200);
    *answer.borrow_mut() = json(r#"{"active":false}"#);
    gateway.advance(Duration::from_secs(29));
    assert_eq!(status(&decide(&plugin, "Bearer b")), 200);
    gateway.advance(Duration::from_secs(1));
    assert_eq!(status(&decide(&plugin, "Bearer b")), 401, "revoked");

    let asked = gateway.fetched().len();
    gateway.advance(Duration::from_secs(9));
    assert_eq!(status(&decide(&plugin, "Bearer b")), 401);
    assert_eq!(gateway.fetched().len(), asked, "a negative answer is used, too");
    *answer.borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    gateway.advance(Duration::from_secs(1));
    assert_eq!(status(&decide(&plugin, "Bearer b")), 200);
}

#[test]
fn without_a_store_or_with_no_time_each_request_asks() {
    let gateway = test::Gateway::new();
    *endpoint(&gateway).borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    let never = plugin(&PLAIN.replace('}', r#", "cache_for": "0s" }"#));
    for asked in 1..3 {
        let Decision::Accepted(accepted) = decide(&never, "Bearer a") else { panic!("it is active") };
        assert_eq!((accepted.cacheable_for, gateway.fetched().len()), (0, asked));
    }
    gateway.fail_store(Some(witgate_sdk::store::Error::Unavailable));
    assert_eq!(status(&decide(&plugin(PLAIN), "Bearer a")), 200);
}

#[test]
fn whoever_cannot_be_asked_about_is_not_called_unauthorized() {
    let gateway = test::Gateway::new();
    let answer = endpoint(&gateway);
    let plugin = plugin(PLAIN);
    let of_type = |content_type: &str| {
        Ok(InboundResponse::new(200, r#"{"active":true,"sub":"a"}"#)
            .with_header("content-type", content_type))
    };
    for bad in [
        Err(Error::Unavailable),
        Err(Error::Timeout),
        Err(Error::Denied),
        Err(Error::TooLarge),
        Ok(InboundResponse::new(401, "")),
        Ok(InboundResponse::new(500, "")),
        Ok(InboundResponse::new(200, r#"{"active":true,"sub":"a"}"#)),
        of_type("text/html"),
        of_type("application/jsonp"),
        json(""),
        json("[]"),
        json("{}"),
        json(r#"{"active":"true","sub":"a"}"#),
        json(r#"{"active":1,"sub":"a"}"#),
        json(r#"{"active":true,"sub":"a","exp":"tomorrow"}"#),
        json(r#"{"active":true,"sub":"a","exp":-1}"#),
        json(format!(r#"{{"active":true,"sub":"a","x":"{}"}}"#, "x".repeat(64 * 1024))),
    ] {
        *answer.borrow_mut() = bad.clone();
        let decision = decide(&plugin, "Bearer a");
        let Decision::Refused(response) = decision else { panic!("{bad:?}") };
        assert_eq!((response.status, response.header("retry-after")), (503, Some("5")), "{bad:?}");
    }
    let told: String = gateway.logged().into_iter().map(|(_, line)| line).collect();
    assert!(told.contains("credentials right?") && !told.contains("a:b"), "{told}");
    *answer.borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    assert_eq!(status(&decide(&plugin, "Bearer a")), 200, "none of these was kept");
}

#[test]
fn audience_scopes_issuer_and_holder_are_checked() {
    let gateway = test::Gateway::new();
    let answer = endpoint(&gateway);
    let plugin = plugin(
        r#"{ "upstream": "idp", "audience": ["api", "web"], "scopes": ["read", "write"], "issuer": "me",
             "claims": ["role", "groups", "none"], "negative_cache_for": "0s", "cache_for": "0s" }"#,
    );
    let good = r#"{"active":true,"iss":"me","aud":["x","web"],"scope":"write read more","username":"ada","role":"boss","groups":[1,"b"]}"#;
    *answer.borrow_mut() = json(good);
    let Decision::Accepted(accepted) = decide(&plugin, "Bearer a") else { panic!("it is good") };
    let expected = Identity::new("ada").with_claim("role", "boss").with_claim("groups", r#"[1,"b"]"#);
    assert_eq!(accepted.identity, expected);
    for (part, other, code) in [
        ("\"web\"", "\"webb\"", 401),
        (r#"["x","web"]"#, "\"webb\"", 401),
        (r#","aud":["x","web"]"#, "", 401),
        (r#""iss":"me""#, r#""iss":"you""#, 401),
        (r#""iss":"me","#, "", 401),
        ("write read more", "write reader", 403),
        ("\"write read more\"", "null", 403),
        (r#""username":"ada""#, r#""username":"""#, 401),
        (r#""username":"ada""#, r#""username":"ada","nbf":99999999999"#, 401),
        (r#""username":"ada""#, r#""username":"ada","nbf":"x""#, 401),
        (r#""active":true"#, r#""active":false"#, 401),
    ] {
        *answer.borrow_mut() = json(good.replacen(part, other, 1));
        let decision = decide(&plugin, "Bearer a");
        assert_eq!(status(&decision), code, "{part} -> {other}");
        let Decision::Refused(response) = decision else { panic!("refused") };
        assert!(response.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer error=")));
    }
}

#[test]
fn what_is_no_bearer_token_is_never_asked_about() {
    let gateway = test::Gateway::new();
    *endpoint(&gateway).borrow_mut() = json(r#"{"active":true,"sub":"ada"}"#);
    let plugin = plugin(PLAIN);
    assert_eq!(decide(&plugin, "Basic YTpi"), Decision::not_mine("Bearer"));
    assert_eq!(plugin.authenticate(&test::request().build()), Decision::not_mine("Bearer"));
    for bad in [
        "Bearer ",
        "Bearer =",
        "Bearer a b",
        "Bearer a=b",
        "Bearer é",
        &format!("Bearer {}", "a".repeat(8193)),
    ] {
        assert_eq!(status(&decide(&plugin, bad)), 401, "{bad}");
    }
    let two = test::request().header("authorization", "Bearer a").header("authorization", "Bearer b").build();
    assert_eq!(status(&plugin.authenticate(&two)), 400);
    assert!(gateway.fetched().is_empty());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    for (settings, pointer) in [
        (r#"{ "upstream": "idp", "path": "introspect" }"#, "/path"),
        (r#"{ "upstream": "idp", "client_id": "a" }"#, "/client_id"),
        (r#"{ "upstream": "idp", "client_secret": "a" }"#, "/client_secret"),
        (r#"{ "upstream": "idp", "client_id": "a", "client_secret": "" }"#, "/client_secret"),
        (r#"{ "upstream": "idp", "client_id": "a", "client_secret": "b", "bearer": "c" }"#, "/bearer"),
        (r#"{ "upstream": "idp", "cache_for": "soon" }"#, "/cache_for"),
    ] {
        let problems = test::configure::<Introspection>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
