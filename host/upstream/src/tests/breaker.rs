//! Circuit breakers with real failures.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use tokio::io::AsyncWriteExt;
use witgate_config::model::{Breaker, Upstream};
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, get, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::run;
use crate::{BreakerState, status};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

/// A breaker that opens after this many failures in a row. A 503 counts as a failure.
fn strict(consecutive_failures: u32, rest: Duration, settings: &Upstream) -> Breaker {
    let statuses = [503].into_iter().collect();
    Breaker { statuses, consecutive_failures, open_for: rest, max_open_for: rest, ..settings.breaker }
}

fn state(snapshot: &Snapshot) -> BreakerState {
    status(&snapshot.upstreams)[0].endpoints[0].breaker
}

/// An origin that responds with 503 until `healthy` is set.
fn sick(healthy: &Arc<AtomicBool>) -> Origin {
    let healthy = healthy.clone();
    Origin::start(async move |mut visitor: Visitor| {
        while visitor.request().await.is_some() {
            visitor.send(if healthy.load(Ordering::SeqCst) { HELLO } else { UNAVAILABLE }).await;
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
            assert_eq!(get(&snapshot).await.unwrap(), "");
        }
        let fault = get(&snapshot).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::BreakerOpen);
        assert_eq!(fault.headers[0].0, http::header::RETRY_AFTER);
        assert_eq!(origin.requests().len(), 3, "an open breaker lets nothing through");
        // A failed probe opens the breaker again.
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        assert_eq!(get(&snapshot).await.unwrap(), "");
        assert_eq!(state(&snapshot), BreakerState::Open);
        // A successful probe closes the breaker.
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
            match visitor.number {
                0 => visitor
                    .send(
                        "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                    )
                    .await,
                _ => visitor.closed().await,
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.breaker = strict(1, Duration::from_millis(20), &settings);
        let snapshot = snapshot(settings);
        get(&snapshot).await.unwrap();
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        tokio::select! {
            _ = get(&snapshot) => panic!("the probe is not answered"),
            () = async {
                eventually("the probe is under way", || origin.requests().len() == 2).await;
                assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
            } => {}
        }
        // The client of the probe went away: nothing was decided, and the next request may be a probe.
        tokio::select! {
            _ = get(&snapshot) => panic!("the probe is not answered"),
            () = eventually("the next probe is under way", || origin.requests().len() == 3) => {}
        }
    });
}

/// Closes the connection of a POST, or sends no response to it, and responds to all other requests.
fn choosy(hangs: bool) -> Origin {
    Origin::start(async move |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            if request.starts_with("POST") {
                return if hangs {
                    visitor.closed().await
                };
            }
            visitor.send(HELLO).await;
        }
    })
}

/// A service with little traffic: only one client sends requests, for longer than `window`.
#[test]
fn a_single_url_that_is_closed_or_hangs_does_not_shut_the_last_endpoint() {
    for (hangs, endpoints) in [(false, 1), (true, 1), (false, 3)] {
        run(async {
            let origins: Vec<Origin> = (0..endpoints).map(|_| choosy(hangs)).collect();
            let addresses: Vec<_> = origins.iter().map(|origin| origin.address).collect();
            let mut settings = settings(&addresses);
            let written = crate::testing::upstream(&addresses);
            (settings.breaker, settings.ejection) = (written.breaker, written.ejection);
            settings.breaker.window = Duration::from_millis(100);
            settings.first_byte_timeout = Duration::from_millis(20);
            let snapshot = snapshot(settings);
            let begun = std::time::Instant::now();
            let mut asked = 0;
            while asked < 60 || begun.elapsed() < Duration::from_millis(300) {
                let fault = send(&snapshot, Method::POST, Body::Empty).await.unwrap_err();
                assert!(
                    matches!(fault.kind, FaultKind::UpstreamReset | FaultKind::FirstByteTimeout),
                    "{fault}, hangs: {hangs}, {endpoints} endpoints, after {asked}"
                );
                asked += 1;
            }
            for _ in 0..8 {
                assert_eq!(get(&snapshot).await.unwrap(), "hello", "hangs: {hangs}, {endpoints} endpoints");
            }
        });
    }
}

/// An address that refuses connections until the socket listens.
fn refusing() -> (tokio::net::TcpSocket, std::net::SocketAddr) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn a_probe_of_the_last_endpoint_that_hangs_keeps_nobody_else_out() {
    run(async {
        let (socket, address) = refusing();
        let mut settings = settings(&[address]);
        let rest = Duration::from_millis(20);
        settings.breaker =
            Breaker { consecutive_failures: 2, open_for: rest, max_open_for: rest, ..settings.breaker };
        let snapshot = snapshot(settings);
        for _ in 0..2 {
            assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamUnreachable);
        }
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::BreakerOpen);
        let listener = socket.listen(8).unwrap();
        eventually("it half-opens", || state(&snapshot) == BreakerState::HalfOpen).await;
        // The first connection is accepted and gets no response.
        let answering = async {
            let _silent = listener.accept().await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(HELLO.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = send(&snapshot, Method::POST, Body::Empty) => panic!("the probe is not answered"),
            () = answering => {}
            () = async {
                eventually("the probe is connected", || state(&snapshot) == BreakerState::Closed).await;
                assert_eq!(get(&snapshot).await.unwrap(), "hello");
            } => {}
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
        let origin = Origin::answering(UNAVAILABLE);
        let mut settings = settings(&[origin.address]);
        let minute = Duration::from_secs(60);
        settings.breaker =
            Breaker { consecutive_failures: 2, open_for: minute, max_open_for: minute, ..settings.breaker };
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
