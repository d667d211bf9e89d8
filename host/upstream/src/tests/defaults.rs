//! The default configuration: one client must not be able to stop an upstream for all clients.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use witgate_config::model::Upstream;
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, status};

/// An origin that responds to `/poison` with this text and ends the connection, and responds normally to other
/// paths.
fn poisoned(answer: &'static str) -> Origin {
    Origin::start(async move |mut visitor: Visitor| {
        while let Some(request) = visitor.request().await {
            if request.contains("/poison") {
                return visitor.send(answer).await;
            }
            visitor.send(HELLO).await;
        }
    })
}

/// The default settings of an upstream with these endpoints.
fn defaults(origins: &[Origin]) -> Upstream {
    testing::upstream(&origins.iter().map(|origin| origin.address).collect::<Vec<_>>())
}

async fn ask(snapshot: &Arc<Snapshot>, target: &str) -> Result<String, FaultKind> {
    let mut exchange = exchange(snapshot, Method::GET, &[]);
    Arc::make_mut(&mut exchange.facts.head).upstream_target = Some(target.parse().unwrap());
    let answer = forward(&mut exchange, Body::Empty).await.map_err(|fault| fault.kind)?;
    let body = testing::bytes(answer.into_body()).await.map_err(|_| FaultKind::UpstreamReset)?;
    Ok(String::from_utf8(body.to_vec()).unwrap())
}

fn states(snapshot: &Snapshot) -> Vec<BreakerState> {
    status(&snapshot.upstreams)[0].endpoints.iter().map(|endpoint| endpoint.breaker).collect()
}

const LARGE: usize = 256 * 1024;

fn poisons() -> Vec<&'static str> {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(LARGE));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(2000));
    vec![
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n",
        large.leak(),
        many.leak(),
        // Half of a head, of a body, of a chunk.
        "HTTP/1.1 200 OK\r\ncontent-le",
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\nhalf",
        // A handler that panicked: no byte at all.
        "",
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n",
    ]
}

#[test]
fn no_answer_to_one_url_stops_the_only_endpoint() {
    for poison in poisons() {
        run(async {
            let origins = [poisoned(poison)];
            let snapshot = snapshot(defaults(&origins));
            for _ in 0..7 {
                let _ = ask(&snapshot, "/poison").await;
            }
            assert_eq!(states(&snapshot), [BreakerState::Closed], "{poison:.60}");
            assert_eq!(ask(&snapshot, "/").await.as_deref(), Ok("hello"), "{poison:.60}");
        });
    }
}

#[test]
fn no_answer_to_one_url_stops_all_of_three_endpoints() {
    for poison in poisons() {
        run(async {
            let origins = [poisoned(poison), poisoned(poison), poisoned(poison)];
            let snapshot = snapshot(defaults(&origins));
            for _ in 0..15 {
                let _ = ask(&snapshot, "/poison").await;
                assert!(states(&snapshot).contains(&BreakerState::Closed), "{poison:.60}");
            }
            assert_eq!(ask(&snapshot, "/").await.as_deref(), Ok("hello"), "{poison:.60}");
        });
    }
}

#[test]
fn statuses_of_the_application_stop_nothing() {
    run(async {
        let busy = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
        let origins = [poisoned(busy), poisoned(busy), poisoned(busy)];
        let snapshot = snapshot(defaults(&origins));
        for _ in 0..60 {
            assert_eq!(ask(&snapshot, "/poison").await.as_deref(), Ok(""));
        }
        assert_eq!(states(&snapshot), [BreakerState::Closed; 3]);
        assert!(
            status(&snapshot.upstreams)[0].endpoints.iter().all(|endpoint| endpoint.ejected_for.is_none())
        );
    });
}

#[test]
fn a_slow_url_does_not_stop_the_only_endpoint() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                if request.contains("/slow") {
                    return visitor.closed().await;
                }
                visitor.send(HELLO).await;
            }
        });
        let origins = [origin];
        let slow = Upstream { first_byte_timeout: Duration::from_millis(20), ..defaults(&origins) };
        let snapshot = snapshot(slow);
        for _ in 0..8 {
            assert_eq!(ask(&snapshot, "/slow").await, Err(FaultKind::FirstByteTimeout));
        }
        assert_eq!(states(&snapshot), [BreakerState::Closed]);
        assert_eq!(ask(&snapshot, "/").await.as_deref(), Ok("hello"));
    });
}

#[test]
fn an_endpoint_that_is_gone_is_shut_though_it_is_the_only_one() {
    run(async {
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let snapshot = snapshot(testing::upstream(&[gone]));
        for _ in 0..5 {
            assert_eq!(ask(&snapshot, "/").await, Err(FaultKind::UpstreamUnreachable));
        }
        assert_eq!(ask(&snapshot, "/").await, Err(FaultKind::BreakerOpen));
    });
}

#[test]
fn one_of_several_is_shut_and_left_out_for_whatever_it_does_five_times() {
    for poison in ["SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", ""] {
        run(async {
            let origins = [poisoned(poison), Origin::answering(HELLO), Origin::answering(HELLO)];
            let snapshot = snapshot(defaults(&origins));
            for _ in 0..15 {
                let _ = ask(&snapshot, "/poison").await;
            }
            assert_eq!(origins[0].requests().len(), 5, "{poison:.60}");
            let status = status(&snapshot.upstreams).remove(0);
            assert_eq!(status.endpoints[0].breaker, BreakerState::Open, "{poison:.60}");
            assert!(status.endpoints[0].ejected_for.is_some(), "{poison:.60}");
        });
    }
}

#[test]
fn the_attempts_of_one_request_are_one_failure() {
    run(async {
        let nonsense = "SSH-2.0-OpenSSH_9.2\r\n\r\n";
        for endpoints in [1, 3] {
            let origins: Vec<Origin> = (0..endpoints).map(|_| poisoned(nonsense)).collect();
            let snapshot = snapshot(defaults(&origins));
            for requests in 1..=4 {
                assert_eq!(ask(&snapshot, "/poison").await, Err(FaultKind::UpstreamProtocol));
                let failed =
                    || status(&snapshot.upstreams)[0].endpoints.iter().map(|one| one.requests_failed).sum();
                let seen: usize = origins.iter().map(|origin| origin.requests().len()).sum();
                assert_eq!((failed(), seen), (requests, 3 * requests as usize), "{endpoints} endpoints");
            }
        }
    });
}
