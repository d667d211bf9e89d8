//! Endpoints that speak HTTP/2.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use witgate_config::model::{Breaker, Ejection, Upstream, UpstreamProtocol};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::{Fault, FaultKind};

use super::origin::{Origin, Visitor};
use super::{eventually, exchange, get, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, status};

#[derive(Clone, Copy)]
pub(crate) struct OwnCore;

impl<F: Future + 'static> hyper::rt::Executor<F> for OwnCore {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// Echoes the body, with trailers that contain the number of requests on this connection. Allows two concurrent
/// streams.
fn echo() -> Origin {
    Origin::start(async |visitor: Visitor| {
        let count = Rc::new(Cell::new(0));
        let service = service_fn(move |request: Request<Incoming>| {
            count.set(count.get() + 1);
            let count = count.get();
            async move {
                assert_eq!(request.version(), Version::HTTP_2);
                let mut trailers = HeaderMap::new();
                trailers.insert("x-count", count.into());
                trailers.insert("x-te", request.headers()["te"].clone());
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let frames = [Ok::<_, Infallible>(Frame::data(body)), Ok(Frame::trailers(trailers))];
                Ok::<_, Infallible>(Response::new(StreamBody::new(futures_util::stream::iter(frames))))
            }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(OwnCore);
        builder.max_concurrent_streams(2);
        let _ = builder.serve_connection(TokioIo::new(visitor.stream), service).await;
    })
}

fn http2(origin: &Origin) -> Upstream {
    Upstream { protocol: UpstreamProtocol::Http2, ..settings(&[origin.address]) }
}

#[test]
fn requests_share_a_connection_and_trailers_pass() {
    run(async {
        let origin = echo();
        let snapshot = snapshot(http2(&origin));
        for count in ["1", "2", "3"] {
            let response = send(&snapshot, Method::POST, Body::Full("ping".into())).await.unwrap();
            let collected = response.into_body().collect().await.unwrap();
            let trailers = collected.trailers().unwrap();
            assert_eq!(
                (trailers["x-count"].to_str().unwrap(), &trailers["x-te"]),
                (count, &"trailers".parse().unwrap())
            );
            assert_eq!(collected.to_bytes(), "ping");
        }
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn a_crowd_is_served_within_the_streams_and_connections_there_may_be() {
    run(async {
        let origin = echo();
        let mut settings = http2(&origin);
        settings.max_connections = 2;
        let snapshot = snapshot(settings);
        // The first request makes the allowed number of streams known.
        get(&snapshot).await.unwrap();
        let all = join_all((0..40).map(async |_| {
            let response =
                send(&snapshot, Method::POST, testing::chunks(vec![Ok(b"pi"), Ok(b"ng")])).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "ping");
        }));
        all.await;
        assert!(origin.connections() <= 2, "{} connections", origin.connections());
        assert_eq!(snapshot.upstreams["origin"].carried.limit.waiting(), 0);
    });
}

#[test]
fn a_connection_that_the_endpoint_is_leaving_is_not_used_again() {
    run(async {
        let origin = Origin::start(async |visitor: Visitor| {
            let service =
                service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(Response::new(String::new())));
            let builder = hyper::server::conn::http2::Builder::new(OwnCore);
            let serving = builder.serve_connection(TokioIo::new(visitor.stream), service);
            let mut serving = std::pin::pin!(serving);
            tokio::select! {
                _ = serving.as_mut() => {}
                () = tokio::time::sleep(Duration::from_millis(10)) => {
                    serving.as_mut().graceful_shutdown();
                    let _ = serving.await;
                }
            }
        });
        let snapshot = snapshot(http2(&origin));
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_millis(300) {
            send(&snapshot, Method::POST, Body::Full("x".into())).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert!(origin.connections() > 2, "the endpoint never left");
    });
}

#[test]
fn a_client_that_goes_away_resets_its_stream_only() {
    run(async {
        let origin = echo();
        let snapshot = snapshot(http2(&origin));
        get(&snapshot).await.unwrap();
        let endless =
            StreamBody::new(futures_util::stream::pending::<Result<Frame<bytes::Bytes>, BodyError>>());
        tokio::select! {
            _ = send(&snapshot, Method::POST, Body::wrap(endless)) => panic!("the body never ends"),
            () = tokio::time::sleep(Duration::from_millis(20)) => {}
        }
        get(&snapshot).await.unwrap();
        assert_eq!(origin.connections(), 1);
        let endpoint = &snapshot.upstreams["origin"].endpoint(0);
        eventually("nothing is in flight", || endpoint.active.load(Ordering::SeqCst) == 0).await;
    });
}

/// How an endpoint ends a connection with requests in it.
#[derive(Debug, Clone, Copy)]
enum End {
    /// The socket is closed.
    Closed,
    /// GOAWAY, as from a server that has seen too many resets.
    GoAway,
    /// Every stream is reset on its own, and the connection stays open.
    Resets,
}

/// Accepts `CROWD` requests on each connection and ends them in this way. With `heads` it first responds with a
/// head and half of the body, and waits for a permit for each head that has arrived.
fn ending(end: End, heads: Option<Arc<Semaphore>>) -> Origin {
    Origin::start(async move |visitor: Visitor| {
        let mut connection = h2::server::handshake(visitor.stream).await.unwrap();
        loop {
            let mut under_way = Vec::new();
            while under_way.len() < CROWD {
                let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                let body = heads.is_some().then(|| {
                    let mut body = respond.send_response(Response::new(()), false).unwrap();
                    body.send_data("half".into(), false).unwrap();
                    body
                });
                under_way.push((respond, body));
            }
            if let Some(heads) = &heads {
                tokio::select! {
                    // Polling the connection also writes pending frames.
                    _ = connection.accept() => return,
                    arrived = heads.acquire_many(CROWD as u32) => arrived.unwrap().forget(),
                }
            }
            match end {
                End::Closed => return,
                End::GoAway => connection.abrupt_shutdown(h2::Reason::ENHANCE_YOUR_CALM),
                End::Resets => {
                    for (mut respond, _) in under_way {
                        respond.send_reset(h2::Reason::INTERNAL_ERROR);
                    }
                }
            }
        }
    })
}

/// The number of requests on one connection.
const CROWD: usize = 8;

/// Sends this number of requests at the same time, none of which may be repeated. Each gets no response or half of
/// one.
async fn fail_together(snapshot: &Arc<Snapshot>, heads: Option<&Semaphore>) {
    let all = (0..CROWD).map(async |_| {
        let response = send(snapshot, Method::POST, Body::Full("x".into())).await;
        let fault = match response {
            Ok(response) => {
                heads.expect("no head was sent").add_permits(1);
                let broken = testing::bytes(response.into_body()).await.unwrap_err();
                *broken.downcast::<Fault>().unwrap()
            }
            Err(fault) => {
                assert!(heads.is_none(), "no head came: {fault}");
                fault
            }
        };
        assert_eq!(fault.kind, FaultKind::UpstreamReset, "{fault}");
    });
    join_all(all).await;
}

/// A breaker of an endpoint, one of the upstream, and an ejection, each of which needs three failures in a row.
fn strict(origin: &Origin, other: &Origin) -> Upstream {
    let settings = settings(&[origin.address, other.address]);
    let minute = Duration::from_secs(60);
    let breaker =
        Breaker { consecutive_failures: 3, open_for: minute, max_open_for: minute, ..settings.breaker };
    let ejection = Ejection { consecutive_faults: 3, base_time: minute, ..settings.ejection };
    let protocol = UpstreamProtocol::Http2;
    let mut upstream = Upstream { protocol, breaker, ejection, upstream_breaker: Some(breaker), ..settings };
    // The other endpoint exists so that one may be ejected. It gets no requests.
    upstream.endpoints[1].priority = 1;
    upstream
}

#[test]
fn requests_that_end_with_their_connection_are_one_failure() {
    for (end, halfway) in
        [(End::Closed, false), (End::GoAway, false), (End::Closed, true), (End::GoAway, true)]
    {
        run(async {
            let heads = halfway.then(|| Arc::new(Semaphore::new(0)));
            let (origin, other) = (ending(end, heads.clone()), echo());
            let snapshot = snapshot(strict(&origin, &other));
            for connection in 1..=3 {
                let before = status(&snapshot.upstreams).remove(0);
                assert_eq!(before.breaker, Some(BreakerState::Closed), "{end:?}, {connection}");
                assert_eq!(before.endpoints[0].breaker, BreakerState::Closed, "{end:?}, {connection}");
                assert_eq!(before.endpoints[0].ejected_for, None, "{end:?}, {connection}");
                fail_together(&snapshot, heads.as_deref()).await;
                assert_eq!(origin.connections(), connection);
            }
            let after = status(&snapshot.upstreams).remove(0);
            assert_eq!(after.breaker, Some(BreakerState::Open), "{end:?}");
            assert_eq!(after.endpoints[0].breaker, BreakerState::Open, "{end:?}");
            assert!(after.endpoints[0].ejected_for.is_some(), "{end:?}");
            assert_eq!(after.endpoints[0].requests_failed, 3 * CROWD as u64, "each is counted as failed");
        });
    }
}

#[test]
fn streams_that_are_reset_one_by_one_are_as_many_failures() {
    run(async {
        let (origin, other) = (ending(End::Resets, None), echo());
        let snapshot = snapshot(strict(&origin, &other));
        fail_together(&snapshot, None).await;
        let after = status(&snapshot.upstreams).remove(0);
        assert_eq!(after.breaker, Some(BreakerState::Open));
        assert_eq!(after.endpoints[0].breaker, BreakerState::Open);
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn an_upgrade_is_refused_and_an_endpoint_of_the_other_version_found_out() {
    run(async {
        let origin = echo();
        let snapshot = snapshot(http2(&origin));
        let mut upgrade = exchange(&snapshot, Method::GET, &[]);
        upgrade.facts.upgrade = Some("websocket".parse().unwrap());
        let fault = super::forward(&mut upgrade, Body::Empty).await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::UpgradeRefused);
    });
    run(async {
        let origin = Origin::answering(super::HELLO);
        let fault = get(&snapshot(http2(&origin))).await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::UpstreamProtocol | FaultKind::UpstreamReset), "{fault}");
    });
}
