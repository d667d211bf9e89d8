//! Limits on connections that hold over all cores, and the queue before them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, get, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};

/// Several concurrent series of requests, all of which must succeed.
async fn many(snapshot: &Arc<Snapshot>, at_once: usize, in_a_row: usize) {
    let client = async || {
        for _ in 0..in_a_row {
            assert_eq!(get(snapshot).await.unwrap(), "hello");
        }
    };
    join_all((0..at_once).map(|_| client())).await;
}

#[test]
fn a_cap_of_one_holds_on_two_cores_and_starves_none() {
    static OVERLAP: AtomicBool = AtomicBool::new(false);
    let origin = Origin::start(async |mut visitor: Visitor| {
        // The gateway closes one connection before it opens the next. The origin may see the end a little later.
        let alone = tokio::time::timeout(Duration::from_secs(2), visitor.alone()).await;
        OVERLAP.fetch_or(alone.is_err(), Ordering::SeqCst);
        while visitor.request().await.is_some() {
            visitor.send(HELLO).await;
        }
    });
    let mut settings = settings(&[origin.address]);
    settings.max_connections = 1;
    let snapshot = snapshot(settings);
    let cores: Vec<_> = (0..2)
        .map(|_| {
            let snapshot = snapshot.clone();
            std::thread::spawn(move || run(async move { many(&snapshot, 4, 50).await }))
        })
        .collect();
    for core in cores {
        core.join().unwrap();
    }
    assert_eq!(origin.requests().len(), 400);
    assert!(!OVERLAP.load(Ordering::SeqCst), "two connections were open at once");
    // Closing a connection for every request of the other core would make 400.
    assert!(origin.connections() < 200, "{} connections", origin.connections());
}

#[test]
fn an_idle_connection_of_another_core_makes_room() {
    let origin = Origin::answering(HELLO);
    let mut settings = settings(&[origin.address]);
    settings.max_connections = 1;
    let snapshot = snapshot(settings);
    let (held, holds) = std::sync::mpsc::sync_channel(1);
    let done = Arc::new(AtomicBool::new(false));
    let other = {
        let (snapshot, done) = (snapshot.clone(), done.clone());
        std::thread::spawn(move || {
            run(async move {
                get(&snapshot).await.unwrap();
                held.send(()).unwrap();
                eventually("the other core is served", || done.load(Ordering::SeqCst)).await;
            });
        })
    };
    holds.recv().unwrap();
    run(async { assert_eq!(get(&snapshot).await.unwrap(), "hello") });
    done.store(true, Ordering::SeqCst);
    other.join().unwrap();
    assert_eq!(origin.connections(), 2);
}

#[test]
fn an_idle_connection_to_another_endpoint_makes_room() {
    run(async {
        let origins = [Origin::answering(HELLO), Origin::answering(HELLO)];
        let mut settings = settings(&origins.each_ref().map(|origin| origin.address));
        settings.max_connections = 1;
        let snapshot = snapshot(settings);
        for _ in 0..4 {
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
        }
        assert_eq!(origins.each_ref().map(|origin| origin.requests().len()), [2, 2]);
    });
}

#[test]
fn room_is_made_for_those_who_wait_and_no_more() {
    run(async {
        let origins: Vec<Origin> = (0..9).map(|_| Origin::answering(HELLO)).collect();
        let mut settings = settings(&origins.iter().map(|origin| origin.address).collect::<Vec<_>>());
        settings.max_connections = 8;
        let snapshot = snapshot(settings);
        // One endpoint after the other: the ninth request finds eight idle connections, none of them to its
        // endpoint.
        for _ in 0..9 {
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
        }
        assert_eq!(snapshot.upstreams["origin"].carried.limit.open(), 8, "one was closed for the ninth");
        for _ in 0..90 {
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
        }
        let connections: usize = origins.iter().map(Origin::connections).sum();
        assert!(connections < 99, "{connections} connections for 99 requests");
        assert_eq!(snapshot.upstreams["origin"].carried.limit.open(), 8);
    });
}

#[test]
fn who_waits_too_long_and_who_comes_too_many_is_told_so() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let mut settings = settings(&[origin.address]);
        settings.max_connections = 1;
        settings.max_pending = 1;
        settings.pending_timeout = Duration::from_millis(50);
        let snapshot = snapshot(settings);
        let holding = get(&snapshot);
        let others = async {
            eventually("the connection is taken", || origin.requests().len() == 1).await;
            let (waiting, refused) = tokio::join!(get(&snapshot), get(&snapshot));
            assert_eq!(waiting.unwrap_err().kind, FaultKind::UpstreamOverloaded);
            assert_eq!(refused.unwrap_err().kind, FaultKind::UpstreamOverloaded);
            assert_eq!(snapshot.upstreams["origin"].carried.limit.waiting(), 0);
        };
        tokio::select! {
            _ = holding => panic!("the origin does not answer"),
            () = others => {}
        }
    });
}

#[test]
fn a_client_that_goes_away_frees_its_place_and_its_connection() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            match visitor.number {
                0 => visitor.closed().await,
                _ => visitor.send(HELLO).await,
            }
        });
        let mut settings = settings(&[origin.address]);
        settings.max_connections = 1;
        let snapshot = snapshot(settings);
        {
            let gone = async { tokio::join!(get(&snapshot), get(&snapshot)) };
            tokio::select! {
                _ = gone => panic!("the origin does not answer"),
                () = eventually("it holds the connection", || origin.requests().len() == 1) => {}
            }
        }
        assert_eq!(get(&snapshot).await.unwrap(), "hello");
        assert_eq!(snapshot.upstreams["origin"].carried.limit.waiting(), 0);
    });
}

#[test]
fn a_connection_closed_by_the_endpoint_gives_its_permit_back() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
        });
        let mut settings = settings(&[origin.address]);
        settings.max_connections = 1;
        let snapshot = snapshot(settings);
        for _ in 0..3 {
            let response = send(&snapshot, Method::POST, Body::Full("x".into())).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
        }
        eventually("no connection is left", || snapshot.upstreams["origin"].carried.limit.open() == 0).await;
    });
}
