//! A request that an HTTP/2 endpoint says it did not process is sent again with its body, whatever its method.
//! Other requests are not.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use witgate_config::model::{Breaker, Upstream, UpstreamProtocol};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::FaultKind;

use super::http2::OwnCore;
use super::origin::{Origin, Visitor};
use super::{send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, status};

/// How an endpoint refuses a request.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// GOAWAY that names an earlier stream as the last, with this code.
    GoAway(u8),
    /// GOAWAY that covers the stream, followed by the end of the connection.
    Covered,
    /// RST_STREAM with INTERNAL_ERROR.
    Error,
}

/// A frame in its wire format (RFC 9113 section 4.1): type, flags, stream, payload.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

fn go_away(last: u32, code: u8) -> Vec<u8> {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend([0, 0, 0, code]);
    frame(7, 0, 0, &payload)
}

/// Reads a connection frame by frame until this many bytes of a body have come, and refuses its stream.
async fn refuse(mut visitor: Visitor, refusal: Refusal, after: usize) {
    let mut preface = [0; 24];
    visitor.stream.read_exact(&mut preface).await.unwrap();
    visitor.stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    let (mut stream, mut seen) = (0, 0);
    while stream == 0 || seen < after {
        let mut head = [0; 9];
        visitor.stream.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        visitor.stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            0 => seen += length,
            1 => stream = u32::from_be_bytes(head[5..].try_into().unwrap()),
            4 if head[4] == 0 => visitor.stream.write_all(&frame(4, 1, 0, &[])).await.unwrap(),
            _ => {}
        }
    }
    let said = match refusal {
        Refusal::Error => frame(3, 0, stream, &[0, 0, 0, 2]),
        Refusal::GoAway(code) => go_away(stream - 1, code),
        Refusal::Covered => go_away(stream, 0),
    };
    visitor.stream.write_all(&said).await.unwrap();
    if !matches!(refusal, Refusal::Covered) {
        visitor.closed().await;
    }
}

/// Refuses the first stream of its first `times` connections once this many bytes of its body have come, and ends
/// those connections. On others it echoes the request body.
fn refusing(refusal: Refusal, times: usize, after: usize) -> Origin {
    Origin::start(async move |visitor: Visitor| {
        if visitor.number < times {
            return refuse(visitor, refusal, after).await;
        }
        let service = service_fn(async |request: Request<Incoming>| {
            let body = request.into_body().collect().await?;
            let trailers = body.trailers().cloned();
            let frames = [Some(Frame::data(body.to_bytes())), trailers.map(Frame::trailers)];
            let frames = frames.into_iter().flatten().map(Ok::<_, hyper::Error>);
            Ok::<_, hyper::Error>(Response::new(StreamBody::new(stream::iter(frames))))
        });
        let builder = hyper::server::conn::http2::Builder::new(OwnCore);
        let _ = builder.serve_connection(TokioIo::new(visitor.stream), service).await;
    })
}

/// An upstream with one endpoint whose breaker opens at a single failure of any kind.
fn upstream(origin: &Origin) -> Upstream {
    let settings = settings(&[origin.address]);
    let breaker = Breaker { failure_ratio: 0.01, min_requests: 1, ..settings.breaker };
    Upstream { protocol: UpstreamProtocol::Http2, breaker, ..settings }
}

/// Three pieces and trailers: one piece at once, one soon, one only after the first attempt was refused.
fn streaming() -> Body {
    let pieces = stream::iter([
        (0, Frame::data(Bytes::from_static(b"one "))),
        (5, Frame::data("two ".into())),
        (50, Frame::data("three".into())),
        (0, Frame::trailers([(http::header::ETAG, "x".parse().unwrap())].into_iter().collect())),
    ]);
    let pieces = pieces.then(async |(pause, frame)| {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        Ok::<_, BodyError>(frame)
    });
    Body::wrap(StreamBody::new(pieces.boxed_local()))
}

fn kept(snapshot: &Snapshot) -> usize {
    snapshot.upstreams["origin"].carried.tries.kept()
}

async fn post(snapshot: &Arc<Snapshot>, body: Body) -> (String, Option<String>) {
    let answer = send(snapshot, Method::POST, body).await.unwrap();
    assert_eq!(kept(snapshot), 0, "nothing is kept once there is a head");
    let collected = answer.into_body().collect().await.unwrap();
    let trailer = collected.trailers().map(|trailers| trailers["etag"].to_str().unwrap().to_owned());
    (String::from_utf8(collected.to_bytes().to_vec()).unwrap(), trailer)
}

#[test]
fn a_post_that_was_not_processed_is_sent_again_with_its_body() {
    for refusal in [Refusal::GoAway(0), Refusal::GoAway(11), Refusal::GoAway(2)] {
        for after in [0, 4, 8] {
            run(async {
                let origin = refusing(refusal, 1, after);
                let snapshot = snapshot(upstream(&origin));
                let (text, trailer) = post(&snapshot, streaming()).await;
                assert_eq!(
                    (&*text, trailer.as_deref()),
                    ("one two three", Some("x")),
                    "{refusal:?}, {after}"
                );
                assert_eq!(origin.connections(), 2, "{refusal:?}, {after}");
            });
        }
    }
}

/// Refuses the first stream of each connection, and serves the others.
fn fussy() -> Origin {
    Origin::start(async |visitor: Visitor| {
        let mut connection = h2::server::handshake(visitor.stream).await.unwrap();
        let mut first = true;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let refuse = std::mem::replace(&mut first, false);
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                let mut text = Vec::new();
                while let Some(Ok(data)) = body.data().await {
                    text.extend_from_slice(&data);
                    let _ = body.flow_control().release_capacity(data.len());
                    if refuse {
                        return respond.send_reset(h2::Reason::REFUSED_STREAM);
                    }
                }
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                answer.send_data(text.into(), true).unwrap();
            });
        }
    })
}

#[test]
fn a_stream_that_is_refused_goes_again_on_the_same_connection() {
    run(async {
        let origin = fussy();
        let snapshot = snapshot(upstream(&origin));
        let body = || testing::chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")]);
        for _ in 0..3 {
            assert_eq!(post(&snapshot, body()).await.0, "one two three");
        }
        assert_eq!(origin.connections(), 1);
        // A single byte, once as a streaming body and once as a body in memory.
        assert_eq!(post(&snapshot, testing::chunks(vec![Ok(b"x")])).await.0, "x");
        assert_eq!(post(&snapshot, Body::Full("x".into())).await.0, "x");
    });
}

#[test]
fn an_endpoint_that_leaves_in_good_order_has_not_failed() {
    run(async {
        let origin = refusing(Refusal::GoAway(0), 1, 4);
        let snapshot = snapshot(upstream(&origin));
        assert_eq!(post(&snapshot, streaming()).await.0, "one two three");
        let endpoint = status(&snapshot.upstreams).remove(0).endpoints.remove(0);
        assert_eq!((endpoint.breaker, endpoint.requests_failed), (BreakerState::Closed, 0));
    });
}

#[test]
fn what_may_have_been_processed_is_not_sent_again() {
    for refusal in [Refusal::Covered, Refusal::Error] {
        run(async {
            let origin = refusing(refusal, 1, 8);
            let snapshot = snapshot(upstream(&origin));
            let fault = send(&snapshot, Method::POST, streaming()).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::UpstreamReset, "{refusal:?}");
            assert_eq!(origin.connections(), 1, "{refusal:?}");
            assert_eq!(kept(&snapshot), 0);
        });
    }
}

#[test]
fn a_body_beyond_the_bounds_is_sent_once() {
    for (each, all) in [(6, 1000), (1000, 6)] {
        run(async {
            let origin = refusing(Refusal::GoAway(0), 1, 8);
            let mut upstream = upstream(&origin);
            (upstream.retry.body_bytes, upstream.retry.all_body_bytes) = (each, all);
            let snapshot = snapshot(upstream);
            let fault = send(&snapshot, Method::POST, streaming()).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::UpstreamReset);
            assert_eq!((origin.connections(), kept(&snapshot)), (1, 0));
        });
    }
}

/// A body that declares its length and comes in pieces.
struct Declared {
    left: usize,
}

impl http_body::Body for Declared {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let piece = self.left.min(16 * 1024);
        self.left -= piece;
        Poll::Ready((piece > 0).then(|| Ok(Frame::data(vec![b'x'; piece].into()))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[test]
fn a_long_body_is_sent_again_if_not_too_much_of_it_had_gone_on() {
    // When the endpoint refuses, it has at most the first window of 64 KiB.
    for (length, limit) in [(200_000, 128 * 1024), (200_000, 1 << 20), (2_000_000, 128 * 1024)] {
        for after in [0, 10] {
            run(async {
                let origin = refusing(Refusal::GoAway(0), 1, after);
                let mut upstream = upstream(&origin);
                upstream.retry.body_bytes = limit;
                let snapshot = snapshot(upstream);
                let (text, _) = post(&snapshot, Body::wrap(Declared { left: length })).await;
                assert_eq!((text.len(), origin.connections()), (length, 2), "{length}, {limit}, {after}");
            });
        }
    }
}

/// Serves this number of requests on each connection, then sends GOAWAY while others are in flight and ignores
/// those, as nginx does with `keepalive_requests`.
fn short_lived(requests: u32) -> Origin {
    Origin::start(async move |visitor: Visitor| {
        let mut connection = h2::server::handshake(visitor.stream).await.unwrap();
        let mut served = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            served += 1;
            if served > requests {
                // The crate h2 names the last accepted stream, so the others are refused one by one.
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                connection.graceful_shutdown();
                continue;
            }
            tokio::task::spawn_local(async move {
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                }
                let mut answer = respond.send_response(Response::new(()), false).unwrap();
                answer.send_data("done".into(), true).unwrap();
            });
        }
    })
}

#[test]
fn no_post_of_a_crowd_is_lost_while_connections_come_and_go() {
    run(async {
        let origin = short_lived(20);
        let snapshot = snapshot(upstream(&origin));
        let clients = (0..12).map(async |_| {
            for _ in 0..40 {
                let body = testing::chunks(vec![Ok(b"some "), Ok(b"data")]);
                let answer = send(&snapshot, Method::POST, body).await.unwrap();
                assert_eq!(testing::bytes(answer.into_body()).await.unwrap(), "done");
            }
        });
        futures_util::future::join_all(clients).await;
        assert!(origin.connections() > 10, "connections did not come and go");
    });
}
