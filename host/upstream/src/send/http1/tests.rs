//! Written requests and parsed responses, without sockets.

use std::collections::BTreeSet;

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Version};
use proptest::prelude::*;
use witgate_exchange::replay::memory::BodyMemory;
use witgate_exchange::trace::TraceContext;

use super::answer::{HeadReader, RequestKind};
use super::head::OfAttempt;
use crate::balancer::Caller;
use crate::deliver::Rules;
use crate::request::affinity::Affinity;
use crate::request::{ForwardingHeaders, Framing, UpstreamRequest};
use crate::testing;

/// A response that was read.
#[derive(Debug, PartialEq)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
    /// Whether the body is known to be complete.
    over: bool,
    persistent: bool,
    /// The bytes after the response.
    rest: Vec<u8>,
}

/// Reads a response that arrives in these pieces. `None` if its head is incomplete.
fn read<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    asked: RequestKind,
) -> Result<Option<Answer>, &'static str> {
    let mut arrived = BytesMut::new();
    let mut reader = HeadReader::default();
    let (mut head, mut body, mut trailers) = (None, Vec::new(), None);
    for piece in pieces {
        arrived.extend_from_slice(piece);
        if head.is_none() {
            head = reader.read(&mut arrived, asked, |_, _| Ok(()))?;
        }
        let Some(head) = &mut head else { continue };
        while let Some(frame) = head.content.next(&mut arrived)? {
            match frame.into_data() {
                Ok(data) => body.extend_from_slice(&data),
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
    }
    Ok(head.map(|read| {
        let (over, persistent) = (read.content.is_over(), read.persistent);
        let (head, ()) = read.response.into_parts();
        let (status, headers) = (head.status.as_u16(), head.headers);
        Answer { status, headers, body, trailers, over, persistent, rest: arrived.to_vec() }
    }))
}

fn whole(text: &str) -> Result<Option<Answer>, &'static str> {
    read([text.as_bytes()], RequestKind::default())
}

/// Malformed heads, and the rule that each breaks.
pub(crate) const BROKEN: &[(&str, &str)] = &[
    ("no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    ("an empty line first: RFC 9112 2.2 forgives it before requests only", "\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ("the name of the protocol in lower case: RFC 9112 2.3", "http/1.1 200 OK\r\n\r\n"),
    ("a version that is not ours", "HTTP/1.2 200 OK\r\n\r\n"),
    ("HTTP/2 in text", "HTTP/2 200\r\n\r\n"),
    ("HTTP/0.9", "<html>\r\n"),
    ("two digits: RFC 9112 4", "HTTP/1.1 20 OK\r\n\r\n"),
    ("four digits", "HTTP/1.1 2000 OK\r\n\r\n"),
    ("a status below 100", "HTTP/1.1 099 OK\r\n\r\n"),
    ("a status above 599: RFC 9110 15", "HTTP/1.1 999 OK\r\n\r\n"),
    ("the first status above 599", "HTTP/1.1 600 OK\r\n\r\n"),
    ("a signed status", "HTTP/1.1 +20 OK\r\n\r\n"),
    ("two spaces before the status", "HTTP/1.1  200 OK\r\n\r\n"),
    ("a tab before the status", "HTTP/1.1\t200 OK\r\n\r\n"),
    ("no space before the reason", "HTTP/1.1 200-OK\r\n\r\n"),
    ("NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n"),
    ("a bare CR in the reason", "HTTP/1.1 200 O\rK\r\n\r\n"),
    ("a bare LF behind the status line: RFC 9112 2.2", "HTTP/1.1 200 OK\ncontent-length: 0\r\n\r\n"),
    ("a bare LF behind a field", "HTTP/1.1 200 OK\r\nx: a\ncontent-length: 0\r\n\r\n"),
    ("a bare LF at the end", "HTTP/1.1 200 OK\r\nx: a\r\n\n"),
    ("a bare CR in a value: RFC 9110 5.5", "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n"),
    ("a CR at the end of a value", "HTTP/1.1 200 OK\r\nx: a\r\r\n\r\n"),
    ("NUL in a value", "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n"),
    ("DEL in a value", "HTTP/1.1 200 OK\r\nx: a\x7fb\r\n\r\n"),
    ("a vertical tab around a value", "HTTP/1.1 200 OK\r\ncontent-length: \x0b0\r\n\r\n"),
    ("a folded line: RFC 9112 5.2", "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n"),
    ("a line folded by a tab", "HTTP/1.1 200 OK\r\nx: a\r\n\tb: c\r\n\r\n"),
    ("white space before the first field", "HTTP/1.1 200 OK\r\n x: a\r\n\r\n"),
    ("white space before the colon: RFC 9112 5.1", "HTTP/1.1 200 OK\r\ncontent-length : 0\r\n\r\n"),
    ("a tab before the colon", "HTTP/1.1 200 OK\r\nx\t: a\r\n\r\n"),
    ("a line without colon", "HTTP/1.1 200 OK\r\nx\r\n\r\n"),
    ("no name", "HTTP/1.1 200 OK\r\n: a\r\n\r\n"),
    ("a name that is no token", "HTTP/1.1 200 OK\r\nx(y): a\r\n\r\n"),
    ("a quoted name", "HTTP/1.1 200 OK\r\n\"x\": a\r\n\r\n"),
    ("a control byte in a name", "HTTP/1.1 200 OK\r\nx\x01: a\r\n\r\n"),
    ("a name outside of ASCII", "HTTP/1.1 200 OK\r\nxä: a\r\n\r\n"),
    (
        "two different lengths: RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    ),
    ("a list of lengths", "HTTP/1.1 200 OK\r\ncontent-length: 1, 1\r\n\r\n"),
    ("a signed length", "HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\n"),
    ("a negative length", "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"),
    ("a hexadecimal length", "HTTP/1.1 200 OK\r\ncontent-length: 0x1\r\n\r\n"),
    ("an empty length", "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\n"),
    ("a length that overflows", "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551617\r\n\r\n"),
    (
        "both lengths: RFC 9112 6.3",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
    ),
    (
        "both lengths, the other order",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    ),
    (
        "both lengths, named away: RFC 9110 7.6.1",
        "HTTP/1.1 200 OK\r\nconnection: content-length\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
    ),
    ("a coding before chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n"),
    ("a coding other than chunked", "HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked\r\n\r\n"),
    ("chunked not last", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, identity\r\n\r\n"),
    ("chunked twice", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("no coding", "HTTP/1.1 200 OK\r\ntransfer-encoding: \r\n\r\n"),
    ("chunked in HTTP/1.0: RFC 9112 6.1", "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
    ("101 that was not asked for: RFC 9110 15.2.2", "HTTP/1.1 101 Switching Protocols\r\nupgrade: a\r\n\r\n"),
    ("an interim answer with a body: RFC 9110 15.2", "HTTP/1.1 100 Continue\r\ncontent-length: 5\r\n\r\n"),
    ("a chunked interim answer", "HTTP/1.1 103 Early Hints\r\ntransfer-encoding: chunked\r\n\r\n"),
];

#[test]
fn no_head_that_could_be_read_in_two_ways_is_read() {
    for (rule, head) in BROKEN {
        let read = whole(head);
        assert!(read.is_err(), "{rule}: {read:?}");
    }
}

/// Malformed chunked bodies, and the rule that each breaks (RFC 9112 section 7.1).
const BROKEN_CHUNKS: &[(&str, &str)] = &[
    ("a bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
    ("an extension without a name", "5;=b\r\nhello\r\n0\r\n\r\n"),
    ("a bare CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
    ("a longer chunk than announced", "5\r\nhello!\r\n0\r\n\r\n"),
    ("a signed size", "+5\r\nhello\r\n0\r\n\r\n"),
    ("a size with prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
    ("white space before the size", " 5\r\nhello\r\n0\r\n\r\n"),
    ("a word behind the size", "5 a\r\nhello\r\n0\r\n\r\n"),
    ("no size", "\r\nhello\r\n0\r\n\r\n"),
    ("a size that overflows", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("no line end behind the data", "5\r\nhello0\r\n\r\n"),
    ("a bare LF behind the data", "5\r\nhello\n0\r\n\r\n"),
    ("a bare LF behind the last chunk", "5\r\nhello\r\n0\n\n"),
    ("a bare LF at the end", "5\r\nhello\r\n0\r\n\n"),
    ("a trailer without colon", "5\r\nhello\r\n0\r\nx\r\n\r\n"),
    ("a folded trailer", "5\r\nhello\r\n0\r\nx: a\r\n b\r\n\r\n"),
    ("a control byte in a trailer", "5\r\nhello\r\n0\r\nx: a\0\r\n\r\n"),
];

#[test]
fn no_broken_chunk_is_passed_over() {
    for (rule, chunks) in BROKEN_CHUNKS {
        let read = whole(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"));
        assert!(read.is_err(), "{rule}: {read:?}");
    }
}

#[test]
fn every_answer_ends_where_it_says() {
    let head = RequestKind { head: true, ..RequestKind::default() };
    let none = RequestKind::default();
    // The response, whether the request was HEAD, the body, whether it is known to be complete, keep-alive.
    for (answer, asked, body, over, persistent) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", none, "ok", true, true),
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", none, "ok", true, true),
        ("HTTP/1.1 200 \r\nContent-Length:2\r\n\r\nok", none, "ok", true, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length:\t2 \r\n\r\nok", none, "ok", true, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", none, "", true, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok", none, "ok", false, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", none, "ok", true, true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", none, "ok", false, true),
        ("HTTP/1.1 200 OK\r\n\r\nok", none, "ok", false, false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", none, "ok", true, false),
        ("HTTP/1.0 200 OK\r\nconnection: Keep-Alive\r\ncontent-length: 2\r\n\r\nok", none, "ok", true, true),
        ("HTTP/1.1 200 OK\r\nconnection: x, Close\r\ncontent-length: 2\r\n\r\nok", none, "ok", true, false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", head, "", true, true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", head, "", true, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", none, "", true, true),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", none, "", true, true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 N\r\n\r\n",
            none,
            "",
            true,
            true,
        ),
    ] {
        let read = read([answer.as_bytes()], asked).expect(answer).expect(answer);
        assert_eq!(
            (read.body.as_slice(), read.over, read.persistent),
            (body.as_bytes(), over, persistent),
            "{answer:?}"
        );
        assert!(read.rest.is_empty() && !read.headers.contains_key("link"), "{answer:?}: {read:?}");
    }
}

#[test]
fn what_concerns_one_hop_is_left_out_and_the_rest_kept() {
    let read = whole(
        "HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive, content-length\r\nKeep-Alive: timeout=5\r\nX-Mine: 1\r\n\
         Proxy-Connection: close\r\nTE: gzip\r\nUpgrade: h2c\r\nSet-Cookie: a=1\r\nX-Empty:\r\nSet-Cookie: b=2\r\n\
         X-Text:  caf\u{e9} \t\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 hidden",
    );
    let read = read.expect("a good answer").expect("a whole answer");
    let names: BTreeSet<&str> = read.headers.keys().map(http::HeaderName::as_str).collect();
    assert_eq!(names, BTreeSet::from(["content-length", "set-cookie", "x-empty", "x-text"]));
    assert_eq!(read.headers.get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
    assert_eq!(read.headers["x-text"].as_bytes(), "caf\u{e9}".as_bytes());
    assert_eq!((&read.body[..], &read.rest[..]), (&b"ok"[..], &b"HTTP/1.1 200 hidden"[..]));
}

#[test]
fn trailers_are_told_from_what_frames() {
    let read = whole(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\ncontent-length: 9\r\n\
         connection: close\r\n\r\n",
    );
    let read = read.expect("a good answer").expect("a whole answer");
    let trailers = read.trailers.expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &"7".parse().unwrap()));
    assert!(read.over);
}

#[test]
fn heads_have_an_end() {
    let fields =
        |count: usize| format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", "x: y\r\n".repeat(count));
    assert!(whole(&fields(99)).is_ok_and(|read| read.is_some()));
    assert!(whole(&fields(100)).is_err());
    let long = |bytes: usize| format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(bytes));
    assert!(whole(&long(128 * 1024 - 64)).is_ok());
    assert!(whole(&long(128 * 1024)).is_err(), "a line without end");
    let interim = |count: usize| format!("{}HTTP/1.1 204 N\r\n\r\n", "HTTP/1.1 102 P\r\n\r\n".repeat(count));
    assert!(whole(&interim(1000)).is_ok_and(|read| read.is_some()));
    assert!(whole(&interim(8000)).is_err(), "informational heads count like the final one");
    let trailers =
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{}\r\n", "x: y\r\n".repeat(101));
    assert!(whole(&trailers).is_err(), "trailers without end");
}

/// The head written for these headers, some of which only the gateway may set.
fn written(
    framing: Framing,
    upgrade: Option<&HeaderValue>,
    forwarding: Option<ForwardingHeaders<'_>>,
    trace: Option<&TraceContext>,
) -> String {
    let headers = [
        ("connection", "close"),
        ("transfer-encoding", "chunked"),
        ("content-length", "9"),
        ("expect", "100-continue"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("host", "elsewhere"),
        ("traceparent", "theirs"),
        ("x-request-id", "theirs"),
        ("x-a", "1"),
    ];
    let head = testing::head(Method::POST, "/p?q", &headers);
    let retry = testing::upstream(&[]).retry;
    let caller = Caller { headers: &head.headers, path: head.path(), client: None, hash_key: None };
    let order = UpstreamRequest {
        method: &head.method,
        target: &head.target,
        headers: &head.headers,
        authority: None,
        upgrade,
        caller,
        affinity: Affinity::default(),
        without_cookie: None,
        shareable: None,
        forwarding,
        trace,
        rules: Rules::new(&retry, None),
        allowance: None,
        informational: None,
        body_memory: &BodyMemory::new(0, None),
    };
    let mut out = Vec::new();
    let attempt = OfAttempt { host: b"a:80", span: trace.map(|_| [0xab; 8]), response_headers: 100 };
    super::head::write(&mut out, &order, attempt, framing);
    String::from_utf8(out).expect("a head in ASCII")
}

#[test]
fn only_the_gateway_says_where_a_request_ends_and_what_the_connection_does() {
    let begin = "POST /p?q HTTP/1.1\r\nhost: a:80\r\n";
    let kept = "traceparent: theirs\r\nx-request-id: theirs\r\nx-a: 1\r\nte: trailers\r\n";
    for (framing, said) in [
        (Framing::Nothing, "content-length: 0\r\n"),
        (Framing::Length(2), "content-length: 2\r\n"),
        (Framing::Open, "transfer-encoding: chunked\r\n"),
    ] {
        let head = written(framing, None, None, None);
        assert_eq!(head, format!("{begin}{kept}connection: te\r\n{said}\r\n"));
    }
    let chat = HeaderValue::from_static("chat");
    let head = written(Framing::Nothing, Some(&chat), None, None);
    assert!(head.contains("\r\nupgrade: chat\r\nconnection: upgrade, te\r\n"), "{head}");
}

#[test]
fn nothing_that_is_only_text_can_end_a_line() {
    let mut trace = TraceContext::start(0.0);
    trace.state = Some("a=1\r\nx-hidden: 1".into());
    let forwarding = |request_id| ForwardingHeaders { request_id, received: Version::HTTP_2 };
    let head = written(Framing::Nothing, None, Some(forwarding("a\r\nx-hidden: 1")), Some(&trace));
    assert!(!head.contains("hidden") && !head.contains("theirs"), "{head}");
    assert!(head.contains("\r\nvia: 2 witgate\r\ntraceparent: 00-"), "{head}");
    assert!(head.contains("-abababababababab-00\r\n"), "the attempt's own span: {head}");
    let head = written(Framing::Nothing, None, Some(forwarding("mine")), None);
    assert!(head.contains("\r\nx-request-id: mine\r\n") && head.contains("\r\ntraceparent: theirs\r\n"));
}

proptest! {
    #[test]
    fn an_answer_reads_the_same_however_it_arrives(
        interim in prop::sample::select(vec!["", "HTTP/1.1 100 C\r\n\r\n", "HTTP/1.1 101 S\r\n\r\n"]),
        line in "HTTP/1\\.[012] (200|204|20|304)( OK|)",
        fields in prop::collection::vec(
            "(content-length|transfer-encoding|connection|x|x ):( |)(1|5|a|chunked|close|)",
            0..4,
        ),
        end in prop::sample::select(vec!["\r\n", "\r\n", "\r\n", "\n", "\r"]),
        body in "([0-3a]\r\n|[0-3a;x:\r\n]|x: y\r\n|0\r\n\r\n){0,8}",
        cuts in prop::collection::vec(1_usize..9, 0..60),
    ) {
        let fields: String = fields.iter().map(|field| format!("{field}{end}")).collect();
        let text = format!("{interim}{line}\r\n{fields}\r\n{body}");
        let mut rest = text.as_bytes();
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, others) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = others;
        }
        pieces.push(rest);
        prop_assert_eq!(read([text.as_bytes()], RequestKind::default()), read(pieces, RequestKind::default()));
    }
}
