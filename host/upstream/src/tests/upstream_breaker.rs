//! The circuit breaker of an upstream as a whole, and the rules over a window.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use witgate_config::model::Breaker;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Dialect, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, rebuilt, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::run;
use crate::{BreakerState, status};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// An upstream breaker that stays open for a minute and has no rule yet.
fn resting(settings: &witgate_config::model::Upstream) -> Breaker {
    let minute = Duration::from_secs(60);
    Breaker {
        statuses: [503].into_iter().collect(),
        consecutive_failures: 0,
        window: minute,
        open_for: minute,
        max_open_for: minute,
        ..settings.breaker
    }
}

fn state(snapshot: &Snapshot) -> BreakerState {
    status(&snapshot.upstreams)[0].breaker.unwrap()
}

fn events(snapshot: &Snapshot) -> Vec<String> {
    let events = status(&snapshot.upstreams).remove(0).events.into_iter();
    events
        .map(|event| format!("{} {}: {}", event.endpoint.unwrap_or("-".into()), event.event, event.why))
        .collect()
}

#[test]
fn a_share_of_failures_opens_it_once_there_are_enough_calls_and_a_reload_leaves_it_open() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            let mut number = 0;
            while visitor.request().await.is_some() {
                visitor.send(if number % 2 == 0 { UNAVAILABLE } else { HELLO }).await;
                number += 1;
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.upstream_breaker =
            Some(Breaker { failure_ratio: 0.5, min_requests: 6, ..resting(&settings) });
        let snapshot = snapshot(settings.clone());
        for _ in 0..6 {
            assert_eq!(state(&snapshot), BreakerState::Closed);
            get(&snapshot).await.unwrap();
        }
        assert_eq!(state(&snapshot), BreakerState::Open);
        settings.keep_alive = Duration::from_secs(7);
        let after = rebuilt(settings, Some(&snapshot));
        let fault = get(&after).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BreakerOpen);
        let response = fault.into_response(Dialect::Problem, "id", &Method::GET);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()["proxy-status"], "witgate; error=destination_unavailable");
        let seconds: u64 = response.headers()[RETRY_AFTER].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
        assert_eq!(origin.requests().len(), 6, "an open breaker lets nothing through");
        assert_eq!(events(&after), ["- breaker-opened: 3 of 6 calls failed"]);
    });
}

#[test]
fn slow_calls_open_it_though_every_one_is_answered() {
    run(async {
        let slow = Duration::from_millis(100);
        let origin = Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                tokio::time::sleep(slow).await;
                visitor.send(HELLO).await;
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.upstream_breaker =
            Some(Breaker { slow_ratio: 0.9, slow_call: slow, min_requests: 4, ..resting(&settings) });
        settings.breaker =
            Breaker { slow_ratio: 0.9, slow_call: slow, min_requests: 5, ..resting(&settings) };
        let snapshot = snapshot(settings);
        for _ in 0..4 {
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
        }
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
        assert_eq!(events(&snapshot), ["- breaker-opened: 4 of 4 calls were slow"]);
        assert_eq!(
            status(&snapshot.upstreams)[0].endpoints[0].breaker,
            BreakerState::Closed,
            "it has seen four"
        );
    });
}

#[test]
fn an_upstream_that_hangs_is_found_out_by_deadlines() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let mut settings = settings(&[origin.address]);
        settings.upstream_breaker = Some(Breaker { consecutive_failures: 3, ..resting(&settings) });
        let snapshot = snapshot(settings);
        for _ in 0..3 {
            let mut exchange = exchange(&snapshot, Method::GET, &[]);
            exchange.facts.timeout = Some(Duration::from_millis(30));
            let fault = forward(&mut exchange, Body::Empty).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::RequestTimeout);
        }
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
        assert_eq!(
            events(&snapshot),
            ["- breaker-opened: 3 failures in a row, the last with request-timeout"]
        );
    });
}

#[test]
fn half_open_it_asks_the_origin_no_more_than_it_may() {
    run(async {
        let (healthy, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (well, go) = (healthy.clone(), answer.clone());
        let origin = Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                if well.load(Ordering::SeqCst) {
                    eventually("it may answer", || go.load(Ordering::SeqCst)).await;
                    visitor.send(HELLO).await;
                } else {
                    visitor.send(UNAVAILABLE).await;
                }
            }
        });
        let mut settings = settings(&[origin.address]);
        let rest = Duration::from_millis(50);
        settings.upstream_breaker = Some(Breaker {
            consecutive_failures: 1,
            open_for: rest,
            max_open_for: rest,
            probes: 2,
            probe_successes: 2,
            ..resting(&settings)
        });
        let snapshot = snapshot(settings);
        get(&snapshot).await.unwrap();
        healthy.store(true, Ordering::SeqCst);
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        let refused = AtomicUsize::new(0);
        let client = async || match get(&snapshot).await {
            Ok(body) => assert_eq!(body, "hello"),
            Err(fault) => {
                assert_eq!(fault.kind, FaultKind::BreakerOpen);
                refused.fetch_add(1, Ordering::SeqCst);
            }
        };
        let probing = async {
            eventually("two are under way", || origin.requests().len() == 3).await;
            eventually("the rest is refused", || refused.load(Ordering::SeqCst) == 8).await;
            assert_eq!((origin.requests().len(), state(&snapshot)), (3, BreakerState::HalfOpen));
            answer.store(true, Ordering::SeqCst);
        };
        tokio::join!(join_all((0..10).map(|_| client())), probing);
        assert_eq!(state(&snapshot), BreakerState::Closed);
        let events: Vec<String> = status(&snapshot.upstreams)
            .remove(0)
            .events
            .into_iter()
            .map(|event| event.event.to_string())
            .collect();
        assert_eq!(events, ["breaker-opened", "breaker-half-opened", "breaker-closed"]);
    });
}

#[test]
fn an_answer_that_breaks_off_is_a_failure_of_the_upstream_and_a_client_that_goes_is_none() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
            if visitor.number < 3 {
                visitor.closed().await;
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.upstream_breaker = Some(Breaker { consecutive_failures: 2, ..resting(&settings) });
        let snapshot = snapshot(settings);
        for _ in 0..3 {
            drop(super::send(&snapshot, Method::GET, Body::Empty).await.unwrap());
        }
        assert_eq!(state(&snapshot), BreakerState::Closed);
        for _ in 0..2 {
            assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamReset);
        }
        assert_eq!(state(&snapshot), BreakerState::Open);
    });
}

#[test]
fn two_cores_decide_as_one() {
    let origin = Origin::answering(UNAVAILABLE);
    let mut settings = settings(&[origin.address]);
    settings.upstream_breaker = Some(Breaker { failure_ratio: 1.0, min_requests: 40, ..resting(&settings) });
    let snapshot = snapshot(settings);
    let cores: Vec<_> = (0..2)
        .map(|_| {
            let snapshot = snapshot.clone();
            std::thread::spawn(move || {
                run(async move {
                    for _ in 0..19 {
                        get(&snapshot).await.unwrap();
                    }
                });
            })
        })
        .collect();
    cores.into_iter().for_each(|core| core.join().unwrap());
    run(async {
        for expected in [BreakerState::Closed, BreakerState::Open] {
            get(&snapshot).await.unwrap();
            assert_eq!(state(&snapshot), expected);
        }
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
    });
    assert_eq!(origin.requests().len(), 40);
}
