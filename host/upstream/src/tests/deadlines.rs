//! Deadlines that come with a request and are forwarded with it.

use std::time::Duration;

use http::{Method, StatusCode};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Dialect, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, settings, snapshot};
use crate::status;
use crate::testing::run;

const GRPC: (&str, &str) = ("content-type", "application/grpc");

/// The value of a header in the first request that an origin received.
fn told(origin: &Origin, name: &str) -> Option<u64> {
    let request = origin.requests().pop()?;
    let line = request.lines().find(|line| line.starts_with(&format!("{name}: ")))?.to_owned();
    let value = line.split_once(": ")?.1.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
    value.parse().ok()
}

#[test]
fn the_endpoint_is_told_what_is_left_and_a_client_only_shortens_it() {
    run(async {
        let origin = Origin::answering(HELLO);
        let mut settings = settings(&[origin.address]);
        settings.deadline_header = Some("x-timeout-ms".into());
        let snapshot = snapshot(settings);
        for (asked, allowed, least, most) in
            [(Some("5000"), None, 1, 5000), (Some("9000"), Some(2000), 1, 2000), (None, Some(2000), 1, 2000)]
        {
            let headers: Vec<_> = asked.map(|asked| ("x-timeout-ms", asked)).into_iter().collect();
            let mut exchange = exchange(&snapshot, Method::GET, &headers);
            exchange.facts.timeout = allowed.map(Duration::from_millis);
            forward(&mut exchange, Body::Empty).await.unwrap();
            let told = told(&origin, "x-timeout-ms").unwrap();
            assert!((least..=most).contains(&told), "{told} of {asked:?} and {allowed:?}");
        }
        forward(&mut exchange(&snapshot, Method::GET, &[]), Body::Empty).await.unwrap();
        assert_eq!(told(&origin, "x-timeout-ms"), None, "there is no deadline to tell");
        let mut nonsense = exchange(&snapshot, Method::GET, &[("x-timeout-ms", "soon")]);
        assert_eq!(forward(&mut nonsense, Body::Empty).await.unwrap_err().kind, FaultKind::BadRequest);
    });
}

#[test]
fn grpc_hears_and_is_told_by_a_header_of_its_own() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        let mut call = exchange(&snapshot, Method::POST, &[GRPC, ("grpc-timeout", "2S")]);
        forward(&mut call, Body::Empty).await.unwrap();
        let left = told(&origin, "grpc-timeout").unwrap();
        assert!((1..=2_000_000).contains(&left), "{left} microseconds");
        assert_eq!(origin.requests()[0].matches("grpc-timeout").count(), 1);
        let other = [("content-type", "text/plain"), ("grpc-timeout", "whatever")];
        forward(&mut exchange(&snapshot, Method::POST, &other), Body::Empty).await.unwrap();
        assert!(origin.requests()[1].contains("grpc-timeout: whatever"), "not gRPC: not ours");
    });
}

#[test]
fn a_deadline_that_has_passed_is_said_in_the_client_s_words() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let mut call = exchange(&snapshot, Method::POST, &[GRPC, ("grpc-timeout", "50m")]);
        // As it is for a call that came over HTTP/2.
        call.facts.dialect = Dialect::Grpc;
        let fault = forward(&mut call, Body::Empty).await.unwrap_err();
        let answer = call.facts.fault(fault);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert!(!answer.headers().contains_key("content-length"));
        assert_eq!(call.facts.record.fault.as_ref().unwrap().0, FaultKind::RequestTimeout, "the log knows");
        let mut at_once = exchange(&snapshot, Method::POST, &[GRPC, ("grpc-timeout", "0n")]);
        assert_eq!(forward(&mut at_once, Body::Empty).await.unwrap_err().kind, FaultKind::RequestTimeout);
        assert_eq!(origin.requests().len(), 1, "nothing is sent that comes too late");
        let mut plain = exchange(&snapshot, Method::GET, &[]);
        plain.facts.timeout = Some(Duration::from_millis(20));
        assert_eq!(forward(&mut plain, Body::Empty).await.unwrap_err().kind, FaultKind::RequestTimeout);
        assert_eq!(status(&snapshot.upstreams)[0].tries.deadlines_exceeded, 3);
    });
}
