//! Connections that are used again, and those that have gone stale meanwhile.

use http::Method;

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, get, send, settings, snapshot};
use crate::body::Body;
use crate::fault::FaultKind;
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
        super::super::forward(&mut exchange, Body::Empty).await.unwrap();
        let request = &origin.requests()[0];
        assert!(request.starts_with("GET /path?query HTTP/1.1\r\n"), "{request}");
        for line in
            [format!("host: {}", origin.address).as_str(), "via: 1.1 witgate", "x-twice: 1", "x-twice: 2"]
        {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "no `{line}` in {request}");
        }
        assert!(
            request.contains("\r\ntraceparent: 00-") && request.contains("\r\nx-request-id: "),
            "{request}"
        );
        assert!(!request.contains("content-length"), "{request}");
        let (upstream, endpoint) = exchange.record.endpoint.clone().unwrap();
        assert_eq!((&*upstream, &*endpoint), ("origin", origin.address.to_string().as_str()));
        assert_eq!(exchange.record.attempts, 1);
    });
}

#[test]
fn a_post_on_a_connection_closed_meanwhile_arrives_once() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send(HELLO).await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        for round in 0..50 {
            let body = Body::Full("data".into());
            let response = send(&snapshot, Method::POST, body).await;
            match response {
                Ok(response) => assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello"),
                // Written before the end of the connection was seen: it may have arrived, so it is not sent again.
                Err(fault) => assert_eq!(fault.kind, FaultKind::UpstreamReset, "round {round}: {fault}"),
            }
        }
        let arrived = origin.requests().len();
        assert!((1..=50).contains(&arrived), "{arrived} of 50");
    });
}
