use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::io::AsyncReadExt;
use witgate_exchange::body::BodyError;

use super::super::tests::{self, build};
use super::*;
use crate::testing;

const TEXT: &str = "a line that is there again and again\n";

fn ask(method: Method, accept: &str, response: Response<Body>) -> Response<Body> {
    let filter = build("compression", json!({ "min_size": 100 })).expect("good settings");
    let mut facts = testing::facts(testing::head(method, "/", &[("accept-encoding", accept)]));
    tests::response(&*filter, &mut facts, response)
}

fn long(headers: &[(&str, &str)]) -> Response<Body> {
    testing::response(headers, TEXT.repeat(1000))
}

fn decode(coding: &str, bytes: &[u8]) -> String {
    use async_compression::tokio::bufread::{BrotliDecoder, GzipDecoder, ZstdDecoder};
    let mut text = String::new();
    testing::run(async {
        match coding {
            "gzip" => GzipDecoder::new(bytes).read_to_string(&mut text).await,
            "br" => BrotliDecoder::new(bytes).read_to_string(&mut text).await,
            _ => ZstdDecoder::new(bytes).read_to_string(&mut text).await,
        }
    })
    .expect("well-formed");
    text
}

#[test]
fn what_comes_out_is_what_went_in() {
    for coding in ["gzip", "br", "zstd"] {
        let headers =
            [("content-type", "text/plain; charset=utf-8"), ("etag", "\"1\""), ("accept-ranges", "bytes")];
        let response = ask(Method::GET, coding, long(&headers));
        assert_eq!(response.headers()["content-encoding"], coding);
        assert_eq!(response.headers()["etag"], "W/\"1\"");
        assert_eq!(response.headers()["vary"], "accept-encoding");
        assert!(!response.headers().contains_key("accept-ranges"));
        let bytes = testing::run(testing::bytes(response.into_body())).expect("a body");
        assert!(bytes.len() < TEXT.len() * 100, "{coding}: {} bytes", bytes.len());
        assert_eq!(decode(coding, &bytes), TEXT.repeat(1000), "{coding}");
    }
}

#[test]
fn some_responses_are_left_alone() {
    let json = ("content-type", "application/json");
    for (why, response) in [
        ("encoded", long(&[json, ("content-encoding", "br")])),
        ("no-transform", long(&[json, ("cache-control", "public, No-Transform")])),
        ("a part", long(&[json, ("content-range", "bytes 0-9/10")])),
        ("type", long(&[("content-type", "image/png")])),
        ("no type", long(&[])),
        ("events", long(&[("content-type", "text/event-stream")])),
        ("small", testing::response(&[json], "{}")),
    ] {
        let before = response.headers().get("content-encoding").cloned();
        let response = ask(Method::GET, "gzip", response);
        assert_eq!(response.headers().get("content-encoding").cloned(), before, "{why}");
        assert!(!response.headers().contains_key("vary"), "{why}");
    }
    let response = ask(Method::GET, "identity", long(&[json]));
    assert!(!response.headers().contains_key("content-encoding"));
    assert_eq!(response.headers()["vary"], "accept-encoding", "another client would get another answer");
}

#[test]
fn head_says_what_get_would_without_a_length() {
    let mut response = Response::new(Body::Empty);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("37000"));
    let response = ask(Method::HEAD, "gzip", response);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    assert!(!response.headers().contains_key("content-length"));
}

/// The upstream sends a first chunk, then pauses until the client has read it.
#[test]
fn a_pause_of_the_upstream_flushes_what_is_there() {
    testing::run(async {
        let read = Arc::new(tokio::sync::Notify::new());
        let wait = Arc::clone(&read);
        let frames = futures_util::stream::unfold(0, move |step| {
            let wait = Arc::clone(&wait);
            async move {
                match step {
                    0 => Some((Ok::<_, BodyError>(http_body::Frame::data(Bytes::from_static(b"first"))), 1)),
                    1 => {
                        wait.notified().await;
                        Some((Ok(http_body::Frame::data(Bytes::from_static(b"second"))), 2))
                    }
                    _ => None,
                }
            }
        });
        let body = Body::wrap(http_body_util::StreamBody::new(Box::pin(frames)));
        let mut body = Compressed::new(body, Coding::Gzip);
        let first = body.frame().await.expect("a frame").expect("bytes").into_data().expect("data");
        assert!(!first.is_empty());
        read.notify_one();
        let rest = body.collect().await.expect("the rest").to_bytes();
        let whole = [first, rest].concat();
        let mut text = String::new();
        async_compression::tokio::bufread::GzipDecoder::new(&whole[..])
            .read_to_string(&mut text)
            .await
            .expect("well-formed");
        assert_eq!(text, "firstsecond");
    });
}

#[test]
fn a_body_that_fails_is_not_ended_cleanly() {
    let mut response = Response::new(testing::chunks(vec![Ok(b"half"), Err("reset")]));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    let response = ask(Method::GET, "gzip", response);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    testing::run(testing::bytes(response.into_body())).expect_err("the upstream's failure");
}

#[test]
fn settings_are_checked() {
    assert!(build("compression", json!({ "types": ["json"] })).is_err());
    assert!(build("compression", json!({ "codings": [] })).is_err());
    assert!(build("compression", json!({ "codings": ["deflate"] })).is_err());
}

#[test]
fn what_was_not_modified_has_the_fields_of_what_is_stored() {
    let not_modified = |headers: &[(&str, &str)]| {
        let mut response = testing::response(headers, "");
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    };
    let told = |accept: &str, headers: &[(&str, &str)]| {
        let response = ask(Method::GET, accept, not_modified(headers));
        let field = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        (field("etag").unwrap_or_default(), field("vary").unwrap_or_default())
    };
    let tag = ("etag", "\"1\"");
    let expected = |tag: &str, vary: &str| (tag.to_owned(), vary.to_owned());
    assert_eq!(told("gzip", &[tag]), expected("W/\"1\"", "accept-encoding"));
    assert_eq!(told("gzip", &[tag, ("content-type", "text/html")]), expected("W/\"1\"", "accept-encoding"));
    assert_eq!(told("identity", &[tag]), expected("\"1\"", "accept-encoding"));
    assert_eq!(told("gzip", &[("etag", "W/\"1\"")]), expected("W/\"1\"", "accept-encoding"));
    assert_eq!(told("gzip", &[tag, ("vary", "origin")]).0, "W/\"1\"");
    for alone in
        [("content-type", "image/png"), ("cache-control", "no-transform"), ("content-encoding", "br")]
    {
        assert_eq!(told("gzip", &[tag, alone]), expected("\"1\"", ""), "{alone:?}");
    }
}

#[test]
fn a_304_keeps_the_tag_of_a_response_that_was_not_compressed() {
    let told = |held: &'static str, tag: &'static str| {
        let filter = build("compression", json!({})).expect("good settings");
        let fields = [("accept-encoding", "gzip"), ("if-none-match", held)];
        let mut facts = testing::facts(testing::head(Method::GET, "/", &fields));
        let mut response = testing::response(&[("etag", tag)], "");
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        let response = testing::run(filter.response(&mut facts, response));
        response.headers()["etag"].to_str().expect("text").to_owned()
    };
    for (held, tag, expected) in [
        // What the client has was too short, or of another type.
        ("\"1\"", "\"1\"", "\"1\""),
        ("\"0\", \"1\"", "\"1\"", "\"1\""),
        ("W/\"0\" ,\"1\"", "\"1\"", "\"1\""),
        ("\"a,\", \"1\"", "\"1\"", "\"1\""),
        // What it has was compressed.
        ("W/\"1\"", "\"1\"", "W/\"1\""),
        ("\"0\", W/\"1\"", "\"1\"", "W/\"1\""),
        // It has both, or it does not say.
        ("\"1\", W/\"1\"", "\"1\"", "W/\"1\""),
        ("*", "\"1\"", "W/\"1\""),
        ("\"0\"", "\"1\"", "W/\"1\""),
        ("1", "\"1\"", "W/\"1\""),
        ("\"1", "\"1\"", "W/\"1\""),
        ("\"1\"", "W/\"1\"", "W/\"1\""),
    ] {
        assert_eq!(told(held, tag), expected, "{held} {tag}");
    }
}
