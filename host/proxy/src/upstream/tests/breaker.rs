//! Breakers over real failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use witgate_config::model::{Breaker, Upstream};

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, get, settings, snapshot};
use crate::fault::FaultKind;
use crate::snapshot::Snapshot;
use crate::testing::run;
use crate::upstream::{BreakerState, status};

/// Opens after so many failures in a row, that of the last endpoint too: no window of silence is asked for.
fn strict(consecutive_failures: u32, rest: Duration, settings: &Upstream) -> Breaker {
    Breaker {
        consecutive_failures,
        window: Duration::ZERO,
        open_for: rest,
        max_open_for: rest,
        ..settings.breaker
    }
}

fn state(snapshot: &Snapshot) -> BreakerState {
    status(snapshot)[0].endpoints[0].breaker
}

/// An origin that resets connections as long as it is told to.
fn sick(healthy: &Arc<AtomicBool>) -> Origin {
    let healthy = healthy.clone();
    Origin::start(async move |mut visitor: Visitor| {
        while visitor.request().await.is_some() && healthy.load(Ordering::SeqCst) {
            visitor.send(HELLO).await;
        }
    })
}

#[test]
fn failures_in_a_row_open_it_and_a_probe_closes_it() {
    run(async {
        let healthy = Arc::new(AtomicBool::new(false));
        let origin = sick(&healthy);
        let mut settings = settings(&[origin.address]);
        settings.breaker = strict(3, Duration::from_millis(100), &settings);
        let snapshot = snapshot(settings);
        for _ in 0..3 {
            assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamReset);
        }
        let fault = get(&snapshot).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BreakerOpen);
        assert_eq!(fault.headers[0].0, http::header::RETRY_AFTER);
        assert_eq!(origin.requests().len(), 3, "an open breaker lets nothing through");
        // A failed probe opens it again.
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamReset);
        assert_eq!(state(&snapshot), BreakerState::Open);
        // A successful one closes it.
        healthy.store(true, Ordering::SeqCst);
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        assert_eq!(get(&snapshot).await.unwrap(), "hello");
        assert_eq!(state(&snapshot), BreakerState::Closed);
        assert_eq!(get(&snapshot).await.unwrap(), "hello");
    });
}

#[test]
fn only_one_probe_at_a_time_passes() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            if visitor.number > 0 {
                visitor.closed().await;
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.breaker = strict(1, Duration::from_millis(20), &settings);
        let snapshot = snapshot(settings);
        get(&snapshot).await.unwrap_err();
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        tokio::select! {
            _ = get(&snapshot) => panic!("the probe is not answered"),
            () = async {
                eventually("the probe is under way", || origin.requests().len() == 2).await;
                assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
            } => {}
        }
        // The probe's client went away: nothing was decided, and the next may probe.
        tokio::select! {
            _ = get(&snapshot) => panic!("the probe is not answered"),
            () = eventually("the next probe is under way", || origin.requests().len() == 3) => {}
        }
    });
}

#[test]
fn an_endpoint_whose_answers_break_off_is_left_alone() {
    run(async {
        let sick = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
        });
        let well = Origin::answering(HELLO);
        let mut settings = settings(&[sick.address, well.address]);
        settings.breaker = strict(2, Duration::from_secs(60), &settings);
        let snapshot = snapshot(settings);
        let mut failed = 0;
        for _ in 0..20 {
            failed += usize::from(get(&snapshot).await.is_err());
        }
        assert_eq!((failed, sick.requests().len(), well.requests().len()), (2, 2, 18));
    });
}

#[test]
fn a_status_is_a_failure_only_if_it_is_named() {
    run(async {
        let origin = Origin::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        let mut settings = settings(&[origin.address]);
        settings.breaker = strict(2, Duration::from_secs(60), &settings);
        let indifferent = snapshot(settings.clone());
        for _ in 0..9 {
            get(&indifferent).await.unwrap();
        }
        assert_eq!(state(&indifferent), BreakerState::Closed);
        settings.breaker.statuses = [502, 503, 504].into_iter().collect();
        let snapshot = snapshot(settings);
        get(&snapshot).await.unwrap();
        assert_eq!(state(&snapshot), BreakerState::Closed);
        get(&snapshot).await.unwrap();
        assert_eq!(state(&snapshot), BreakerState::Open);
    });
}
