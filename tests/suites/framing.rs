//! Requests that two parsers could read differently. None of them may reach an origin.

use std::time::Duration;

use witgate_tests::{Gateway, Origin, Scratch, raw};

use crate::data_path::to;

/// The bytes that are sent and the rule that they break. `@` stands for the path by which the origin would
/// recognise the request.
const AMBIGUOUS: &[(&str, &str)] = &[
    (
        "both lengths: RFC 9112 6.1",
        "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "both lengths, the other order",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    ),
    (
        "two different lengths: RFC 9112 6.3",
        "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
    ),
    ("two equal lengths", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd"),
    ("a list of lengths", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd"),
    ("a signed length", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd"),
    ("a negative length", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n"),
    ("a hexadecimal length", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd"),
    ("an empty length", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nabcd"),
    (
        "chunked in HTTP/1.0: RFC 9112 6.1",
        "POST @ HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("an unknown coding", "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    (
        "chunked not last",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "a coding before chunked",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "two coding headers",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    ),
    (
        "a vertical tab in the coding",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    ),
    ("a CR behind the coding", "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\r\n\r\n0\r\n\r\n"),
    ("a form feed before a length", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length: \x0c4\r\n\r\nabcd"),
    (
        "white space before the colon: RFC 9112 5.1",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a tab before the colon", "POST @ HTTP/1.1\r\nHost: a\r\nContent-Length\t: 4\r\n\r\nabcd"),
    ("a folded line: RFC 9112 5.2", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n"),
    ("a folded coding", "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"),
    ("white space before the first header", "GET @ HTTP/1.1\r\n Host: a\r\n\r\n"),
    ("bare LF line ends: RFC 9112 2.2", "GET @ HTTP/1.1\nHost: a\n\n"),
    ("a bare LF inside the head", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\nX-B: c\r\n\r\n"),
    ("a bare CR in a value", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\rc\r\n\r\n"),
    ("a bare CR as line end", "GET @ HTTP/1.1\rHost: a\r\r"),
    ("a CR at the end of a value", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\r\r\n\r\n"),
    ("NUL in a value", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n"),
    ("a control byte in a value", "GET @ HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n"),
    ("a control byte in a name", "GET @ HTTP/1.1\r\nHost: a\r\nX\x01A: b\r\n\r\n"),
    ("an empty name", "GET @ HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n"),
    ("a line without colon", "GET @ HTTP/1.1\r\nHost: a\r\nX-A\r\n\r\n"),
    ("no host: RFC 9112 3.2", "GET @ HTTP/1.1\r\n\r\n"),
    ("two hosts", "GET @ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("two equal hosts", "GET @ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
    ("a list of hosts", "GET @ HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("a host with a path", "GET @ HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("user information in the host", "GET @ HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("target and host disagree", "GET http://b@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a target without a path", "GET http://a?x=@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an underscore that aliases a dash", "GET @ HTTP/1.1\r\nHost: a\r\nX_Forwarded_For: 6.6.6.6\r\n\r\n"),
    ("an underscored length", "POST @ HTTP/1.1\r\nHost: a\r\nContent_Length: 4\r\n\r\n"),
    ("two spaces in the request line", "GET  @ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a tab in the request line", "GET\t@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an unknown version", "GET @ HTTP/1.2\r\nHost: a\r\n\r\n"),
    (
        "a chunk size that overflows",
        "POST @ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n",
    ),
    ("a fragment in the target", "GET @#x HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("a backslash in the path", "GET /b\\..@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an encoded slash", "GET /b%2f..@ HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("an encoded NUL", "GET @%00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("half an encoding", "GET @%f HTTP/1.1\r\nHost: a\r\n\r\n"),
    ("CONNECT", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"),
];

#[tokio::test]
async fn no_ambiguous_head_reaches_an_origin() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    for (rule, request) in AMBIGUOUS {
        let bytes = request.replacen('@', "/marked", 1).into_bytes();
        let answer = raw(gateway.address(), &bytes, Duration::from_millis(1500)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
            "{rule}: answered with {answer}"
        );
        assert!(origin.seen().is_empty(), "{rule}: reached the origin as {:?}", origin.seen());
    }
}

/// Bodies whose end is ambiguous. The head is valid, so the origin may receive the request's beginning, but never
/// a second request.
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("a bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("a bare LF after an extension", "5;a\nhello\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a longer chunk than announced", "5\r\nhello!\r\n0\r\n\r\n"),
    ("a signed size", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a size with prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("white space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("no line end behind the data", "5\r\nhello0\r\n\r\n"),
    ("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
    ("LF behind the last chunk", "5\r\nhello\r\n0\n\n"),
];

#[tokio::test]
async fn no_broken_chunking_hides_a_second_request() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start(Scratch::new(), &to(&origin)).await;
    for (rule, body) in BROKEN_CHUNKS {
        let request = format!(
            "POST /first HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
             GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
        );
        let answer = raw(gateway.address(), request.as_bytes(), Duration::from_millis(1500)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(!answer.contains("HTTP/1.1 200"), "{rule}: answered with {answer}");
        assert!(
            origin.seen().iter().all(|seen| seen.uri != "/hidden" && seen.body.is_empty()),
            "{rule}: reached the origin as {:?}",
            origin.seen()
        );
    }
}

#[tokio::test]
async fn hop_by_hop_and_spoofed_headers_stay_at_the_gateway() {
    let origin = Origin::named("origin").await;
    let config =
        format!("[gateway]\nidentity_headers = {{ \"x-auth-subject\" = \"subject\" }}\n{}", to(&origin));
    // `[gateway]` follows the tables that the harness adds in front, which TOML allows.
    let gateway = Gateway::start(Scratch::new(), &config).await;
    let mut client = gateway.client().await;

    client
        .get(
            "/",
            &[
                ("connection", "x-private, x-forwarded-for, x-forwarded-proto, keep-alive"),
                ("x-private", "1"),
                ("keep-alive", "timeout=5"),
                ("proxy-authorization", "Basic x"),
                ("proxy-connection", "keep-alive"),
                ("te", "gzip"),
                ("x-forwarded-for", "6.6.6.6"),
                ("x-forwarded-host", "evil"),
                ("x-real-ip", "6.6.6.6"),
                ("forwarded", "for=6.6.6.6"),
                ("x-auth-subject", "admin"),
                ("x-kept", "1"),
            ],
        )
        .await;

    let seen = origin.last();
    for gone in ["x-private", "keep-alive", "proxy-authorization", "proxy-connection", "te", "x-auth-subject"]
    {
        assert_eq!(seen.header(gone), "", "{gone} is gone");
    }
    assert_eq!(seen.header("x-kept"), "1");
    assert_eq!(seen.header("x-forwarded-for"), "127.0.0.1", "cannot be named away nor spoofed");
    for header in ["x-forwarded-host", "x-real-ip", "forwarded"] {
        assert!(
            !seen.header(header).contains("6.6.6.6") && !seen.header(header).contains("evil"),
            "{header}"
        );
    }
}

#[tokio::test]
async fn limits_have_their_own_answers() {
    let origin = Origin::named("origin").await;
    let config = format!(
        "[gateway.limits]\nheaders = 20\nheader_bytes = \"4KiB\"\nurl_bytes = \"1KiB\"\nbody_bytes = \"10B\"\n\
         header_timeout = \"500ms\"\n{}",
        to(&origin)
    );
    let gateway = Gateway::start(Scratch::new(), &config).await;
    let address = gateway.address();
    let many: String = (0..40).map(|number| format!("X-{number}: 1\r\n")).collect();
    for (what, request, status) in [
        ("many headers", format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), "431"),
        ("a large header", format!("GET / HTTP/1.1\r\nHost: a\r\nX-A: {}\r\n\r\n", "b".repeat(5000)), "431"),
        ("a long target", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(1500)), "414"),
        ("a large body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world".into(), "413"),
        (
            "a large chunked body",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\nhello world\r\n0\r\n\r\n"
                .into(),
            "413",
        ),
        ("a slow head", "GET / HTTP/1.1\r\nHost: a\r\nX-A".into(), "408"),
    ] {
        let answer = raw(address, request.as_bytes(), Duration::from_secs(3)).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{what}: {answer}");
    }
    assert!(origin.seen().iter().all(|seen| seen.body.is_empty()), "no over-long body arrives whole");
}
