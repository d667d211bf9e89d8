//! Stale responses: while they are revalidated, and while the upstream fails.

use witgate_exchange::fault::FaultKind;
use witgate_exchange::testing::{self, run};

use super::*;

/// Responses that were fresh for a second, ten seconds ago.
fn old(more: &str) -> Script {
    always(&[("cache-control", &format!("max-age=1{more}")), ("age", "11"), ("etag", "\"a\"")])
}

fn lasting(window: u64) -> RouteCache {
    let window = Duration::from_secs(window);
    RouteCache { stale_if_error: window, ..settings() }
}

/// The failures of an upstream for which a stale response may be used.
fn failures() -> Vec<(&'static str, Script)> {
    let fault = |kind: FaultKind| (kind.describe().code, fails(kind));
    let mut failures: Vec<_> = [
        FaultKind::UpstreamUnreachable,
        FaultKind::UpstreamReset,
        FaultKind::ConnectTimeout,
        FaultKind::FirstByteTimeout,
        FaultKind::RequestTimeout,
        FaultKind::BreakerOpen,
        FaultKind::NoEndpoint,
        FaultKind::UpstreamOverloaded,
    ]
    .map(fault)
    .into();
    failures.extend([500, 502, 503, 504].map(|code| ("status", status(code, &[]))));
    failures
        .push(("fallback", Box::new(|_: &Facts| Ok(testing::response(&[], "a fixed response"))) as Script));
    failures
}

#[test]
fn a_stale_response_is_used_if_the_upstream_fails() {
    for (name, failure) in failures().into_iter().filter(|(name, _)| *name != "fallback") {
        run(async {
            let scene = Scene::new(&lasting(60), in_order(vec![old(""), failure]));
            scene.ask(&get("/")).await;
            let got = scene.ask(&get("/")).await;
            assert_eq!((got.status, got.body.as_str()), (200, "answer 0"), "{name}");
            let told = match name {
                "status" => "witgate; hit; ttl=-10".to_owned(),
                code => format!("witgate; hit; ttl=-10; detail={code}"),
            };
            assert_eq!(got.told(), told);
            let age: u64 = got.headers["age"].to_str().unwrap().parse().unwrap();
            assert!(age >= 11);
        });
    }
}

#[test]
fn a_stale_response_comes_before_the_fixed_one_of_a_fallback() {
    run(async {
        let scene = Scene::new(&lasting(60), in_order(vec![old(""), old("")]));
        scene.ask(&get("/")).await;
        let mut facts = get("/").facts();
        facts.local_response = true;
        let response = scene.destination.serve(&mut facts, Body::Empty).await.unwrap();
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "answer 0");
        assert!(!facts.local_response, "it is that of the upstream");
    });
}

#[test]
fn the_window_and_the_response_decide() {
    let served = |settings: RouteCache, more: &str| {
        run(async {
            let failure = fails(FaultKind::BreakerOpen);
            let scene = Scene::new(&settings, in_order(vec![old(more), failure]));
            scene.ask(&get("/")).await;
            scene.send(&get("/")).await.is_ok()
        })
    };
    assert!(served(settings(), ", stale-if-error=60") && !served(settings(), ""));
    assert!(
        !served(lasting(5), "") && !served(lasting(60), ", stale-if-error=5"),
        "its own window comes first"
    );
    for forbidden in [", must-revalidate", ", proxy-revalidate", ", s-maxage=1", ", no-cache"] {
        assert!(!served(lasting(60), &format!("{forbidden}, stale-if-error=60")), "{forbidden}");
    }
}

#[test]
fn faults_that_are_not_the_upstreams_stay_what_they_are() {
    for kind in [FaultKind::BodyTooLarge, FaultKind::Internal, FaultKind::Draining] {
        run(async {
            let scene = Scene::new(&lasting(60), in_order(vec![old(""), fails(kind)]));
            scene.ask(&get("/")).await;
            assert_eq!(scene.send(&get("/")).await.expect_err("a fault").kind, kind);
        });
    }
}

#[test]
fn all_who_wait_get_the_stale_response() {
    run(async {
        let scene =
            Scene::slow(&lasting(60), Duration::from_millis(20), in_order(vec![old(""), status(503, &[])]));
        scene.ask(&get("/")).await;
        let asked = get("/");
        let got = futures_util::future::join_all((0..50).map(|_| scene.ask(&asked))).await;
        assert!(got.iter().all(|got| got.body == "answer 0"), "{got:?}");
        assert_eq!(scene.asked(), 2);
    });
}

/// Waits until the origin was asked this often.
async fn until_asked(scene: &Scene, times: usize) {
    let waiting = async {
        while scene.asked() < times {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the origin is asked");
}

#[test]
fn a_stale_response_is_used_while_it_is_revalidated_without_credentials() {
    let noting: Script = Box::new(|facts| {
        NOTED.with_borrow_mut(|noted| noted.push(format!("{:?}", facts.head.headers.get("authorization"))));
        Ok(testing::response(&[("cache-control", "public, max-age=60")], "new"))
    });
    run(async {
        let first = old(", public, stale-while-revalidate=60");
        let scene = Scene::new(&settings(), in_order(vec![first, noting]));
        scene.ask(&get("/")).await;
        let asked = with(&[("authorization", "Basic x")]);
        let got = futures_util::future::join_all((0..20).map(|_| scene.ask(&asked))).await;
        assert!(
            got.iter().all(|got| got.body == "answer 0" && got.told() == "witgate; hit; ttl=-10"),
            "{got:?}"
        );
        until_asked(&scene, 2).await;
        assert_eq!(NOTED.take(), ["None"], "once, and without the caller's credentials");
        let next = scene.ask(&get("/")).await;
        assert_eq!((next.is_hit(), next.body.as_str(), scene.asked()), (true, "new", 2));
    });
}

#[test]
fn a_failed_revalidation_leaves_the_stale_response_and_is_tried_again() {
    run(async {
        let first = old(", stale-while-revalidate=60");
        let scene = Scene::new(&settings(), in_order(vec![first, fails(FaultKind::UpstreamReset)]));
        scene.ask(&get("/")).await;
        for times in 2..4 {
            assert_eq!(scene.ask(&get("/")).await.body, "answer 0");
            until_asked(&scene, times).await;
        }
    });
}

#[test]
fn responses_of_callers_are_not_revalidated_without_them() {
    run(async {
        let mut settings = settings();
        settings.share = Share::Identity;
        let scene = Scene::new(&settings, old(", stale-while-revalidate=60"));
        let ann = get("/").by("ann", &[]);
        scene.ask(&ann).await;
        assert_eq!(scene.ask(&ann).await.body, "answer 1");
        assert_eq!(scene.asked(), 2);
    });
}

#[test]
fn must_revalidate_wins_over_the_settings() {
    run(async {
        let settings = RouteCache { stale_while_revalidate: Duration::from_secs(60), ..settings() };
        assert!(Scene::new(&settings, old("")).reuses(&get("/"), &get("/")).await);
        for forbidden in [", must-revalidate", ", s-maxage=1", ", no-cache"] {
            assert!(!Scene::new(&settings, old(forbidden)).reuses(&get("/"), &get("/")).await, "{forbidden}");
        }
    });
}
