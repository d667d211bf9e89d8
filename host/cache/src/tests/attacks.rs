//! Two requests with different rights never share a response, and no client decides what others get.

use http::Method;
use witgate_exchange::head::Scheme;
use witgate_exchange::testing::{self, run};

use super::*;

const FRESH: [(&str, &str); 1] = [("cache-control", "max-age=60")];

/// Callers who have nothing in common.
fn callers() -> Vec<(&'static str, TestRequest)> {
    vec![
        ("a stranger", get("/")),
        ("ann", get("/").by("ann", &[("plan", "gold")])),
        ("bob", get("/").by("bob", &[("plan", "gold")])),
        ("a certificate", get("/").with_certificate("00")),
        ("another certificate", get("/").with_certificate("01")),
        ("credentials", with(&[("authorization", "Basic x")])),
        ("a session", with(&[("cookie", "session=1")])),
    ]
}

#[test]
fn nobody_gets_the_response_of_another_caller() {
    let mut identity = settings();
    identity.share = Share::Identity;
    for (rule, settings) in [("explicit", settings()), ("identity", identity)] {
        for (first, asked) in callers() {
            for (second, other) in callers().iter().filter(|(name, _)| *name != first) {
                let (stored, used) = run(async {
                    let scene = Scene::new(&settings, always(&FRESH));
                    scene.ask(&asked).await;
                    let got = scene.ask(other).await;
                    (scene.asked() == 1, got.body != "answer 1")
                });
                assert!(!stored && !used, "{second} got the response of {first} with `{rule}`");
            }
        }
    }
}

/// A response that depends on everything that is known of the caller.
fn personal(facts: &Facts) -> Result<Response<Body>, Fault> {
    let head = &facts.head;
    let identity = head.identity.as_ref().map(|identity| &identity.subject);
    let certificate = head.client.certificate.as_ref().map(|certificate| &certificate.fingerprint);
    let credentials = head.headers.get("authorization").or(head.headers.get("cookie"));
    Ok(testing::response(&FRESH, format!("{identity:?} {certificate:?} {credentials:?}")))
}

#[test]
fn callers_at_once_get_each_their_own_response() {
    let mut identity = settings();
    identity.share = Share::Identity;
    for settings in [settings(), identity] {
        run(async {
            let scene = Scene::slow(&settings, Duration::from_millis(20), Box::new(personal));
            let all: Vec<TestRequest> =
                (0..5).flat_map(|_| callers().into_iter().map(|(_, asked)| asked)).collect();
            let got = futures_util::future::join_all(all.iter().map(|asked| scene.ask(asked))).await;
            for (asked, got) in all.iter().zip(got) {
                let own = testing::bytes(personal(&asked.facts()).unwrap().into_body()).await.unwrap();
                assert_eq!(got.body.as_bytes(), own);
            }
        });
    }
}

/// RFC 9111 section 3.5.
#[test]
fn responses_that_say_so_are_for_all() {
    for directive in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        for (first, asked) in callers() {
            for (second, other) in callers() {
                let reuses = run(async {
                    Scene::new(&settings(), always(&[("cache-control", directive)]))
                        .reuses(&asked, &other)
                        .await
                });
                assert!(reuses, "{directive}: {second} after {first}");
            }
        }
    }
}

#[test]
fn an_identity_is_its_binding_issuer_subject_and_claims() {
    let mut settings = settings();
    settings.share = Share::Identity;
    let ann = |claims: &[(&str, &str)]| get("/").by("ann", claims);
    let reuses = |first: TestRequest, second: TestRequest| {
        run(async { Scene::new(&settings, always(&FRESH)).reuses(&first, &second).await })
    };
    assert!(reuses(ann(&[("iss", "a"), ("scope", "x")]), ann(&[("scope", "x"), ("iss", "a")])));
    assert!(reuses(ann(&[("exp", "1"), ("jti", "a")]), ann(&[("exp", "2"), ("jti", "b")])), "another token");
    assert!(!reuses(ann(&[("iss", "a")]), ann(&[("iss", "b")])));
    assert!(!reuses(ann(&[("scope", "x")]), ann(&[("scope", "x y")])));
    assert!(!reuses(ann(&[("ab", "c")]), ann(&[("a", "bc")])), "parts do not run into each other");
    let mut other = ann(&[]);
    other.head.identity =
        Some(Arc::new(Identity { subject: "ann".into(), claims: Vec::new(), binding: "key".into() }));
    assert!(!reuses(ann(&[]), other));
    assert!(!reuses(ann(&[]), ann(&[]).with_certificate("00")));
}

#[test]
fn a_claim_is_shared_by_those_who_have_it() {
    let mut settings = settings();
    settings.share = Share::Claim("plan".into());
    let by = |subject: &str, claims: &[(&str, &str)]| {
        get("/").by(subject, claims).added("x-auth-subject", subject)
    };
    let reuses = |first: TestRequest, second: TestRequest| {
        run(async { Scene::new(&settings, always(&FRESH)).reuses(&first, &second).await })
    };
    assert!(reuses(by("ann", &[("plan", "gold")]), by("bob", &[("plan", "gold")])));
    assert!(!reuses(by("ann", &[("plan", "gold")]), by("bob", &[("plan", "free")])));
    assert!(!reuses(
        by("ann", &[("plan", "gold"), ("iss", "a")]),
        by("bob", &[("plan", "gold"), ("iss", "b")])
    ));
    assert!(!reuses(by("ann", &[]), by("ann", &[])), "a missing claim shares nothing");
    assert!(!reuses(by("ann", &[("plan", "gold")]), get("/")));
}

#[test]
fn what_the_gateway_adds_and_where_it_sends_tell_requests_apart() {
    let reuses = |first: TestRequest, second: TestRequest| {
        run(async {
            Scene::new(&settings(), always(&[("cache-control", "public, max-age=60")]))
                .reuses(&first, &second)
                .await
        })
    };
    assert!(reuses(get("/").added("x-tenant", "a"), get("/").added("x-tenant", "a")));
    assert!(!reuses(get("/").added("x-tenant", "a"), get("/").added("x-tenant", "b")));
    assert!(!reuses(get("/").added("x-tenant", "a"), get("/")));
    assert!(!reuses(get("/").added("x-auth-subject", "ann"), get("/").added("x-auth-subject", "bob")));
    assert!(reuses(get("/").added("x-request-id", "1"), get("/").added("x-request-id", "2")));
    let canary = TestRequest { upstream: "canary", ..get("/") };
    assert!(!reuses(canary, get("/")), "another upstream of a split");
    let mut elsewhere = get("/");
    elsewhere.head.upstream_target = Some("/other".parse().unwrap());
    assert!(!reuses(elsewhere, get("/")));
    let on = |authority: &str| {
        let mut asked = get("/");
        asked.head.authority = authority.into();
        asked
    };
    assert!(!reuses(on("a.example"), on("b.example")));
    assert!(!reuses(on("a.example"), on("a.example:80")), "the origin may write the port into a link");
    let mut other_route = get("/");
    other_route.head.route = Some("other".into());
    assert!(!reuses(other_route, get("/")));
    let mut secure = get("/");
    secure.head.scheme = Scheme::Https;
    assert!(!reuses(secure, get("/")));
}

#[test]
fn headers_that_alter_the_target_poison_nothing() {
    for header in [
        "x-forwarded-host",
        "x-forwarded-prefix",
        "x-forwarded-scheme",
        "x-original-url",
        "x-rewrite-url",
        "x-host",
        "x-http-method-override",
    ] {
        run(async {
            let script: Script = Box::new(move |facts| {
                Ok(testing::response(&FRESH, format!("{:?}", facts.head.headers.get(header))))
            });
            let scene = Scene::new(&settings(), script);
            scene.ask(&with(&[(header, "evil")])).await;
            let victim = scene.ask(&get("/")).await;
            assert_eq!((victim.is_hit(), victim.body.as_str()), (false, "None"), "{header}");
        });
    }
}

#[test]
fn a_get_with_content_neither_fills_nor_uses_the_cache() {
    run(async {
        let scene = Scene::new(&settings(), always(&FRESH));
        let fat = TestRequest { body: "evil", ..get("/") };
        assert_eq!(scene.ask(&fat).await.told(), "witgate; fwd=bypass");
        assert!(!scene.ask(&get("/")).await.is_hit());
        assert!(!scene.ask(&fat).await.is_hit());
    });
}

#[test]
fn the_query_is_part_of_the_key_as_it_is_sent() {
    let sent: Script = Box::new(|facts| {
        let target = facts.head.upstream_target.as_ref().unwrap_or(&facts.head.target);
        Ok(testing::response(&FRESH, target.to_string()))
    });
    run(async {
        let scene = Scene::new(&settings(), always(&FRESH));
        assert!(!scene.reuses(&get("/?a=1&b=2"), &get("/?b=2&a=1")).await);
        assert!(!scene.reuses(&get("/?a=1"), &get("/?a=2")).await);
        let mut chosen = settings();
        chosen.query = Some(vec!["a".into(), "b".into()]);
        let scene = Scene::new(&chosen, sent);
        assert_eq!(scene.ask(&get("/x?b=2&utm=evil&a=1&a=0")).await.body, "/x?a=1&a=0&b=2");
        for same in ["/x?a=1&a=0&b=2", "/x?utm=other&a=1&b=2&a=0"] {
            let got = scene.ask(&get(same)).await;
            assert!(got.is_hit() && got.body == "/x?a=1&a=0&b=2", "{same}");
        }
        assert!(!scene.ask(&get("/x?a=0&a=1&b=2")).await.is_hit(), "the order of equal names counts");
        assert_eq!(scene.ask(&get("/x?utm=1")).await.body, "/x");
    });
}

#[test]
fn further_headers_of_the_settings_are_part_of_the_key() {
    run(async {
        let mut settings = settings();
        settings.headers = vec!["x-device".into()];
        let scene = Scene::new(&settings, always(&FRESH));
        let device = |device: &str| with(&[("x-device", device)]);
        assert!(scene.reuses(&device("a"), &device("a")).await);
        assert!(!scene.ask(&device("b")).await.is_hit() && !scene.ask(&get("/")).await.is_hit());
    });
}

#[test]
fn messages_upgrades_and_responses_of_fallbacks_stay_out() {
    run(async {
        let scene = Scene::new(&settings(), always(&FRESH));
        let mut message = get("/").facts();
        message.received = None;
        for _ in 0..2 {
            scene.destination.serve(&mut message, Body::Empty).await.unwrap();
        }
        assert_eq!(scene.asked(), 2);
        let local = Scene::new(&settings(), always(&FRESH));
        let mut facts = get("/").facts();
        facts.local_response = true;
        local.destination.serve(&mut facts, Body::Empty).await.unwrap();
        assert!(!local.ask(&get("/")).await.is_hit(), "the fixed response of a fallback");
        let mut facts = get("/b").facts();
        facts.record.endpoint = Some(("archive".into(), "127.0.0.1:1".into()));
        local.destination.serve(&mut facts, Body::Empty).await.unwrap();
        assert!(!local.ask(&get("/b")).await.is_hit(), "the response of another upstream");
    });
}

#[test]
fn other_methods_pass() {
    run(async {
        let scene = Scene::new(&settings(), always(&FRESH));
        for method in [Method::OPTIONS, Method::TRACE, Method::POST] {
            scene.ask(&TestRequest::new(method.clone(), "/", &[])).await;
            assert!(!scene.ask(&TestRequest::new(method, "/", &[])).await.is_hit());
        }
    });
}
