//! Bodies that stream, with back-pressure both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::io::AsyncWriteExt;

use super::origin::{Origin, Visitor};
use super::{HELLO, send, settings, snapshot};
use crate::body::{Body, BodyError};
use crate::testing::run;

const PIECE: usize = 64 * 1024;
/// More than sockets and windows hold.
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
            assert_eq!(crate::testing::bytes(response.into_body()).await.unwrap(), "large");
            assert_eq!(origin.connections(), round);
        }
    });
}
