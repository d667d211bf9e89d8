//! Streaming bodies, with back-pressure in both directions.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, Method};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::{BodyExt, StreamBody};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use witgate_exchange::body::{Body, BodyError};
use witgate_exchange::fault::FaultKind;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, send, settings, snapshot};
use crate::testing::{self, run};

const PIECE: usize = 64 * 1024;
/// More pieces than sockets and windows can hold.
const PIECES: usize = 512;

/// Waits until a number stops growing, and returns it.
async fn settled(number: &AtomicUsize) -> usize {
    loop {
        let before = number.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(100)).await;
        if before > 0 && number.load(Ordering::SeqCst) == before {
            return before;
        }
    }
}

#[test]
fn a_client_that_does_not_read_holds_the_endpoint_up() {
    run(async {
        let written = Arc::new(AtomicUsize::new(0));
        let writing = written.clone();
        let origin = Origin::start(async move |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", PIECE * PIECES)).await;
            for _ in 0..PIECES {
                if visitor.stream.write_all(&[b'x'; PIECE]).await.is_err() {
                    return;
                }
                writing.fetch_add(PIECE, Ordering::SeqCst);
            }
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let response = send(&snapshot, Method::GET, Body::Empty).await.unwrap();
        let held = settled(&written).await;
        assert!(held < PIECE * PIECES, "the whole body was taken in");
        let mut body = response.into_body();
        let mut read = 0;
        while let Some(frame) = body.frame().await {
            read += frame.unwrap().into_data().unwrap().len();
        }
        assert_eq!(read, PIECE * PIECES);
    });
}

#[test]
fn an_endpoint_that_does_not_read_holds_the_client_up() {
    run(async {
        let go = Arc::new(tokio::sync::Notify::new());
        let gone = go.clone();
        let origin = Origin::start(async move |mut visitor: Visitor| {
            gone.notified().await;
            visitor.request().await;
            visitor.read_to(PIECE * PIECES).await;
            visitor.send(HELLO).await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        let taken = Arc::new(AtomicUsize::new(0));
        let taking = taken.clone();
        let frames = futures_util::stream::iter(0..PIECES).map(move |_| {
            taking.fetch_add(PIECE, Ordering::SeqCst);
            Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; PIECE])))
        });
        let frames = Body::wrap(StreamBody::new(frames));
        let sending = send(&snapshot, Method::POST, frames);
        let watching = async {
            let held = settled(&taken).await;
            assert!(held < PIECE * PIECES, "the whole body was taken from the client");
            go.notify_one();
        };
        let (response, ()) = tokio::join!(sending, watching);
        assert_eq!(response.unwrap().status(), 200);
        assert_eq!(taken.load(Ordering::SeqCst), PIECE * PIECES);
    });
}

#[test]
fn a_response_that_comes_before_the_request_is_through_ends_the_connection() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 5\r\n\r\nlarge").await;
            visitor.closed().await;
        });
        let snapshot = snapshot(settings(&[origin.address]));
        for round in 1..=2 {
            let endless = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, BodyError>>());
            let response = send(&snapshot, Method::POST, Body::wrap(endless)).await.unwrap();
            assert_eq!(response.status(), 413);
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "large");
            assert_eq!(origin.connections(), round);
        }
    });
}

#[test]
fn a_request_is_sent_on_while_its_answer_is_read() {
    run(async {
        let origin = Origin::start(async |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                visitor.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await;
                visitor.read_to(PIECE * PIECES).await;
                visitor.send(" last").await;
            }
        });
        let snapshot = snapshot(settings(&[origin.address]));
        for _ in 0..2 {
            let frames = futures_util::stream::iter(0..PIECES)
                .map(|_| Ok::<_, BodyError>(Frame::data(Bytes::from(vec![b'x'; PIECE]))));
            let response = send(&snapshot, Method::POST, Body::wrap(StreamBody::new(frames))).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "first last");
        }
        assert_eq!(origin.connections(), 1, "both were through, both ways");
    });
}

/// An origin that responds to a chunked request with its undecoded body.
fn reflecting() -> Origin {
    Origin::start(async |mut visitor: Visitor| {
        while visitor.request().await.is_some() {
            let mut text = String::new();
            while !text.contains("0\r\n") || !text.ends_with("\r\n\r\n") {
                if visitor.stream.read_line(&mut text).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let length = text.len();
            visitor.send(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")).await;
        }
    })
}

#[test]
fn only_the_end_of_a_request_ends_its_chunks_and_trailers_follow_it() {
    run(async {
        let origin = reflecting();
        let snapshot = snapshot(settings(&[origin.address]));
        let data = |text: &'static str| Ok::<_, BodyError>(Frame::data(Bytes::from_static(text.as_bytes())));
        let trailers: HeaderMap = [("x-sum", "7"), ("content-length", "9"), ("transfer-encoding", "gzip")]
            .into_iter()
            .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap()))
            .collect();
        for (frames, seen) in [
            (vec![data(""), data("da"), data(""), data("ta")], "2\r\nda\r\n2\r\nta\r\n0\r\n\r\n"),
            (vec![data("data"), Ok(Frame::trailers(trailers))], "4\r\ndata\r\n0\r\nx-sum: 7\r\n\r\n"),
            (vec![], "0\r\n\r\n"),
        ] {
            let body = Body::wrap(StreamBody::new(futures_util::stream::iter(frames)));
            let response = send(&snapshot, Method::POST, body).await.unwrap();
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), seen);
        }
        assert_eq!(origin.connections(), 1);
    });
}

/// A body whose length differs from the declared one.
struct Announced {
    body: Body,
    length: u64,
}

impl HttpBody for Announced {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.length)
    }
}

#[test]
fn a_body_that_is_not_as_long_as_it_said_never_looks_whole() {
    run(async {
        let origin = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[origin.address]));
        for length in [3, 5] {
            let body = Announced { body: testing::chunks(vec![Ok(b"da"), Ok(b"ta")]), length };
            let fault = send(&snapshot, Method::POST, Body::wrap(body)).await.unwrap_err();
            assert_eq!(fault.kind, FaultKind::ClientGone, "{length}: {fault}");
            let limit = &snapshot.upstreams["origin"].carried.limit;
            eventually("the connection is closed", || limit.open() == 0).await;
        }
        assert!(origin.requests().is_empty(), "{:?}", origin.requests());
    });
}
