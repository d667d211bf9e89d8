//! What one malformed request on an HTTP/2 connection means for the others (RFC 9113 section 8.1.1).

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::raw_origin::RawOrigin;
use super::{HEAD, PREFACE, frame, in_front_of, next_frame};
use crate::listener::tests::Client;

/// A field in HPACK, not indexed and not compressed.
fn field(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).expect("a short string");
    [&[0, length(name)], name, &[length(value)], value].concat()
}

/// `GET http://a/` with one more field.
fn with(name: &[u8], value: &[u8]) -> Vec<u8> {
    [HEAD, &field(name, value)].concat()
}

/// A request that has only pseudo-header fields.
fn pseudo(fields: &[(&str, &[u8])]) -> Vec<u8> {
    fields.iter().flat_map(|(name, value)| field(name.as_bytes(), value)).collect()
}

fn target(path: &[u8]) -> Vec<u8> {
    pseudo(&[(":method", b"GET"), (":scheme", b"http"), (":authority", b"a"), (":path", path)])
}

/// An origin that responds to its one request when the test signals it.
fn waiting_origin() -> (SocketAddr, SyncSender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (go, wait) = sync_channel(1);
    std::thread::spawn(move || {
        let mut client = Client(listener.accept().expect("a connection").0);
        client.until("\r\n\r\n");
        if wait.recv().is_ok() {
            client.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    (address, go)
}

/// How the gateway treats a malformed request beside a good one.
#[derive(Debug, PartialEq, Eq)]
enum Taken {
    /// Its stream was reset with this error code; the other request got its response.
    Reset(u8),
    /// It got a response whose head begins with this byte, and so did the other one.
    Answered(u8),
    /// The connection ended with this error code.
    Ended(u8),
}

fn taken(block: &[u8], data: Option<&[u8]>) -> Taken {
    let (origin, go) = waiting_origin();
    let (_plane, address) = in_front_of(origin);
    let mut client = Client::connect(address);
    client.send(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, HEAD)].concat());
    let flags = if data.is_some() { 4 } else { 5 };
    let mut malformed = frame(1, flags, 3, block);
    malformed.extend(data.map(|data| frame(0, 1, 3, data)).unwrap_or_default());
    // The gateway may already have closed the connection.
    let _ = client.0.write_all(&malformed);
    let mut taken = None;
    let (mut told, mut answered) = (false, false);
    while taken.is_none() || !answered {
        match next_frame(&mut client) {
            Some((3, _, 3, reason)) => taken = Some(Taken::Reset(reason[3])),
            Some((1, _, 3, head)) => taken = Some(Taken::Answered(head[0])),
            Some((0 | 1, flags, 1, _)) => answered |= flags & 1 == 1,
            Some((7, _, _, payload)) if payload[7] != 0 => return Taken::Ended(payload[7]),
            Some(_) => {}
            None => panic!("the connection ended without a word"),
        }
        if taken.is_some() && !std::mem::replace(&mut told, true) {
            go.send(()).expect("an origin that waits");
        }
    }
    taken.expect("the loop ends with it")
}

const PROTOCOL_ERROR: u8 = 1;

/// `:status: 400` in HPACK (RFC 7541 appendix A).
const BAD_REQUEST: u8 = 0x8c;

#[test]
fn a_malformed_request_is_refused_on_its_stream() {
    let long = b"/".repeat(100);
    let get: [(&str, &[u8]); 3] = [(":method", b"GET"), (":scheme", b"http"), (":authority", b"a")];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a field of the connection", with(b"connection", b"close")),
        ("a coding of HTTP/1.1", with(b"transfer-encoding", b"chunked")),
        ("an upgrade", with(b"upgrade", b"websocket")),
        ("keep-alive", with(b"keep-alive", b"1")),
        ("proxy-connection", with(b"proxy-connection", b"close")),
        ("another te than trailers", with(b"te", b"gzip")),
        ("a repeated path", with(b":path", b"/b")),
        ("a repeated method", with(b":method", b"GET")),
        ("a repeated authority", with(b":authority", b"b")),
        ("a pseudo-header behind a field", [field(b"x-a", b"1"), HEAD.to_vec()].concat()),
        ("a status", with(b":status", b"200")),
        ("no path", pseudo(&get)),
        ("no method", pseudo(&[get[1], get[2], (":path", b"/")])),
        ("no scheme", pseudo(&[get[0], get[2], (":path", b"/")])),
        ("an empty path", target(b"")),
        ("a path without a slash", target(b"a")),
        ("a path with a space", target(b"/a b")),
        ("a path with a control byte", target(b"/a\x01b")),
        ("a path above the root", target(b"/../a")),
        ("an encoded slash", target(b"/a%2fb")),
        ("an authority that is none", pseudo(&[get[0], get[1], (":authority", b"a b"), (":path", b"/")])),
        ("a user in the authority", pseudo(&[get[0], get[1], (":authority", b"u@a"), (":path", b"/")])),
        ("a scheme that is none", pseudo(&[get[0], (":scheme", b"1 x"), get[2], (":path", b"/")])),
        ("a host that disagrees", with(b"host", b"b")),
        ("a length that is no number", with(b"content-length", b"x")),
        ("a length without content", with(b"content-length", b"3")),
        ("an underscore in a name", with(b"x_a", b"1")),
        ("white space before a value", with(b"x-a", b" 1")),
        ("a tab behind a value", with(b"x-a", b"1\t")),
        ("a protocol without CONNECT", with(b":protocol", b"websocket")),
        ("CONNECT with a path", pseudo(&[(":method", b"CONNECT"), get[1], get[2], (":path", &long)])),
    ];
    for (what, block) in cases {
        let taken = taken(&block, None);
        assert!(
            matches!(taken, Taken::Reset(PROTOCOL_ERROR) | Taken::Answered(BAD_REQUEST)),
            "{what}: {taken:?}"
        );
    }
    for (length, data) in [(&b"3"[..], &b"four"[..]), (b"3", b"ab"), (b"0", b"a")] {
        let head = pseudo(&[(":method", b"POST"), get[1], get[2], (":path", b"/")]);
        let taken = taken(&[head, field(b"content-length", length)].concat(), Some(data));
        assert!(matches!(taken, Taken::Reset(PROTOCOL_ERROR) | Taken::Answered(BAD_REQUEST)), "{taken:?}");
    }
}

/// `h2` treats a field that it cannot represent as a broken header block, which is a connection error. RFC 9113
/// section 8.1.1 asks for a stream error. No setting changes this. A version of `h2` that corrects it will fail
/// this test; its cases then belong to the test above.
#[test]
fn a_field_that_cannot_be_represented_still_ends_its_connection() {
    let cases: [(&str, Vec<u8>); 6] = [
        ("upper case in a name", with(b"X-A", b"1")),
        ("NUL in a value", with(b"x-a", b"1\x002")),
        ("LF in a value", with(b"x-a", b"1\n2")),
        ("an unknown pseudo-header", with(b":colour", b"blue")),
        ("a path that is not UTF-8", target(b"/\xff")),
        ("a method that is no token", pseudo(&[(":method", b"G T"), (":scheme", b"http"), (":path", b"/")])),
    ];
    for (what, block) in cases {
        assert_eq!(taken(&block, None), Taken::Ended(PROTOCOL_ERROR), "{what}");
    }
}

/// The type of targets does not hold these characters, which RFC 3986 does not allow, and `h2` resets the stream before
/// anything else sees the request. Over HTTP/1.1 they are encoded.
#[test]
fn characters_that_no_target_may_have_reset_their_stream_over_http2() {
    for path in [&b"/a?b=\"c\""[..], b"/a?<b>", b"/<a>"] {
        let taken = taken(&target(path), None);
        assert_eq!(taken, Taken::Reset(PROTOCOL_ERROR), "{}", String::from_utf8_lossy(path));
    }
}

/// `h2` cuts a fragment off before anything else sees the target, so that it cannot be refused. It reaches nobody.
#[test]
fn a_fragment_over_http2_goes_nowhere() {
    let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (_plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, &target(b"/x?a=1#y?z=../secret"))].concat());
    while let Some((kind, _, stream, head)) = next_frame(&mut client) {
        if (kind, stream) == (1, 1) {
            // `:status: 200` in HPACK.
            assert_eq!(head[0], 0x88);
            break;
        }
    }
    let heads = origin.heads();
    assert!(heads[0].starts_with("GET /x?a=1 HTTP/1.1\r\n") && !heads[0].contains(['#', 'y']), "{heads:?}");
}
