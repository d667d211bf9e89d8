//! Endpoints that are slow, silent or unreachable.

use std::time::{Duration, Instant};

use http::Method;
use tokio::net::TcpListener;
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, get, send, settings, snapshot};
use crate::testing::{self, run};

fn silent() -> Origin {
    Origin::start(async |mut visitor: Visitor| {
        visitor.request().await;
        visitor.closed().await;
    })
}

#[test]
fn an_endpoint_that_does_not_answer_runs_into_the_first_byte_timeout() {
    run(async {
        let origin = silent();
        let mut settings = settings(&[origin.address]);
        settings.first_byte_timeout = Duration::from_millis(50);
        assert_eq!(get(&snapshot(settings)).await.unwrap_err().kind, FaultKind::FirstByteTimeout);
        assert_eq!(origin.requests().len(), 1, "it was sent again");
    });
}

#[test]
fn a_long_upload_does_not_run_into_the_first_byte_timeout_while_it_moves() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.read_chunked().await;
            visitor.send(HELLO).await;
        });
        let mut settings = settings(&[origin.address]);
        settings.first_byte_timeout = Duration::from_millis(200);
        let frames = futures_util::stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let frame = http_body::Frame::data(bytes::Bytes::from_static(b"piece"));
            (sent < 20).then_some((Ok::<_, BodyError>(frame), sent + 1))
        });
        let body = Body::wrap(http_body_util::StreamBody::new(frames));
        let begun = Instant::now();
        let response = send(&snapshot(settings), Method::POST, body).await.unwrap();
        assert_eq!(response.status(), 200);
        assert!(begun.elapsed() > Duration::from_millis(300), "the upload was not long");
    });
}

#[test]
fn the_whole_request_has_a_deadline_before_and_after_the_head() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            if visitor.number == 1 {
                visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
            }
            visitor.closed().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let mut before = exchange(&snapshot, Method::GET, &[]);
        before.facts.timeout = Some(Duration::from_millis(50));
        let fault = super::forward(&mut before, Body::Empty).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::RequestTimeout);
        let mut after = exchange(&snapshot, Method::GET, &[]);
        after.facts.timeout = Some(Duration::from_millis(200));
        let response = super::forward(&mut after, Body::Empty).await.unwrap();
        let error = testing::bytes(response.into_body()).await.unwrap_err();
        assert_eq!(error.downcast::<Fault>().unwrap().kind, FaultKind::RequestTimeout);
    });
}

#[test]
fn a_response_that_stalls_is_cut() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe").await;
            visitor.closed().await;
        });
        let mut settings = settings(&[origin.address]);
        settings.idle_timeout = Some(Duration::from_millis(50));
        let fault = get(&snapshot(settings)).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::UpstreamReset);
        assert_eq!(fault.cause.as_deref(), Some("the response stalled"));
    });
}

#[test]
fn an_endpoint_that_is_not_there_costs_nothing_while_another_is() {
    run(async {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(
            get(&snapshot(settings(&[nobody]))).await.unwrap_err().kind,
            FaultKind::UpstreamUnreachable
        );
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[nobody, origin.address]));
        for _ in 0..6 {
            let response = send(&snapshot, Method::POST, Body::Full("data".into())).await.unwrap();
            assert_eq!(response.status(), 200);
        }
        assert_eq!(origin.requests().len(), 6);
    });
}

#[test]
fn an_endpoint_that_does_not_shake_hands_runs_into_the_connect_timeout() {
    run(async {
        let origin = silent();
        let mut settings = settings(&[origin.address]);
        settings.connect_timeout = Duration::from_millis(100);
        settings.tls = Some(super::tls::unverified());
        assert_eq!(get(&snapshot(settings)).await.unwrap_err().kind, FaultKind::ConnectTimeout);
    });
}
