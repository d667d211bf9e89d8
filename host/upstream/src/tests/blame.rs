//! Who is at fault: what the client does, and how slowly its body comes, does not count against an endpoint.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use witgate_config::model::{Breaker, Ejection, Upstream, UpstreamProtocol};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};

use super::http2::OwnCore;
use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, get, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, status};

const BOTH: [UpstreamProtocol; 2] = [UpstreamProtocol::Http1, UpstreamProtocol::Http2];

/// Responds to every request once its body has come. With `early`, sends a head and half of the response before
/// that.
fn origin(protocol: UpstreamProtocol, early: bool) -> Origin {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    match protocol {
        UpstreamProtocol::Http1 => Origin::start(async move |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                if early {
                    visitor.send(head).await;
                }
                if request.contains("chunked") {
                    visitor.read_chunked().await;
                }
                visitor.send(if early { "world" } else { HELLO }).await;
            }
        }),
        UpstreamProtocol::Http2 => Origin::start(async move |visitor: Visitor| {
            let service = service_fn(move |request: Request<Incoming>| async move {
                let mut body = request.into_body();
                let rest = async move {
                    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
                        frame?;
                    }
                    Ok::<_, hyper::Error>(Frame::data(Bytes::from_static(b"world")))
                };
                let first = stream::iter(early.then(|| Ok(Frame::data(Bytes::from_static(b"hello")))));
                if early {
                    return Ok(Response::new(StreamBody::new(first.chain(stream::once(rest)).boxed_local())));
                }
                let last = rest.await?;
                let all = stream::iter([Ok(last)]).boxed_local();
                Ok::<_, hyper::Error>(Response::new(StreamBody::new(all)))
            });
            let builder = hyper::server::conn::http2::Builder::new(OwnCore);
            let _ = builder.serve_connection(TokioIo::new(visitor.stream), service).await;
        }),
        UpstreamProtocol::Tcp => panic!("these tests are about requests"),
    }
}

/// An upstream in which a single failure opens the breakers of endpoint and upstream and ejects the endpoint.
fn strict(protocol: UpstreamProtocol, origin: &Origin, other: &Origin) -> Upstream {
    let settings = settings(&[origin.address, other.address]);
    let minute = Duration::from_secs(60);
    let breaker =
        Breaker { consecutive_failures: 1, open_for: minute, max_open_for: minute, ..settings.breaker };
    let ejection = Ejection { consecutive_faults: 1, base_time: minute, ..settings.ejection };
    let mut upstream = Upstream { protocol, breaker, ejection, upstream_breaker: Some(breaker), ..settings };
    // The other endpoint exists so that the first may be ejected.
    upstream.endpoints[1].priority = 1;
    upstream
}

fn assert_blameless(snapshot: &Snapshot, what: &str) {
    let status = status(&snapshot.upstreams).remove(0);
    assert_eq!(status.breaker, Some(BreakerState::Closed), "{what}");
    let endpoint = &status.endpoints[0];
    assert_eq!(
        (endpoint.breaker, endpoint.ejected_for, endpoint.requests_failed),
        (BreakerState::Closed, None, 0),
        "{what}"
    );
}

/// A body of two pieces that ends with `error` once `may` is ready.
fn ending(error: Option<FaultKind>, may: impl Future + 'static) -> Body {
    let error: BodyError = match error {
        Some(kind) => Box::new(Fault::new(kind).detail("said by the body")),
        None => "reset by peer".into(),
    };
    let pieces = stream::iter([Ok(Frame::data(Bytes::from_static(b"one"))), Ok(Frame::data("two".into()))]);
    let end = stream::once(async {
        may.await;
        Err(error)
    });
    Body::wrap(StreamBody::new(pieces.chain(end).boxed_local()))
}

#[test]
fn an_upload_that_fails_decides_what_is_told_and_blames_nobody() {
    for protocol in BOTH {
        run(async {
            let (origin, other) = (origin(protocol, false), origin(protocol, false));
            let snapshot = snapshot(strict(protocol, &origin, &other));
            for kind in [
                Some(FaultKind::BodyTooLarge),
                Some(FaultKind::BadRequest),
                Some(FaultKind::BodyTimeout),
                Some(FaultKind::PluginFailed),
                // Whatever the kind of the fault is, the body is its source.
                Some(FaultKind::UpstreamReset),
                None,
            ] {
                // Not at once, so that the request is in flight.
                let may = tokio::time::sleep(Duration::from_millis(10));
                let fault = send(&snapshot, Method::PUT, ending(kind, may)).await.unwrap_err();
                assert_eq!(fault.kind, kind.unwrap_or(FaultKind::ClientGone), "{protocol:?}");
                assert_eq!(fault.detail.as_deref(), kind.map(|_| "said by the body"), "{protocol:?}");
                assert_blameless(&snapshot, &format!("{protocol:?}, {kind:?}"));
            }
            get(&snapshot).await.unwrap();
            assert_eq!(other.connections(), 0, "{protocol:?}");
        });
    }
}

#[test]
fn an_upload_that_fails_behind_an_early_answer_blames_nobody() {
    for protocol in BOTH {
        run(async {
            let (origin, other) = (origin(protocol, true), origin(protocol, true));
            let snapshot = snapshot(strict(protocol, &origin, &other));
            for kind in [Some(FaultKind::BodyTooLarge), None] {
                let (answered, may) = tokio::sync::oneshot::channel();
                let answer = send(&snapshot, Method::POST, ending(kind, may)).await.unwrap();
                answered.send(()).unwrap();
                let broken = testing::bytes(answer.into_body()).await.unwrap_err();
                let fault = broken.downcast::<Fault>().unwrap();
                assert_eq!(fault.kind, kind.unwrap_or(FaultKind::ClientGone), "{protocol:?}");
                assert_blameless(&snapshot, &format!("{protocol:?}, {kind:?}"));
            }
        });
    }
}

/// A body with one piece, and the rest after a pause.
fn halting(pause: Duration) -> Body {
    let first = stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"one")))]);
    let rest = stream::once(async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(Bytes::from_static(b"two")))
    });
    Body::wrap(StreamBody::new(first.chain(rest).boxed_local()))
}

#[test]
fn while_the_client_halts_the_endpoint_is_neither_late_nor_slow() {
    for protocol in BOTH {
        run(async {
            let (origin, other) = (origin(protocol, false), origin(protocol, false));
            let mut upstream = strict(protocol, &origin, &other);
            let slow = Duration::from_millis(150);
            upstream.first_byte_timeout = slow;
            let breaker = Breaker { slow_ratio: 0.1, slow_call: slow, min_requests: 1, ..upstream.breaker };
            (upstream.breaker, upstream.upstream_breaker) = (breaker, Some(breaker));
            let snapshot = snapshot(upstream);
            let answer = send(&snapshot, Method::POST, halting(3 * slow)).await.unwrap();
            testing::bytes(answer.into_body()).await.unwrap();
            assert_blameless(&snapshot, &format!("{protocol:?}"));
            // The client goes away after it has kept the endpoint waiting.
            tokio::select! {
                _ = send(&snapshot, Method::POST, halting(100 * slow)) => panic!("the body never ends"),
                () = tokio::time::sleep(2 * slow) => {}
            }
            assert_blameless(&snapshot, &format!("{protocol:?}"));
        });
    }
}

#[test]
fn an_answer_that_waits_for_the_client_ends_without_blame() {
    for protocol in BOTH {
        run(async {
            let (origin, other) = (origin(protocol, true), origin(protocol, true));
            let mut upstream = strict(protocol, &origin, &other);
            upstream.idle_timeout = Some(Duration::from_millis(50));
            let snapshot = snapshot(upstream);
            let answer = send(&snapshot, Method::POST, halting(Duration::from_secs(60))).await.unwrap();
            assert!(testing::bytes(answer.into_body()).await.is_err());
            assert_blameless(&snapshot, &format!("{protocol:?}"));
        });
    }
}

#[test]
fn an_endpoint_that_takes_the_whole_upload_and_is_silent_is_at_fault() {
    run(async {
        let silent = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let other = origin(UpstreamProtocol::Http1, false);
        let mut upstream = strict(UpstreamProtocol::Http1, &silent, &other);
        upstream.first_byte_timeout = Duration::from_millis(50);
        let snapshot = snapshot(upstream);
        let body = testing::chunks(vec![Ok(b"one"), Ok(b"two")]);
        let fault = send(&snapshot, Method::POST, body).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::FirstByteTimeout);
        assert_eq!(status(&snapshot.upstreams)[0].endpoints[0].breaker, BreakerState::Open);
    });
}

/// Sends a head and half of the body, then resets the stream with this code.
fn breaking_off(reason: h2::Reason) -> Origin {
    Origin::start(async move |visitor: Visitor| {
        let mut connection = h2::server::handshake(visitor.stream).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data("half".into(), false).unwrap();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                body.send_reset(reason);
            });
        }
    })
}

#[test]
fn an_answer_that_the_endpoint_resets_is_not_whole_whatever_the_code() {
    for reason in [h2::Reason::CANCEL, h2::Reason::NO_ERROR, h2::Reason::INTERNAL_ERROR] {
        run(async {
            let origin = breaking_off(reason);
            let upstream = Upstream { protocol: UpstreamProtocol::Http2, ..settings(&[origin.address]) };
            let snapshot = snapshot(upstream);
            assert_eq!(get(&snapshot).await.unwrap_err().kind, FaultKind::UpstreamReset, "{reason:?}");
            let failed = || status(&snapshot.upstreams)[0].endpoints[0].requests_failed;
            eventually("it is counted", || failed() == 1).await;
        });
    }
}

#[test]
fn what_the_gateway_asks_of_http2_in_vain_blames_nobody() {
    run(async {
        let protocol = UpstreamProtocol::Http2;
        let (origin, other) = (origin(protocol, false), origin(protocol, false));
        let snapshot: Arc<Snapshot> = snapshot(strict(protocol, &origin, &other));
        // No stage lets such a header pass. If one did, the endpoint would not be at fault.
        let headers = [("keep-alive", "timeout=5")];
        let mut exchange = super::exchange(&snapshot, Method::GET, &headers);
        if let Err(fault) = super::forward(&mut exchange, Body::Empty).await {
            assert_eq!(fault.kind, FaultKind::Internal);
        }
        assert_blameless(&snapshot, "a header of one hop");
    });
}
