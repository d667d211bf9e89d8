//! The framing of messages in both directions: what is dropped, what is refused, and what is made good.

use http::Request;
use http_body_util::{BodyExt, Empty};

use super::raw_origin::RawOrigin;
use super::{forward, http2_client, in_front_of, run};
use crate::listener::tests::{Client, start};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[test]
fn chunk_extensions_and_blanks_are_dropped_on_the_way_up_and_down() {
    let sizes =
        ["5;a=b", "5 ", "5\t", "5 ; a = \"b;\\\"c\" ; d", "5;signature=0123456789abcdef0123456789abcdef"];
    for size in sizes {
        let body = format!("{size}\r\nhello\r\n0 ;end\r\n\r\n");
        let origin = RawOrigin::serving(move |client| {
            let sent = client.until("0\r\n\r\n");
            assert_eq!(sent, "5\r\nhello\r\n0\r\n\r\n", "nothing of an extension goes upstream");
            client.send(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}").as_bytes());
        });
        let (_plane, address) = in_front_of(origin.address);
        let mut client = Client::connect(address);
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
        client.send(format!("{size}\r\nhello\r\n0 ;end\r\n\r\n").as_bytes());
        let told = client.rest();
        let (head, body) = told.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 200 "), "{size}: {told}");
        // The gateway states the length if it knows it.
        assert!(matches!(body, "hello" | "5\r\nhello\r\n0\r\n\r\n"), "{size}: {told}");
    }
}

#[test]
fn a_coding_that_is_unknown_here_is_not_implemented() {
    let (_plane, address) = start(|_| {});
    for (codings, status) in [
        ("transfer-encoding: gzip, chunked", 501),
        ("transfer-encoding: gzip\r\ntransfer-encoding: chunked", 501),
        ("transfer-encoding: br , Chunked", 501),
        ("transfer-encoding: identity, chunked", 501),
        ("transfer-encoding: gzip;q=1, chunked", 501),
        ("transfer-encoding: gzip ; level=\"9, chunked\" ,chunked", 501),
        ("transfer-encoding: gzip;a=1;b=2\r\ntransfer-encoding: chunked", 501),
        ("transfer-encoding: chunked;q=1", 400),
        ("transfer-encoding: gzip;q, chunked", 400),
        ("transfer-encoding: gzip;q=\"1, chunked", 400),
        ("transfer-encoding: gzip;q=1", 400),
        ("transfer-encoding: gzip", 400),
        ("transfer-encoding: chunked, gzip", 400),
        ("transfer-encoding: gzip, chunked, chunked", 400),
        ("transfer-encoding: gz ip, chunked", 400),
        ("transfer-encoding: , chunked", 400),
        ("transfer-encoding: gzip, chunked\r\ncontent-length: 3", 400),
    ] {
        let mut client = Client::connect(address);
        client.send(format!("POST / HTTP/1.1\r\nhost: a\r\n{codings}\r\n\r\n").as_bytes());
        let told = client.until("\r\n\r\n");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{codings}: {told}");
        assert!(told.contains("\r\nconnection: close\r\n"), "{codings}: {told}");
    }
}

#[test]
fn characters_that_clients_forget_to_encode_are_encoded() {
    let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (_plane, address) = in_front_of(origin.address);
    let cases = [
        ("/a?q=\"x\"", "/a?q=%22x%22"),
        ("/a?q=<b>&c=>", "/a?q=%3Cb%3E&c=%3E"),
        ("/<a>\"`?x=`", "/%3Ca%3E%22%60?x=%60"),
        ("/a?u=http://b/<c>", "/a?u=http://b/%3Cc%3E"),
        ("http://a/b?<", "/b?%3C"),
    ];
    for (target, _) in cases {
        let mut client = Client::connect(address);
        client.send(format!("GET {target} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes());
        let told = client.until("\r\n\r\n");
        assert!(told.starts_with("HTTP/1.1 200 "), "{target}: {told}");
    }
    let asked: Vec<_> =
        origin.heads().iter().map(|head| head.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(asked, cases.map(|(_, expected)| expected));
    let refused =
        Client::connect(address).send(b"GET http://a<b/ HTTP/1.1\r\nhost: a\r\n\r\n").until("\r\n\r\n");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
}

#[test]
fn a_status_that_is_none_does_not_pass() {
    for status in ["999", "600", "700"] {
        let origin = RawOrigin::answering(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"));
        let (_plane, address) = in_front_of(origin.address);
        let told = Client::connect(address).send(GET).until("\r\n\r\n");
        assert!(told.starts_with("HTTP/1.1 502 "), "{status}: {told}");
    }
    let origin = RawOrigin::answering("HTTP/1.1 599 X\r\ncontent-length: 0\r\n\r\n");
    let (_plane, address) = in_front_of(origin.address);
    assert!(Client::connect(address).send(GET).until("\r\n\r\n").starts_with("HTTP/1.1 599 "));
}

/// The status, the header fields and the body that an HTTP/2 client gets for this answer of the origin.
fn over_http2(answer: &'static str, method: &'static str) -> (u16, http::HeaderMap, usize) {
    let origin = RawOrigin::answering(answer);
    let (_plane, address) = in_front_of(origin.address);
    run(async {
        let mut client = http2_client(address).await;
        let request =
            Request::builder().method(method).uri("http://a/").body(Empty::new()).expect("a request");
        let response = client.send_request(request).await.expect("a response");
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        (parts.status.as_u16(), parts.headers, body.len())
    })
}

#[test]
fn over_http2_the_length_and_the_trailers_are_told_only_of_what_there_is() {
    let (status, headers, _) = over_http2("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", "GET");
    assert_eq!((status, headers.get("content-length")), (204, None));
    let (_, headers, _) = over_http2("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", "GET");
    assert_eq!(headers["content-length"], "5", "of what is stored");
    let (_, headers, body) = over_http2("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", "HEAD");
    assert_eq!((&headers["content-length"], body), (&http::HeaderValue::from_static("5"), 0));
    let (_, headers, _) =
        over_http2("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ncontent-length: 2\r\n\r\nok", "GET");
    assert_eq!(headers.get("trailer"), None);
    let chunked = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    let (_, headers, _) = over_http2(chunked, "GET");
    assert_eq!(headers["trailer"], "x-sum");
}

#[test]
fn trailers_are_announced_only_where_they_are_sent() {
    let chunked = "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    let origin = RawOrigin::answering(chunked);
    let (_plane, address) = in_front_of(origin.address);
    for (request, announced) in [
        ("GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te, close\r\n\r\n", true),
        ("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nhost: a\r\n\r\n", false),
    ] {
        let told = Client::connect(address).send(request.as_bytes()).rest();
        assert_eq!(told.contains("trailer: x-sum"), announced, "{request}: {told}");
        assert_eq!(told.contains("x-sum: 1"), announced, "{request}: {told}");
    }
    // Upstream, a body of known length has no trailers.
    let mut client = Client::connect(address);
    client
        .send(b"POST / HTTP/1.1\r\nhost: a\r\ntrailer: x-sum\r\ncontent-length: 2\r\n\r\nok")
        .until("0\r\n\r\n");
    assert!(!origin.heads().last().expect("a request").contains("trailer"), "{:?}", origin.heads());
}

#[test]
fn the_number_of_response_header_fields_is_a_setting() {
    let answer =
        |count: usize| format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x-a: 1\r\n".repeat(count));
    for (most, count, status) in [(100, 99, 200), (100, 100, 502), (300, 250, 200), (3, 3, 502)] {
        let origin = RawOrigin::answering(answer(count));
        let (_plane, address) = start(|config| {
            forward(config, origin.address);
            config.upstreams.get_mut("origin").expect("it was added").response_headers = most;
        });
        let told = Client::connect(address).send(GET).until("\r\n\r\n");
        assert!(told.starts_with(&format!("HTTP/1.1 {status} ")), "{most} {count}: {told}");
    }
}
