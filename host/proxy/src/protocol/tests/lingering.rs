//! Early responses reach clients that are still sending (RFC 9112 section 9.6, RFC 9113 section 8.1).

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use witgate_config::Config;
use witgate_config::model::Action;

use super::{Authority, HEAD, PREFACE, frame, next_frame, run, shake, tls};
use crate::listener::tests::{Client, DEADLINE, let_pass, start, wait_for};

/// More bytes than the socket buffers of both sides hold.
const LARGE: usize = 16 * 1024 * 1024;

fn refusing(config: &mut Config) {
    config.listeners[0].limits.body_bytes = 10;
}

fn long_answer(config: &mut Config) {
    let Action::Respond { body, .. } = &mut config.routes[0].action else { panic!("a fixed answer") };
    *body = "y".repeat(LARGE);
}

fn post(headers: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: a\r\n{headers}\r\n\r\n").into_bytes()
}

/// A body whose `Content-Length` is too large, and a chunked one, which only turns out to be too large when it is
/// read.
fn bodies() -> [(Vec<u8>, Vec<u8>); 2] {
    let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 65536], b"\r\n".to_vec()].concat();
    let chunks = [chunk.repeat(LARGE / 65536), b"0\r\n\r\n".to_vec()].concat();
    [
        (post(&format!("content-length: {LARGE}")), vec![b'x'; LARGE]),
        (post("transfer-encoding: chunked"), chunks),
    ]
}

#[test]
fn an_early_answer_reaches_a_client_that_reads_only_after_sending() {
    let refused = (refusing as fn(&mut Config), ["413", "200"]);
    for (change, statuses) in [refused, (|_| {}, ["200"; 2]), (long_answer, ["200"; 2])] {
        let (plane, address) = start(change);
        for ((head, body), status) in bodies().into_iter().zip(statuses) {
            let mut client = Client::connect(address);
            client.send(&head);
            client.0.set_nodelay(true).expect("a socket");
            for piece in body.chunks(64 * 1024) {
                client.send(piece);
            }
            client.0.shutdown(Shutdown::Write).expect("half a close");
            let answer = client.rest();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{:?}", answer.get(..100));
        }
        assert_eq!(plane.drain(DEADLINE), 0);
    }
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending_over_tls() {
    let authority = Authority::new();
    let files = authority.sign("server", &["a.example"]);
    let (_plane, address) = start(|config| {
        refusing(config);
        config.listeners[0].tls = Some(tls(vec![files]));
    });
    run(async {
        let connector = authority.client(None, &["http/1.1"]);
        for ((head, body), status) in bodies().into_iter().zip(["413", "200"]) {
            let mut client = shake(address, &connector, "a.example").await.expect("a handshake");
            client.write_all(&head).await.expect("room");
            client.write_all(&body).await.expect("room");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("an end that was said");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    });
}

#[test]
fn bytes_behind_the_last_answer_do_not_reset_it() {
    let (_plane, address) = start(long_answer);
    let mut client = Client::connect(address);
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    client.until("\r\n\r\n");
    client.send(&vec![b'z'; 128 * 1024]);
    assert_eq!(client.rest().len(), LARGE);
}

#[test]
fn a_client_that_lingers_counts_as_a_connection_and_is_closed_when_it_is_silent() {
    let (plane, address) = start(refusing);
    let mut client = Client::connect(address);
    client.send(&post("content-length: 100000"));
    let begun = Instant::now();
    assert!(client.rest().starts_with("HTTP/1.1 413 "));
    let open = || plane.status()[0].open.iter().sum::<usize>();
    // The client may send slowly, within the lingering time of 30 s.
    while begun.elapsed() < Duration::from_secs(6) {
        assert_eq!(open(), 1);
        client.send(b"x");
        let_pass(Duration::from_millis(100));
    }
    let silent = Instant::now();
    wait_for("it is closed", || open() == 0);
    assert!(silent.elapsed() > Duration::from_secs(4), "{:?}", silent.elapsed());
}

#[test]
fn a_client_that_lingers_is_bounded_by_a_drain() {
    let (plane, address) = start(refusing);
    let mut client = Client::connect(address);
    client.send(&post("content-length: 100000"));
    assert!(client.rest().starts_with("HTTP/1.1 413 "));
    let begun = Instant::now();
    assert_eq!(plane.drain(Duration::from_millis(300)), 0, "its answer was through");
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn an_early_answer_over_http2_ends_its_stream_without_error() {
    let (_plane, address) = start(refusing);
    let mut client = Client::connect(address);
    client.send(&[PREFACE, &frame(4, 0, 0, &[])].concat());
    // HEADERS without END_STREAM, and more of the body than is allowed.
    client.send(&[frame(1, 4, 1, HEAD), frame(0, 0, 1, &[0; 1000])].concat());
    let mut ended = false;
    loop {
        match next_frame(&mut client).expect("a frame") {
            (0 | 1, flags, 1, _) => ended |= flags & 1 == 1,
            (3, _, 1, reason) => {
                assert!(ended, "the answer is complete before the stream is reset");
                assert_eq!(reason, [0; 4], "NO_ERROR");
                break;
            }
            (7, _, _, payload) => panic!("the connection ends: {payload:?}"),
            _ => {}
        }
    }
    client.0.write_all(&frame(0, 0, 1, &[0; 1000])).expect("the connection is there");
}
