//! Permits for requests in flight, the queue before them, and the adaptive limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use witgate_config::model::Concurrency;
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, rebuilt, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{EventStatus, LoadStatus, status};

/// An origin that responds when it is allowed to, and counts concurrent requests.
fn patient(go: &Arc<AtomicBool>, most: &Arc<AtomicUsize>) -> Origin {
    let (go, most, now) = (go.clone(), most.clone(), Arc::new(AtomicUsize::new(0)));
    Origin::start(async move |mut visitor: Visitor| {
        while visitor.request().await.is_some() {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            // Meanwhile other requests arrive, if they are admitted.
            tokio::time::sleep(Duration::from_millis(1)).await;
            eventually("it may answer", || go.load(Ordering::SeqCst)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            visitor.send(HELLO).await;
        }
    })
}

fn load(snapshot: &Snapshot) -> LoadStatus {
    status(&snapshot.upstreams).remove(0).load.unwrap()
}

/// A GET with a deadline.
async fn get_within(snapshot: &Arc<Snapshot>, timeout: Duration) -> Result<(), Fault> {
    let mut exchange = exchange(snapshot, Method::GET, &[]);
    exchange.facts.timeout = Some(timeout);
    let response = forward(&mut exchange, Body::Empty).await?;
    testing::bytes(response.into_body()).await.unwrap();
    Ok(())
}

#[test]
fn requests_in_flight_stay_under_the_cap_on_two_cores_and_all_are_served() {
    let (go, most) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let origin = patient(&go, &most);
    let mut settings = settings(&[origin.address]);
    settings.max_requests = 3;
    let snapshot = snapshot(settings);
    let cores: Vec<_> = (0..2)
        .map(|_| {
            let snapshot = snapshot.clone();
            std::thread::spawn(move || {
                run(async {
                    let client = async || {
                        for _ in 0..30 {
                            assert_eq!(get(&snapshot).await.unwrap(), "hello");
                        }
                    };
                    join_all((0..5).map(|_| client())).await;
                });
            })
        })
        .collect();
    cores.into_iter().for_each(|core| core.join().unwrap());
    assert_eq!(origin.requests().len(), 300);
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!((load(&snapshot).requests, load(&snapshot).waiting), (0, 0));
}

#[test]
fn the_queue_is_bounded_and_what_is_dropped_is_told_once() {
    run(async {
        let (go, most) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let origin = patient(&go, &most);
        let mut settings = settings(&[origin.address]);
        settings.max_requests = 1;
        settings.max_pending = 1;
        let snapshot = snapshot(settings);
        let others = async {
            eventually("one is under way, one waits", || {
                origin.requests().len() == 1 && load(&snapshot).waiting == 1
            })
            .await;
            for _ in 0..3 {
                let fault = get(&snapshot).await.unwrap_err();
                assert_eq!(fault.kind, FaultKind::UpstreamOverloaded);
                assert!(fault.unsent);
            }
            go.store(true, Ordering::SeqCst);
        };
        let (first, second, ()) = tokio::join!(get(&snapshot), get(&snapshot), others);
        assert_eq!((first.unwrap(), second.unwrap()), ("hello".into(), "hello".into()));
        let status = status(&snapshot.upstreams).remove(0);
        assert_eq!((status.shed, status.shedding), (3, true));
        let told = |event: &EventStatus| format!("{}: {}", event.event, event.why);
        let events: Vec<String> = status.events.iter().map(told).collect();
        assert_eq!(events, ["shedding-began: too many requests wait for their turn"]);
    });
}

#[test]
fn what_is_too_late_is_dropped_and_what_has_time_is_answered() {
    run(async {
        let (go, most) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let origin = patient(&go, &most);
        let mut settings = settings(&[origin.address]);
        settings.max_requests = 1;
        let snapshot = snapshot(settings);
        // Responses are known to take two seconds.
        snapshot.upstreams["origin"].observe_latency(Duration::from_secs(2));
        let others = async {
            eventually("the place is taken", || origin.requests().len() == 1).await;
            let fault = get_within(&snapshot, Duration::from_secs(1)).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::UpstreamOverloaded, "at once, as long as its deadline is away");
            let fault = get_within(&snapshot, Duration::from_millis(2100)).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::UpstreamOverloaded, "it waited for as long as it made sense");
            let in_time = get_within(&snapshot, Duration::from_secs(60));
            let answering = async {
                eventually("it waits", || load(&snapshot).waiting == 1).await;
                go.store(true, Ordering::SeqCst);
            };
            tokio::join!(in_time, answering).0.unwrap();
        };
        tokio::join!(get(&snapshot), others).0.unwrap();
        assert_eq!(origin.requests().len(), 2, "what was dropped was never sent");
    });
}

#[test]
fn a_client_that_goes_away_leaves_the_queue_and_frees_its_place() {
    run(async {
        let (go, most) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let origin = patient(&go, &most);
        let mut settings = settings(&[origin.address]);
        settings.max_requests = 1;
        let snapshot = snapshot(settings);
        {
            let gone = async { tokio::join!(get(&snapshot), get(&snapshot)) };
            tokio::select! {
                _ = gone => panic!("the origin does not answer"),
                () = eventually("one waits", || origin.requests().len() == 1 && load(&snapshot).waiting == 1) => {}
            }
        }
        assert_eq!((load(&snapshot).requests, load(&snapshot).waiting), (0, 0));
        go.store(true, Ordering::SeqCst);
        assert_eq!(get(&snapshot).await.unwrap(), "hello");
    });
}

#[test]
fn a_place_is_held_until_the_body_has_ended_also_over_a_reload() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
            visitor.closed().await;
        });
        let mut settings = settings(&[origin.address]);
        settings.max_requests = 1;
        settings.max_pending = 0;
        let before = snapshot(settings.clone());
        let streaming = send(&before, Method::GET, Body::Empty).await.unwrap();
        settings.keep_alive = Duration::from_secs(7);
        let after = rebuilt(settings, Some(&before));
        assert_eq!(load(&after).requests, 1);
        assert_eq!(get(&after).await.unwrap_err().kind, FaultKind::UpstreamOverloaded);
        drop(streaming);
        assert_eq!(load(&after).requests, 0);
    });
}

/// Keeps this number of requests in flight until a condition holds.
async fn under_load(snapshot: &Arc<Snapshot>, clients: usize, what: &str, condition: impl Fn() -> bool) {
    let done = AtomicBool::new(false);
    let client = async || {
        while !done.load(Ordering::SeqCst) {
            let _ = get(snapshot).await;
        }
    };
    let watching = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(tokio::time::Instant::now() < deadline, "never: {what}, {:?}", load(snapshot));
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all((0..clients).map(|_| client())), watching);
}

#[test]
fn the_limit_comes_down_when_the_origin_gets_slow_and_recovers_with_it() {
    run(async {
        let slow = Arc::new(AtomicBool::new(false));
        let slowed = slow.clone();
        let origin = Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                let takes = if slowed.load(Ordering::SeqCst) { 300 } else { 4 };
                tokio::time::sleep(Duration::from_millis(takes)).await;
                visitor.send(HELLO).await;
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.concurrency = Some(Concurrency {
            min: 2,
            max: 40,
            initial: 20,
            tolerance: 2.0,
            window: Duration::from_millis(20),
        });
        let snapshot = snapshot(settings);
        let limit = || load(&snapshot).concurrency.unwrap();
        under_load(&snapshot, 40, "it grows while all is well", || limit() >= 30).await;
        slow.store(true, Ordering::SeqCst);
        under_load(&snapshot, 40, "it comes down", || limit() <= 10).await;
        slow.store(false, Ordering::SeqCst);
        under_load(&snapshot, 40, "it recovers", || limit() >= 30).await;
        let lowered = status(&snapshot.upstreams).remove(0).events;
        assert!(lowered.iter().any(|event| event.event == "concurrency-lowered"), "{lowered:?}");
    });
}
