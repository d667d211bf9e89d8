//! Outlier ejection with real failures, under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use witgate_config::model::{Breaker, Check, Ejection, Health, OnUnhealthy, Upstream};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::health::RunningHealth;
use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, rebuilt, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::run;
use crate::{Availability, BreakerState, status};

const WELL: u8 = 0;
const RESETTING: u8 = 1;
const SILENT: u8 = 2;
const GARBAGE: u8 = 3;
const HALF: u8 = 4;

/// An origin that behaves as `mood` says.
fn actor(mood: &Arc<AtomicU8>) -> Origin {
    let mood = mood.clone();
    Origin::start(async move |mut visitor: Visitor| {
        while visitor.request().await.is_some() {
            match mood.load(Ordering::SeqCst) {
                WELL => visitor.send(HELLO).await,
                RESETTING => return,
                SILENT => return visitor.closed().await,
                GARBAGE => return visitor.send("nonsense\r\n\r\n").await,
                _ => return visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await,
            }
        }
    })
}

/// An upstream with the actor and two origins that always succeed. Settings are the defaults, except for short
/// times.
fn three(actor: &Origin, others: &[Origin; 2]) -> Upstream {
    let addresses = [actor.address, others[0].address, others[1].address];
    let ejection = Ejection {
        consecutive_faults: 5,
        base_time: Duration::from_millis(200),
        ..settings(&addresses).ejection
    };
    Upstream { first_byte_timeout: Duration::from_millis(100), ejection, ..settings(&addresses) }
}

fn is_ejected(snapshot: &Snapshot) -> bool {
    status(&snapshot.upstreams)[0].endpoints[0].ejected_for.is_some()
}

#[test]
fn whatever_is_wrong_with_one_of_three_five_requests_show_it_and_it_is_back_when_it_is_well() {
    run(async {
        let mood = Arc::new(AtomicU8::new(WELL));
        let (actor, others) = (actor(&mood), [Origin::answering(HELLO), Origin::answering(HELLO)]);
        for ill in [RESETTING, SILENT, GARBAGE, HALF] {
            let snapshot = snapshot(three(&actor, &others));
            let _kept = RunningHealth::new(&snapshot);
            mood.store(ill, Ordering::SeqCst);
            let mut failed = 0;
            let begun = Instant::now();
            while !is_ejected(&snapshot) {
                failed += usize::from(get(&snapshot).await.is_err());
                assert!(begun.elapsed() < Duration::from_secs(5), "{ill} does not eject");
            }
            assert_eq!(failed, 5, "{ill}");
            mood.store(WELL, Ordering::SeqCst);
            let first = || snapshot.upstreams["origin"].seen_availability(0);
            let back = || !is_ejected(&snapshot) && first() == Availability::Available;
            eventually("it is back", back).await;
            let before = actor.requests().len();
            for _ in 0..6 {
                get(&snapshot).await.unwrap();
            }
            assert_eq!(actor.requests().len() - before, 2, "it takes its share again");
            let events: Vec<_> =
                status(&snapshot.upstreams)[0].events.iter().map(|event| event.event.clone()).collect();
            assert_eq!(events, ["ejected", "returned"]);
        }
    });
}

#[test]
fn an_endpoint_that_lets_the_time_of_requests_run_out_is_at_fault() {
    run(async {
        let mood = Arc::new(AtomicU8::new(SILENT));
        let (actor, others) = (actor(&mood), [Origin::answering(HELLO), Origin::answering(HELLO)]);
        let upstream = Upstream { first_byte_timeout: Duration::from_secs(60), ..three(&actor, &others) };
        let snapshot = snapshot(upstream);
        let impatient = async || -> Result<(), Fault> {
            let mut exchange = exchange(&snapshot, Method::GET, &[]);
            exchange.facts.timeout = Some(Duration::from_millis(50));
            forward(&mut exchange, Body::Empty).await.map(drop)
        };
        let mut faults = Vec::new();
        while !is_ejected(&snapshot) {
            faults.extend(impatient().await.err().map(|fault| fault.kind));
            assert!(faults.len() < 9, "it is not ejected");
        }
        assert_eq!(faults, [FaultKind::RequestTimeout; 5]);
    });
}

#[test]
fn a_reload_in_the_middle_changes_nothing() {
    run(async {
        let mood = Arc::new(AtomicU8::new(RESETTING));
        let (actor, others) = (actor(&mood), [Origin::answering(HELLO), Origin::answering(HELLO)]);
        let mut upstream = three(&actor, &others);
        upstream.ejection.base_time = Duration::from_secs(60);
        upstream.ejection.max_time = Duration::from_secs(60);
        let mut now = snapshot(upstream.clone());
        let mut failed = 0;
        for round in 0..60 {
            failed += usize::from(get(&now).await.is_err());
            upstream.keep_alive = Duration::from_secs(10 + round);
            now = rebuilt(upstream.clone(), Some(&now));
        }
        assert_eq!((failed, is_ejected(&now)), (5, true));
    });
}

/// With the default settings five failures eject an endpoint and open its breaker. That is one absence, which ends
/// once.
#[test]
fn checks_that_end_an_ejection_end_the_rest_of_the_breaker_that_began_with_it() {
    run(async {
        let mood = Arc::new(AtomicU8::new(RESETTING));
        let (actor, others) = (actor(&mood), [Origin::answering(HELLO), Origin::answering(HELLO)]);
        let minute = Duration::from_secs(60);
        let addresses = [actor.address, others[0].address, others[1].address];
        let written = crate::testing::upstream(&addresses);
        let upstream = Upstream {
            breaker: Breaker { open_for: minute, max_open_for: minute, ..written.breaker },
            ejection: Ejection { base_time: minute, max_time: minute, ..written.ejection },
            health: Some(every_few_milliseconds()),
            // In this test the failed checks must not keep requests from the endpoint.
            panic_below: 1.0,
            ..settings(&addresses)
        };
        let snapshot = snapshot(upstream);
        let mut failed = 0;
        while !is_ejected(&snapshot) {
            failed += usize::from(get(&snapshot).await.is_err());
            assert!(failed <= 5, "it is not ejected");
        }
        let first = || status(&snapshot.upstreams)[0].endpoints.remove(0);
        assert_eq!(first().breaker, BreakerState::Open);
        mood.store(WELL, Ordering::SeqCst);
        let _kept = RunningHealth::new(&snapshot);
        eventually("its checks end the ejection", || first().ejected_for.is_none()).await;
        let before = first().requests_succeeded;
        let deadline = Instant::now() + Duration::from_secs(5);
        while first().requests_succeeded == before {
            get(&snapshot).await.unwrap();
            assert!(Instant::now() < deadline, "it takes no requests: {:?}", first());
        }
        assert_eq!(first().breaker, BreakerState::Closed, "one that succeeds closes the breaker");
        let events: Vec<_> =
            status(&snapshot.upstreams)[0].events.iter().map(|event| event.event.clone()).collect();
        let story = ["breaker-opened", "ejected", "returned", "breaker-half-opened", "breaker-closed"];
        assert_eq!(events.iter().filter(|event| story.contains(&event.as_str())).collect::<Vec<_>>(), story);
    });
}

/// Checks do not end the open period of a breaker that opened for another reason, for example a failure ratio.
#[test]
fn checks_do_not_end_a_rest_that_began_by_itself() {
    run(async {
        let mood = Arc::new(AtomicU8::new(RESETTING));
        let (actor, others) = (actor(&mood), [Origin::answering(HELLO), Origin::answering(HELLO)]);
        let minute = Duration::from_secs(60);
        let mut upstream = three(&actor, &others);
        upstream.breaker =
            Breaker { consecutive_failures: 3, open_for: minute, max_open_for: minute, ..upstream.breaker };
        upstream.health = Some(every_few_milliseconds());
        let snapshot = snapshot(upstream);
        let first = || status(&snapshot.upstreams)[0].endpoints.remove(0);
        while first().breaker == BreakerState::Closed {
            let _ = get(&snapshot).await;
        }
        assert_eq!(first().ejected_for, None);
        mood.store(WELL, Ordering::SeqCst);
        let _kept = RunningHealth::new(&snapshot);
        eventually("checks succeed", || first().checks_succeeded > 5).await;
        assert_eq!(first().breaker, BreakerState::Open);
    });
}

fn every_few_milliseconds() -> Health {
    Health {
        check: Check::Tcp { send: Vec::new(), expect: Vec::new() },
        interval: Duration::from_millis(20),
        recheck_interval: Duration::from_millis(10),
        jitter: 0.0,
        timeout: Duration::from_secs(5),
        healthy_threshold: 2,
        unhealthy_threshold: 2,
        on_unhealthy: OnUnhealthy::Retry,
        port: None,
    }
}
