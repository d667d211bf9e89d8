//! Reused connections, and those that have become stale in the meantime.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use socket2::SockRef;
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, send, settings, snapshot};
use crate::balancer::Caller;
use crate::connection::Connection;
use crate::connection::pool;
use crate::deliver::Rules;
use crate::request::UpstreamRequest;
use crate::request::affinity::Affinity;
use crate::send::SendFailure;
use crate::send::http1::OfAttempt;
use crate::send::upload::Upload;
use crate::testing::Snapshot;
use crate::testing::{self, run};

#[test]
fn one_connection_serves_one_request_after_the_other() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        for _ in 0..5 {
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn the_upstream_sees_its_own_host_and_who_passed_the_request_on() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let headers =
            [("accept", "text/html"), ("x-twice", "1"), ("x-twice", "2"), ("content-length", "999")];
        let mut exchange = exchange(&snapshot, Method::GET, &headers);
        forward(&mut exchange, Body::Empty).await.unwrap();
        let request = &origin.requests()[0];
        assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"), "{request}");
        for line in
            [format!("host: {}", origin.address).as_str(), "via: 1.1 witgate", "x-twice: 1", "x-twice: 2"]
        {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "no `{line}` in {request}");
        }
        assert!(request.contains("\r\nx-request-id: "), "{request}");
        assert!(!request.contains("traceparent"), "no spans are exported: {request}");
        assert!(!request.contains("content-length"), "{request}");
        let (upstream, endpoint) = exchange.facts.record.endpoint.clone().unwrap();
        assert_eq!((&*upstream, &*endpoint), ("origin", origin.address.to_string().as_str()));
        assert_eq!(exchange.facts.record.attempts, 1);
    });
}

/// Responds to the first request of its first connection, and closes the connection when the second has arrived.
fn closes_on_the_second() -> Origin {
    Origin::start(async |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            let first = visitor.number == 0;
            if first && !request.contains("/first") {
                return;
            }
            visitor.send(HELLO).await;
        }
    })
}

/// Uses a connection for the first time.
async fn first(snapshot: &Arc<Snapshot>) {
    let mut exchange = exchange(snapshot, Method::GET, &[]);
    Arc::make_mut(&mut exchange.facts.head).upstream_target = Some("/first".parse().unwrap());
    let response = forward(&mut exchange, Body::Empty).await.unwrap();
    assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
}

#[test]
fn a_get_whose_connection_ends_without_an_answer_is_sent_again() {
    run(async {
        let origin = closes_on_the_second();
        let snapshot = snapshot(settings(&[origin.address]));
        first(&snapshot).await;
        let mut second = exchange(&snapshot, Method::GET, &[]);
        let response = forward(&mut second, Body::Empty).await.unwrap();
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
        assert_eq!((second.facts.record.attempts, origin.requests().len(), origin.connections()), (2, 3, 2));
    });
}

#[test]
fn a_post_that_may_have_arrived_is_never_sent_again() {
    run(async {
        let origin = closes_on_the_second();
        let snapshot = snapshot(settings(&[origin.address]));
        first(&snapshot).await;
        let fault = send(&snapshot, Method::POST, Body::Full("data".into())).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::UpstreamReset);
        assert_eq!((origin.requests().len(), origin.connections()), (2, 1));
    });
}

#[test]
fn a_get_whose_answer_broke_off_in_its_head_is_not_sent_again() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                if !request.contains("/first") {
                    visitor.send("HTTP/1.1 2").await;
                    return;
                }
                visitor.send(HELLO).await;
            }
        });
        let snapshot = snapshot(settings(&[origin.address]));
        first(&snapshot).await;
        assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamReset);
        assert_eq!((origin.requests().len(), origin.connections()), (2, 1));
    });
}

#[test]
fn a_post_after_a_long_idle_time_does_not_meet_a_connection_closed_meanwhile() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send(HELLO).await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        for round in 1..=4 {
            let idle_since = Instant::now();
            let mut exchange = exchange(&snapshot, Method::POST, &[]);
            let response = forward(&mut exchange, Body::Full("data".into())).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
            assert_eq!((exchange.facts.record.attempts, origin.connections()), (1, round));
            // This core does not poll its sockets, so the connection's end has arrived but was not seen yet.
            while origin.log.open.load(Ordering::SeqCst) > 0
                || idle_since.elapsed() < Duration::from_millis(600)
            {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    });
}

#[test]
fn what_was_not_begun_comes_back_with_its_body() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            // The connection ends with a reset, so that the next write fails.
            SockRef::from(visitor.stream.get_ref()).set_linger(Some(Duration::ZERO)).unwrap();
            visitor.request().await;
            visitor.send(HELLO).await;
            visitor.request().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        get(&snapshot).await.unwrap();
        let upstream = &snapshot.upstreams["origin"];
        let taken = pool::take(upstream, &upstream.endpoint(0), Instant::now());
        let (Connection::Http1(connection), _) = taken.unwrap() else { panic!("the origin speaks HTTP/1.1") };
        drop(origin);
        let connection = RefCell::new(connection);
        eventually("its end is seen", || !connection.borrow_mut().is_alive()).await;
        let mut connection = connection.into_inner();
        let headers = HeaderMap::new();
        let order = UpstreamRequest {
            method: &Method::POST,
            target: &"/".parse().unwrap(),
            headers: &headers,
            authority: None,
            upgrade: None,
            caller: Caller { headers: &headers, path: "/", client: None, hash_key: None },
            affinity: Affinity::default(),
            without_cookie: None,
            forwarding: None,
            trace: None,
            rules: Rules::new(&upstream.config.retry, None),
            grpc: false,
            allowance: None,
            informational: None,
            body_memory: snapshot.upstreams.body_memory(),
            client: None,
        };
        let upload = Upload::new(testing::chunks(vec![Ok(b"da"), Ok(b"ta")]));
        let timeout = Duration::from_secs(5);
        let head = OfAttempt { host: b"a", span: None, response_headers: 100 };
        let lost = connection.exchange(&order, head, upload, Instant::now(), timeout).await;
        let Err(SendFailure::Unsent(body, _)) = lost else { panic!("it was begun") };
        assert_eq!(testing::bytes(body).await.unwrap(), "data");
    });
}
