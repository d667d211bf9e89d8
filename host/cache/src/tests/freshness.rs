//! What is stored, for how long it is used, and how it is validated.

use http::Method;
use witgate_config::model::SetCookie;
use witgate_exchange::testing::{self, run};

use super::*;

fn reused(headers: &[(&'static str, &str)]) -> bool {
    run(async { Scene::new(&settings(), always(headers)).reuses(&get("/"), &get("/")).await })
}

/// RFC 9111 sections 3, 4.2 and 5.2.2.
#[test]
fn what_is_fresh_is_used_and_nothing_else() {
    let (past, future, now, hour) = (date(-100), date(100), date(0), date(-3600));
    for fresh in [
        &[("cache-control", "max-age=60")][..],
        &[("cache-control", "max-age=0, s-maxage=60")],
        &[("cache-control", "max-age=60"), ("expires", "0")],
        &[("cache-control", "max-age=60, must-revalidate")],
        &[("expires", &future)],
        &[("expires", &future), ("date", &now)],
        &[("last-modified", &hour)],
        &[("last-modified", &hour), ("cache-control", "public")],
        &[("cache-control", "max-age=60"), ("age", "30")],
        &[("cache-control", "max-age=60"), ("age", "0,7200")],
        &[("cache-control", "max-age=60"), ("age", "abc")],
        &[("cache-control", "no-store, must-understand, max-age=60")],
        &[("cache-control", "no-cache=\"x-a\", max-age=60")],
        &[("cache-control", "private=\"x-a\", max-age=60")],
        &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=60")],
        &[("cdn-cache-control", "max-age=60"), ("expires", &past)],
    ] {
        assert!(reused(fresh), "{fresh:?}");
    }
    for stale in [
        &[][..],
        &[("cache-control", "max-age=0")],
        &[("cache-control", "max-age=60, s-maxage=0")],
        &[("cache-control", "max-age=60"), ("age", "120")],
        &[("cache-control", "max-age=60"), ("age", "120, 0")],
        &[("cache-control", "max-age=60"), ("date", &past)],
        &[("cache-control", "no-store")],
        &[("cache-control", "max-age=60, no-store")],
        &[("cache-control", "max-age=60, Private")],
        &[("cache-control", "max-age=60, no-cache")],
        &[("cache-control", "max-age=60"), ("cdn-cache-control", "no-store")],
        &[("cache-control", "max-age=60"), ("cdn-cache-control", "private, max-age=60")],
        &[("cache-control", "max-age=60"), ("cdn-cache-control", "max-age=0")],
        &[("expires", "0")],
        &[("expires", &past)],
        &[("expires", &future), ("expires", &future)],
        &[("expires", &future), ("cache-control", "max-age=x")],
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
        &[("cache-control", "max-age=60"), ("vary", "*")],
        &[("cache-control", "max-age=60"), ("content-type", "text/event-stream")],
    ] {
        assert!(!reused(stale), "{stale:?}");
    }
}

/// RFC 9110 section 15.1 and RFC 9111 section 3.
#[test]
fn any_status_with_a_lifetime_is_stored_and_some_without() {
    let reuses = |code, headers: &[(&'static str, &str)]| {
        run(async { Scene::new(&settings(), status(code, headers)).reuses(&get("/"), &get("/")).await })
    };
    let explicit = [("cache-control", "max-age=60")];
    for code in [200, 203, 204, 299, 301, 302, 307, 308, 400, 404, 410, 499, 500, 503, 599] {
        assert!(reuses(code, &explicit), "{code}");
    }
    assert!(!reuses(206, &explicit) && !reuses(304, &explicit));
    assert!(!reuses(599, &[("cache-control", "max-age=60, must-understand")]));
    let hour = date(-3600);
    let heuristic = [("last-modified", hour.as_str())];
    for code in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert!(reuses(code, &heuristic), "{code}");
    }
    for code in [201, 202, 302, 403, 502, 503, 504, 599] {
        assert!(!reuses(code, &heuristic), "{code}");
        assert!(reuses(code, &[heuristic[0], ("cache-control", "public")]), "{code}");
    }
}

#[test]
fn settings_give_lifetimes_and_turn_heuristics_off() {
    run(async {
        let mut settings = settings();
        settings.lifetimes.insert(404, Duration::from_secs(60));
        settings.heuristics = false;
        assert!(Scene::new(&settings, status(404, &[])).reuses(&get("/"), &get("/")).await);
        let own = status(404, &[("cache-control", "max-age=0")]);
        assert!(
            !Scene::new(&settings, own).reuses(&get("/"), &get("/")).await,
            "its own lifetime comes first"
        );
        let hour = date(-3600);
        let heuristic = always(&[("last-modified", &hour)]);
        assert!(!Scene::new(&settings, heuristic).reuses(&get("/"), &get("/")).await);
    });
}

#[test]
fn fields_that_are_not_for_everybody_are_not_stored() {
    run(async {
        let headers = [
            ("cache-control", "max-age=60, no-cache=\"x-a\", private=\"x-b, x-c\""),
            ("x-a", "1"),
            ("x-b", "2"),
            ("x-d", "3"),
            ("set-cookie", "a=b"),
            ("proxy-authenticate", "Basic"),
            ("keep-alive", "timeout=5"),
        ];
        let mut settings = settings();
        settings.set_cookie = SetCookie::Remove;
        let scene = Scene::new(&settings, always(&headers));
        let first = scene.ask(&get("/")).await;
        assert!(["x-a", "x-b", "set-cookie"].iter().all(|name| first.headers.contains_key(*name)));
        let second = scene.ask(&get("/")).await;
        assert!(second.is_hit() && second.headers.contains_key("x-d"), "{second:?}");
        for name in ["x-a", "x-b", "set-cookie", "proxy-authenticate", "keep-alive"] {
            assert!(!second.headers.contains_key(name), "{name}");
        }
        settings.set_cookie = SetCookie::Keep;
        let scene = Scene::new(&settings, always(&headers));
        scene.ask(&get("/")).await;
        assert_eq!(scene.ask(&get("/")).await.headers["set-cookie"], "a=b");
    });
}

#[test]
fn responses_tell_their_age_and_where_they_come_from() {
    run(async {
        let headers = [("cache-control", "max-age=60"), ("age", "7"), ("cache-status", "inner; hit")];
        let scene = Scene::new(&settings(), always(&headers));
        let first = scene.ask(&get("/a?b")).await;
        assert_eq!(first.told(), "witgate; fwd=uri-miss; stored");
        let second = scene.ask(&get("/a?b")).await;
        assert_eq!((second.body.as_str(), &second.headers["age"]), ("answer 0", &"7".parse().unwrap()));
        assert_eq!(second.told().replace("ttl=53", "ttl=52"), "witgate; hit; ttl=52");
        assert_eq!(second.headers.get_all("cache-status").iter().next().unwrap(), "inner; hit");
        assert!(second.headers.contains_key("date"), "RFC 9110 section 6.6.1");
    });
}

/// RFC 9111 section 5.2.1.
#[test]
fn directives_of_requests_are_obeyed() {
    run(async {
        let headers = [("cache-control", "max-age=60"), ("age", "10")];
        for (directive, hit) in [
            ("max-age=20", true),
            ("max-age=5", false),
            ("max-age=0", false),
            ("min-fresh=40", true),
            ("min-fresh=55", false),
            ("no-cache", false),
            ("no-store", false),
            ("only-if-cached", true),
        ] {
            let scene = Scene::new(&settings(), always(&headers));
            scene.ask(&get("/")).await;
            let second = scene.ask(&with(&[("cache-control", directive)])).await;
            assert_eq!(second.is_hit(), hit, "{directive}: {}", second.told());
        }
        let scene = Scene::new(&settings(), always(&headers));
        assert!(!scene.reuses(&get("/"), &with(&[("pragma", "no-cache")])).await);
        let only =
            scene.ask(&TestRequest::new(Method::GET, "/other", &[("cache-control", "only-if-cached")])).await;
        assert_eq!((only.status, scene.asked()), (504, 2), "the origin is not asked");
        let mut deaf = settings();
        deaf.request_directives = false;
        let scene = Scene::new(&deaf, always(&headers));
        assert!(scene.reuses(&get("/"), &with(&[("cache-control", "no-cache, no-store, max-age=0")])).await);
        let stale = always(&[("cache-control", "max-age=60"), ("age", "70")]);
        let accepted = with(&[("cache-control", "max-stale=20")]);
        assert!(Scene::new(&settings(), stale).reuses(&get("/"), &accepted).await);
        let strict = always(&[("cache-control", "max-age=60, must-revalidate"), ("age", "70")]);
        assert!(!Scene::new(&settings(), strict).reuses(&get("/"), &accepted).await, "must-revalidate wins");
    });
}

/// RFC 9111 section 4.3: an origin that responds with 304 to the right validator.
fn validating(validator: (&'static str, &'static str), header: &'static str, more: &'static str) -> Script {
    Box::new(move |facts| {
        let asked = facts.head.headers.get(header).cloned();
        NOTED.with_borrow_mut(|noted| noted.push(format!("{asked:?}")));
        if asked.is_some_and(|asked| asked == validator.1) {
            let mut response =
                testing::response(&[("cache-control", more), ("x-new", "1"), ("etag", "\"z\"")], "");
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            return Ok(response);
        }
        Ok(testing::response(&[("cache-control", "max-age=0"), validator, ("x-old", "1")], "the body"))
    })
}

#[test]
fn stale_responses_are_validated_and_updated() {
    for (validator, header) in [
        (("etag", "\"a\""), "if-none-match"),
        (("etag", "W/\"a\""), "if-none-match"),
        (("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"), "if-modified-since"),
    ] {
        run(async {
            let scene = Scene::new(&settings(), validating(validator, header, "max-age=60"));
            scene.ask(&get("/")).await;
            let second = scene.ask(&get("/")).await;
            assert_eq!(
                second.told().replace("ttl=59", "ttl=60"),
                "witgate; fwd=stale; ttl=60; fwd-status=304; stored"
            );
            assert_eq!((second.status, second.body.as_str()), (200, "the body"));
            assert!(["x-old", "x-new"].iter().all(|name| second.headers.contains_key(*name)));
            assert_eq!(second.headers[validator.0], validator.1);
            let third = scene.ask(&get("/")).await;
            assert!(third.is_hit() && third.headers.contains_key("x-new") && scene.asked() == 2, "{third:?}");
        });
    }
}

#[test]
fn what_a_validation_forbids_is_not_stored_any_longer() {
    run(async {
        let scene = Scene::new(&settings(), validating(("etag", "\"a\""), "if-none-match", "no-store"));
        scene.ask(&get("/")).await;
        assert_eq!(scene.ask(&get("/")).await.body, "the body");
        assert_eq!(scene.ask(&get("/")).await.told(), "witgate; fwd=uri-miss; stored");
    });
}

/// RFC 9110 section 13.
#[test]
fn conditions_of_clients_are_answered_from_what_is_stored() {
    run(async {
        let headers = [
            ("cache-control", "max-age=60"),
            ("etag", "W/\"a\""),
            ("last-modified", "Wed, 01 Jan 2020 00:00:00 GMT"),
        ];
        let scene = Scene::new(&settings(), always(&headers));
        scene.ask(&get("/")).await;
        for (condition, status) in [
            (("if-none-match", "\"a\""), 304),
            (("if-none-match", "\"b\", W/\"a\""), 304),
            (("if-none-match", "*"), 304),
            (("if-none-match", "\"b\""), 200),
            (("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT"), 304),
            (("if-modified-since", "Tue, 31 Dec 2019 23:59:59 GMT"), 200),
            (("if-modified-since", "yesterday"), 200),
        ] {
            let got = scene.ask(&with(&[condition])).await;
            assert_eq!((got.status, got.is_hit()), (status, true), "{condition:?}");
            assert_eq!(got.headers["etag"], "W/\"a\"");
            assert_eq!(got.body.is_empty(), status == 304);
        }
        let both =
            with(&[("if-none-match", "\"b\""), ("if-modified-since", "Wed, 01 Jan 2020 00:00:00 GMT")]);
        assert_eq!(scene.ask(&both).await.status, 200, "If-None-Match comes first");
        let got = scene.ask(&with(&[("if-match", "\"a\"")])).await;
        assert_eq!(got.told(), "witgate; fwd=request", "that is for the origin to decide");
    });
}

#[test]
fn the_condition_of_a_first_client_does_not_keep_the_response_from_being_stored() {
    run(async {
        let headers = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        let scene = Scene::new(&settings(), always(&headers));
        let first = scene.ask(&with(&[("if-none-match", "\"a\"")])).await;
        assert_eq!((first.status, first.body.as_str()), (304, ""));
        assert_eq!(scene.ask(&get("/")).await.body, "answer 0");
    });
}

#[test]
fn heads_are_answered_from_gets_and_stored_for_none() {
    run(async {
        let scene = Scene::new(&settings(), always(&[("cache-control", "max-age=60")]));
        let head = TestRequest::new(Method::HEAD, "/", &[]);
        assert!(!scene.ask(&head).await.is_hit());
        assert!(!scene.ask(&head).await.is_hit(), "a response to HEAD is not stored");
        scene.ask(&get("/")).await;
        let got = scene.ask(&head).await;
        assert_eq!(
            (got.is_hit(), got.body.as_str(), &got.headers["content-length"]),
            (true, "", &"8".parse().unwrap())
        );
    });
}

#[test]
fn responses_are_selected_by_what_vary_names() {
    run(async {
        let script: Script = Box::new(|facts| {
            let language =
                facts.head.headers.get("accept-language").map(|value| value.to_str().unwrap().to_owned());
            let headers = [("cache-control", "max-age=60"), ("vary", "Accept-Language")];
            Ok(testing::response(&headers, language.unwrap_or_default()))
        });
        let scene = Scene::new(&settings(), script);
        let in_language = |language: &str| with(&[("accept-language", language)]);
        scene.ask(&in_language("de")).await;
        let english = scene.ask(&in_language("en")).await;
        assert_eq!((english.told(), english.body.as_str()), ("witgate; fwd=vary-miss; stored", "en"));
        assert_eq!(scene.ask(&in_language("DE")).await.body, "de");
        assert_eq!((scene.ask(&get("/")).await.body, scene.asked()), (String::new(), 3));
        for number in 0..200 {
            let language = format!("x-{number}");
            scene.ask(&with(&[("accept-language", &language)])).await;
        }
        assert!(
            scene.ask(&in_language("x-199")).await.is_hit() && !scene.ask(&in_language("de")).await.is_hit()
        );
        assert_eq!(scene.cache.usage().resources, 1);
    });
}

#[test]
fn the_condition_of_a_head_says_nothing_about_what_is_stored() {
    run(async {
        let script: Script = Box::new(|facts| {
            if facts.head.method == Method::HEAD {
                let mut response =
                    testing::response(&[("cache-control", "max-age=60"), ("etag", "\"b\"")], "");
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                return Ok(response);
            }
            Ok(testing::response(&[("cache-control", "max-age=0"), ("etag", "\"a\"")], "old"))
        });
        let scene = Scene::new(&settings(), script);
        scene.ask(&get("/")).await;
        assert_eq!(
            scene.ask(&TestRequest::new(Method::HEAD, "/", &[("if-none-match", "\"b\"")])).await.status,
            304
        );
        assert!(!scene.ask(&get("/")).await.is_hit(), "the stored response is as stale as before");
    });
}

#[test]
fn a_response_that_has_become_private_is_not_used_any_longer() {
    run(async {
        let first = always(&[("cache-control", "max-age=0, stale-if-error=600"), ("etag", "\"a\"")]);
        let private = always(&[("cache-control", "private")]);
        let scene = Scene::new(&settings(), in_order(vec![first, private, fails(FaultKind::UpstreamReset)]));
        scene.ask(&get("/")).await;
        scene.ask(&get("/")).await;
        assert!(scene.send(&get("/")).await.is_err());
    });
}
