//! Which responses of endpoints are accepted, and which are not.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use witgate_exchange::body::Body;
use witgate_exchange::facts::Switched;
use witgate_exchange::fault::{Fault, FaultKind};
use witgate_wire::stream::Side;

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, get, send, settings, snapshot};
use crate::send::http1::tests::BROKEN;
use crate::testing::{self, run};

/// The result for a response after which the endpoint closes the connection.
async fn outcome(answer: &'static str) -> Result<bytes::Bytes, Fault> {
    let origin = Origin::start(async move |mut visitor: Visitor| {
        visitor.request().await;
        visitor.send(answer).await;
    });
    get(&snapshot(settings(&[origin.address]))).await
}

#[test]
fn what_is_no_http_is_refused() {
    run(async {
        for (rule, answer) in BROKEN {
            let fault = outcome(answer).await.expect_err(rule);
            assert_eq!(fault.kind, FaultKind::UpstreamProtocol, "{rule}: {fault}");
        }
    });
}

#[test]
fn nothing_behind_an_answer_is_taken_for_another() {
    run(async {
        for hidden in ["HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhidden", "\r\n", "x"] {
            for late in [false, true] {
                let origin = Origin::start(async move |mut visitor: Visitor| {
                    visitor.request().await;
                    if late {
                        visitor.send(HELLO).await;
                        visitor.send(hidden).await;
                    } else {
                        visitor.send(&format!("{HELLO}{hidden}")).await;
                    }
                    visitor.closed().await;
                });
                let snapshot = snapshot(settings(&[origin.address]));
                for round in 1..=2 {
                    assert_eq!(get(&snapshot).await.unwrap(), "hello");
                    let limit = &snapshot.upstreams["origin"].carried.limit;
                    super::eventually("the connection is closed", || limit.open() == 0).await;
                    assert_eq!(origin.connections(), round, "{hidden:?}");
                }
            }
        }
    });
}

#[test]
fn half_an_answer_is_never_taken_for_a_whole_one() {
    run(async {
        for half in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        ] {
            let fault = outcome(half).await.expect_err(half);
            assert_eq!(fault.kind, FaultKind::UpstreamReset, "{half:?}: {fault}");
        }
        assert_eq!(outcome("HTTP/1.1 200 OK\r\n\r\nuntil the end").await.unwrap(), "until the end");
    });
}

#[test]
fn interim_responses_are_passed_over_and_hop_by_hop_headers_stripped() {
    run(async {
        let origin = Origin::answering(
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
             HTTP/1.1 200 OK\r\nconnection: x-mine, keep-alive\r\nkeep-alive: timeout=5\r\nx-mine: 1\r\n\
             set-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        );
        let snapshot = snapshot(settings(&[origin.address]));
        let response = send(&snapshot, Method::GET, Body::Empty).await.unwrap();
        let headers = response.headers();
        for gone in ["connection", "keep-alive", "x-mine", "link"] {
            assert!(!headers.contains_key(gone), "{gone} in {headers:?}");
        }
        assert_eq!(headers.get_all("set-cookie").iter().count(), 2);
        assert_eq!(headers.get_all("content-length").iter().count(), 1);
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
    });
}

#[test]
fn answers_without_a_body_leave_the_connection_in_order() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                visitor
                    .send(match request.split(' ').next() {
                        Some("HEAD") => "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
                        Some("PUT") => "HTTP/1.1 204 No Content\r\n\r\n",
                        Some("GET") => "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n",
                        _ => HELLO,
                    })
                    .await;
            }
        });
        let snapshot = snapshot(settings(&[origin.address]));
        for (method, status) in
            [(Method::HEAD, 200), (Method::PUT, 204), (Method::GET, 304), (Method::POST, 200)]
        {
            let response = send(&snapshot, method.clone(), Body::Empty).await.unwrap();
            assert_eq!(response.status(), status);
            let body = testing::bytes(response.into_body()).await.unwrap();
            assert_eq!(body.is_empty(), method != Method::POST);
        }
        assert_eq!(origin.connections(), 1);
        assert!(origin.requests()[1].contains("\r\ncontent-length: 0\r\n"), "{:?}", origin.requests()[1]);
    });
}

#[test]
fn trailers_pass() {
    run(async {
        let origin = Origin::answering(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n",
        );
        let snapshot = snapshot(settings(&[origin.address]));
        for _ in 0..2 {
            let response = send(&snapshot, Method::GET, Body::Empty).await.unwrap();
            let collected = response.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn a_switch_of_protocols_that_was_asked_for_leaves_the_connection_to_the_tunnel() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            let request = visitor.request().await.unwrap();
            assert!(
                request.contains("connection: upgrade\r\n") && request.contains("upgrade: chat\r\n"),
                "{request}"
            );
            visitor
                .send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: chat\r\n\r\nhi")
                .await;
            visitor.closed().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let mut exchange = exchange(&snapshot, Method::GET, &[]);
        exchange.facts.upgrade = Some("chat".parse().unwrap());
        let response = super::forward(&mut exchange, Body::Empty).await.unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        let switched = exchange.facts.switched.take().and_then(Switched::into_side);
        let Some(Side::Switched(mut tunnel)) = switched else { panic!("no tunnel") };
        let mut greeting = [0; 2];
        tokio::io::AsyncReadExt::read_exact(&mut tunnel, &mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hi");
        assert_eq!(snapshot.upstreams["origin"].carried.limit.open(), 1, "a tunnel counts as a connection");
        drop(tunnel);
        super::eventually("the tunnel is closed", || snapshot.upstreams["origin"].carried.limit.open() == 0)
            .await;
    });
}

#[test]
fn what_ends_a_request_body_is_what_the_client_is_told() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let too_large = futures_util::stream::iter([
            Ok(http_body::Frame::data(bytes::Bytes::from_static(b"x"))),
            Err(witgate_exchange::body::BodyError::from(Fault::new(FaultKind::BodyTooLarge))),
        ]);
        let body = Body::wrap(http_body_util::StreamBody::new(too_large));
        assert_eq!(send(&snapshot, Method::POST, body).await.unwrap_err().kind, FaultKind::BodyTooLarge);
        let gone = testing::chunks(vec![Ok(b"x"), Err("connection reset")]);
        assert_eq!(send(&snapshot, Method::POST, gone).await.unwrap_err().kind, FaultKind::ClientGone);
    });
}
