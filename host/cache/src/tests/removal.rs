//! Invalidation by unsafe requests, purges, and the bound of the memory.

use http::Method;
use witgate_exchange::testing::{self, run};

use super::*;
use crate::Selector;

const FRESH: [(&str, &str); 1] = [("cache-control", "max-age=60")];

/// RFC 9111 section 4.4.
#[test]
fn unsafe_requests_that_succeed_invalidate_their_url() {
    for (method, code, invalid) in [
        (Method::POST, 200, true),
        (Method::PUT, 204, true),
        (Method::DELETE, 303, true),
        (Method::PATCH, 201, true),
        (Method::POST, 404, false),
        (Method::POST, 500, false),
        (Method::OPTIONS, 200, false),
    ] {
        run(async {
            let script: Script = Box::new(move |facts| {
                let mut response = testing::response(&FRESH, "");
                if facts.head.method != Method::GET {
                    *response.status_mut() = StatusCode::from_u16(code).unwrap();
                    response.headers_mut().insert("location", "/made".parse().unwrap());
                    response.headers_mut().insert("content-location", "http://b.example/a".parse().unwrap());
                }
                Ok(response)
            });
            let scene = Scene::new(&settings(), script);
            for target in ["/a", "/a?b", "/made"] {
                scene.ask(&get(target)).await;
            }
            scene.ask(&TestRequest::new(method.clone(), "/a", &[])).await;
            assert_eq!(scene.ask(&get("/a")).await.is_hit(), !invalid, "{method} {code}");
            assert_eq!(scene.ask(&get("/made")).await.is_hit(), !invalid, "{method} {code}");
            assert!(scene.ask(&get("/a?b")).await.is_hit(), "another URL");
        });
    }
}

#[test]
fn a_response_that_was_asked_for_before_an_unsafe_request_is_not_used_after_it() {
    run(async {
        let scene = Scene::slow(&settings(), Duration::from_millis(30), always(&FRESH));
        let (asked, post) = (get("/"), TestRequest::new(Method::POST, "/", &[]));
        let early = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            scene.ask(&post).await
        };
        let slow = async {
            let first = scene.ask(&asked).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            first
        };
        tokio::join!(slow, early);
        assert!(!scene.ask(&asked).await.is_hit());
        assert!(scene.ask(&asked).await.is_hit());
    });
}

fn tagged() -> Scene {
    Scene::new(
        &settings(),
        Box::new(|facts| {
            let path = facts.head.path().to_owned();
            let headers = [
                ("cache-control", "max-age=60, stale-if-error=60"),
                ("etag", "\"a\""),
                ("surrogate-key", if path.starts_with("/a") { "a all" } else { "b all" }),
                ("vary", "accept-language"),
            ];
            Ok(testing::response(&headers, path))
        }),
    )
}

#[test]
fn purges_remove_what_they_mean_and_nothing_else() {
    let purged = |selector: Selector| {
        run(async {
            let scene = tagged();
            for target in ["/a", "/a/b", "/b"] {
                scene.ask(&get(target)).await;
            }
            scene.ask(&TestRequest::new(Method::GET, "/a", &[("accept-language", "de")])).await;
            let count = scene.cache.purge(selector, false);
            let mut left = Vec::new();
            for target in ["/a", "/a/b", "/b"] {
                if scene.ask(&get(target)).await.is_hit() {
                    left.push(target);
                }
            }
            (count, left)
        })
    };
    assert_eq!(
        purged(Selector::url("http://a.example/a").unwrap()),
        (2, vec!["/a/b", "/b"]),
        "every variant"
    );
    assert_eq!(purged(Selector::url("HTTP://A.EXAMPLE:80/b").unwrap()), (1, vec!["/a", "/a/b"]));
    assert_eq!(purged(Selector::url("https://a.example/b").unwrap()).0, 0);
    assert_eq!(purged(Selector::prefix("http://a.example/a").unwrap()), (3, vec!["/b"]));
    assert_eq!(purged(Selector::tag("b").unwrap()), (1, vec!["/a", "/a/b"]));
    assert_eq!(purged(Selector::tag("all").unwrap()), (4, vec![]));
    assert_eq!(purged(Selector::tag("al").unwrap()).0, 0);
    assert_eq!(purged(Selector::all()), (4, vec![]));
    assert!(Selector::url("/a").is_err() && Selector::tag(" ").is_err());
}

#[test]
fn a_soft_purge_makes_stale_and_a_hard_one_leaves_nothing() {
    for soft in [true, false] {
        run(async {
            let fresh = always(&[("cache-control", "max-age=60, stale-if-error=60"), ("etag", "\"a\"")]);
            let scene = Scene::new(&settings(), in_order(vec![fresh, fails(FaultKind::BreakerOpen)]));
            scene.ask(&get("/")).await;
            assert_eq!(scene.cache.purge(Selector::all(), soft), 1);
            let got = scene.send(&get("/")).await;
            assert_eq!(got.is_ok_and(|got| got.told().starts_with("witgate; hit; ttl=-0")), soft);
        });
    }
}

#[test]
fn a_response_on_its_way_is_not_stored_after_a_purge() {
    run(async {
        let scene = Scene::slow(&settings(), Duration::from_millis(20), always(&FRESH));
        let asked = get("/");
        let purge = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            scene.cache.purge(Selector::url("http://a.example/").unwrap(), false)
        };
        tokio::join!(scene.ask(&asked), purge);
        assert!(!scene.ask(&asked).await.is_hit());
        assert!(scene.ask(&asked).await.is_hit());
    });
}

#[test]
fn nobody_joins_a_response_that_was_purged_on_its_way() {
    run(async {
        let scene = Scene::slow(&settings(), Duration::from_millis(20), always(&FRESH));
        let asked = get("/");
        let later = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            scene.cache.purge(Selector::all(), false);
            scene.ask(&asked).await.body
        };
        let (first, second) = tokio::join!(scene.ask(&asked), later);
        assert_eq!((first.body.as_str(), second.as_str()), ("answer 0", "answer 1"));
    });
}

#[test]
fn the_list_says_what_is_stored() {
    run(async {
        let scene = tagged();
        scene.ask(&get("/a?x")).await;
        let [stored] = &scene.cache.list(&Selector::all(), 10)[..] else { panic!("one response") };
        assert_eq!((stored.url.as_str(), stored.status), ("http://a.example/a?x", 200));
        assert_eq!(
            (stored.tags.as_slice(), stored.age_seconds),
            (&["a".to_owned(), "all".to_owned()][..], 0)
        );
        assert!(stored.bytes > 512 && stored.fresh_seconds >= 59);
    });
}

/// The memory is bounded whatever is asked for, also by many cores, and what is in use stays.
#[test]
fn memory_is_bounded_and_a_scan_does_not_evict_what_is_in_use() {
    let script: Script = Box::new(|_| Ok(testing::response(&FRESH, vec![b'x'; 10 << 10])));
    let scene = Scene::new(&settings(), script);
    let usage = || scene.cache.usage();
    run(async {
        for number in 0..20 {
            for _ in 0..3 {
                scene.ask(&get(&format!("/popular/{number}"))).await;
            }
        }
    });
    std::thread::scope(|scope| {
        for core in 0..4 {
            let scene = &scene;
            scope.spawn(move || {
                run(async {
                    for number in 0..500 {
                        scene.ask(&get(&format!("/scan/{core}/{number}"))).await;
                        if number % 10 == 0 {
                            scene.ask(&get(&format!("/popular/{}", number / 10 % 20))).await;
                        }
                        let usage = scene.cache.usage();
                        assert!(usage.bytes <= usage.memory, "{usage:?}");
                    }
                });
            });
        }
    });
    assert!(usage().bytes > usage().memory / 3, "{:?}", usage());
    run(async {
        let mut kept = 0;
        for number in 0..20 {
            kept += usize::from(scene.ask(&get(&format!("/popular/{number}"))).await.is_hit());
        }
        assert!(kept >= 15, "{kept} of 20");
    });
}
