//! The rules of HTTP/1.1 on a connection, over real sockets, in front of origins that write raw bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config as Runs, TestRunner};
use witgate_config::model::Action;

use crate::listener::DataPlane;
use crate::listener::tests::{Client, DEADLINE, config, route, snapshot, start, wait_for};
use crate::protocol::tests::in_front_of;

/// An origin that responds with the request line, the body and the trailers that it received.
fn telling_origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let client = Client(stream.expect("a connection"));
            std::thread::spawn(move || tell(client));
        }
    });
    address
}

fn tell(mut client: Client) {
    loop {
        let Some(head) = head(&mut client) else { return };
        let body = match length(&head) {
            Some(length) => {
                let mut body = vec![0; length];
                client.0.read_exact(&mut body).expect("a body");
                String::from_utf8(body).expect("text")
            }
            None if head.contains("transfer-encoding: chunked") => chunks(&mut client),
            None => String::new(),
        };
        let line = head.lines().next().unwrap_or_default();
        let told = format!("[{line}|{body}]");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{told}", told.len());
        client.send(answer.as_bytes());
    }
}

/// Reads a head, in lower case; `None` at the end of the stream.
fn head(client: &mut Client) -> Option<String> {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") {
        match client.0.read(&mut byte) {
            Ok(1) => text.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8_lossy(&text).to_lowercase())
}

fn length(head: &str) -> Option<usize> {
    let (_, rest) = head.split_once("content-length: ")?;
    rest.lines().next()?.parse().ok()
}

/// Reads a chunked body and returns it without its framing; trailers follow a `|`.
fn chunks(client: &mut Client) -> String {
    let mut body = String::new();
    loop {
        let size = client.until("\r\n");
        let size = usize::from_str_radix(size.trim(), 16).expect("a size");
        if size == 0 {
            break;
        }
        let mut data = vec![0; size + 2];
        client.0.read_exact(&mut data).expect("a chunk");
        body.push_str(std::str::from_utf8(&data[..size]).expect("text"));
    }
    loop {
        match client.until("\r\n").trim() {
            "" => return body,
            trailer => body = format!("{body}|{trailer}"),
        }
    }
}

fn telling() -> (DataPlane, SocketAddr) {
    in_front_of(telling_origin())
}

const GET: &[u8] = b"GET /g HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &[u8] = b"POST /p HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
const CHUNKED: &[u8] =
    b"PUT /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
const BYE: &[u8] = b"GET /bye HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// What the responses echo, in order.
fn told(answers: &str) -> Vec<&str> {
    answers.split('[').skip(1).filter_map(|rest| rest.split_once(']').map(|(told, _)| told)).collect()
}

/// The echoes expected for one request of each kind, in order.
const ALL_TOLD: [&str; 5] = [
    "post /p http/1.1|abc",
    "get /g http/1.1|",
    "put /c http/1.1|abcde",
    "post /p http/1.1|abc",
    "get /bye http/1.1|",
];

#[test]
fn pipelined_requests_with_bodies_are_answered_in_order() {
    let (plane, address) = telling();
    let mut client = Client::connect(address);
    let answers = client.send(&[POST, GET, CHUNKED, POST, BYE].concat()).rest();
    assert_eq!(told(&answers), ALL_TOLD);
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn requests_read_the_same_however_their_bytes_are_cut() {
    let (_plane, address) = telling();
    let bytes = [POST, GET, CHUNKED, POST, BYE].concat();
    let mut runner = TestRunner::new(Runs { cases: 24, ..Runs::default() });
    let cuts = prop::collection::vec(0..bytes.len(), 0..12);
    let outcome = runner.run(&cuts, |mut cuts| {
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut client = Client::connect(address);
        client.0.set_nodelay(true).expect("a socket");
        let mut at = 0;
        for cut in cuts {
            client.send(&bytes[at..cut]);
            // Most of the time this lets the gateway read each part by itself; no assertion depends on it.
            std::thread::yield_now();
            at = cut;
        }
        let answers = client.rest();
        prop_assert_eq!(told(&answers), ALL_TOLD);
        Ok(())
    });
    outcome.expect("the same requests");
}

#[test]
fn chunked_bodies_may_be_cut_anywhere() {
    let (_plane, address) = telling();
    let mut client = Client::connect(address);
    client.0.set_nodelay(true).expect("a socket");
    for byte in CHUNKED {
        client.send(&[*byte]);
    }
    assert_eq!(told(&client.until("]")), ["put /c http/1.1|abcde"]);
}

#[test]
fn trailers_of_a_request_go_on() {
    let (_plane, address) = telling();
    let mut client = Client::connect(address);
    client.send(b"PUT / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n");
    client.send(b"trailer: x-sum\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\nhost: b\r\n\r\n");
    assert_eq!(told(&client.until("]")), ["put / http/1.1|a|x-sum: 7"]);
    client.send(GET).until("get /g http/1.1|]");
}

#[test]
fn a_body_is_asked_for_when_somebody_reads_it() {
    let (_plane, address) = telling();
    let mut client = Client::connect(address);
    client.send(b"POST /e HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(told(&client.send(b"abc").until("]")), ["post /e http/1.1|abc"]);
    // A client that sends its body at once gets no `100 Continue`.
    client.send(b"POST /e HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc");
    assert!(client.until("]").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_body_that_nobody_reads_is_not_asked_for() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n");
    // The client may send its body now or not, so no other request can follow on this connection.
    let answer = client.until("hello");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n"), "{answer}");
    client.0.shutdown(Shutdown::Write).expect("half a close");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_body_nobody_wanted_is_read_past_and_the_next_request_served() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    for request in [POST, CHUNKED, GET] {
        let answer = client.send(request).until("hello");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    // The response does not wait for the body.
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").until("hello");
    client.send(b"12345").send(BYE);
    assert!(client.rest().ends_with("hello"));
}

#[test]
fn a_body_too_long_to_read_past_ends_the_connection() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9999999\r\n\r\n");
    let answer = client.until("hello");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
    client.0.shutdown(Shutdown::Write).expect("half a close");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_broken_chunk_is_the_last_thing_read() {
    let (_plane, address) = telling();
    let mut client = Client::connect(address);
    client.send(b"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n").send(GET);
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
}

#[test]
fn old_clients_keep_their_connection_if_they_ask() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    for _ in 0..2 {
        let answer = client.send(b"GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n").until("hello");
        assert!(
            answer.starts_with("HTTP/1.0 200 ") && answer.contains("connection: keep-alive\r\n"),
            "{answer}"
        );
    }
    let answer = client.send(b"GET / HTTP/1.0\r\n\r\n").rest();
    assert!(answer.ends_with("hello"), "{answer}");
}

#[test]
fn answers_without_body_have_none() {
    let (_plane, address) = start(|config| {
        config.routes[0].action = Action::Respond { status: 204, headers: Vec::new(), body: String::new() };
    });
    let answer = Client::connect(address).send(GET).send(BYE).rest();
    assert_eq!(answer.matches("HTTP/1.1 204 No Content\r\n").count(), 2, "{answer}");
    assert!(answer.ends_with("\r\n\r\n") && !answer.contains("content-length"), "{answer}");

    let (_plane, address) = start(|_| {});
    let answer = Client::connect(address).send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").send(BYE).rest();
    let (first, second) = answer.split_once("\r\n\r\n").expect("two answers");
    assert!(first.contains("content-length: 5\r\n") && second.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// An origin for one connection that sends `before`, waits for the test's signal, and sends `after`.
struct Halting {
    address: SocketAddr,
    asked: Receiver<()>,
    go: SyncSender<()>,
    thread: JoinHandle<()>,
}

impl Halting {
    fn start(before: &'static [u8], after: &'static [u8]) -> Halting {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (go, wait) = sync_channel(1);
        let (tell, asked) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut client = Client(listener.accept().expect("a connection").0);
            head(&mut client).expect("a request");
            client.send(before);
            tell.send(()).expect("a test that listens");
            wait.recv().expect("the word to go");
            // The gateway may already have closed the connection.
            let _ = client.0.write_all(after);
        });
        Halting { address, asked, go, thread }
    }

    /// Waits until a request has arrived.
    fn is_asked(&self) {
        self.asked.recv_timeout(DEADLINE).expect("a request in time");
    }

    fn go_on(self) {
        self.go.send(()).expect("an origin that waits");
        self.thread.join().expect("no panic");
    }
}

#[test]
fn a_head_does_not_wait_for_its_body_and_pieces_go_on_as_they_come() {
    let origin = Halting::start(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n",
        b"3\r\ntwo\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    let (_plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n");
    let first = client.until("one\r\n");
    assert!(first.contains("transfer-encoding: chunked\r\n"), "{first}");
    origin.go_on();
    assert_eq!(client.until("\r\n\r\n"), "3\r\ntwo\r\n0\r\nx-sum: 1\r\n\r\n");
}

#[test]
fn a_body_that_fails_half_way_is_not_ended_cleanly() {
    for head in ["transfer-encoding: chunked\r\n\r\n3\r\none\r\n", "content-length: 6\r\n\r\none"] {
        let before = format!("HTTP/1.1 200 OK\r\n{head}").leak().as_bytes();
        let origin = Halting::start(before, b"");
        let (_plane, address) = in_front_of(origin.address);
        let mut client = Client::connect(address);
        client.send(GET).until("one");
        origin.go_on();
        let mut rest = Vec::new();
        let end = client.0.read_to_end(&mut rest).expect_err("a reset");
        assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset, "{head}");
    }
}

#[test]
fn a_client_that_vanishes_takes_its_request_along() {
    let origin = Halting::start(b"", b"");
    let (plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET);
    origin.is_asked();
    socket2::SockRef::from(&client.0).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(client);
    wait_for("the connection is gone", || plane.status()[0].open.iter().sum::<usize>() == 0);
    origin.go_on();
}

#[test]
fn a_drain_says_goodbye_on_the_answer_under_way() {
    let origin = Halting::start(b"", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let (plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET);
    origin.is_asked();
    plane
        .swap(snapshot(config(|config| {
            config.routes = vec![route("again")];
            config.listeners[0].limits.headers = 7;
        })))
        .expect("a swap");
    origin.go_on();
    let answer = client.rest();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("ok"), "{answer}");
}
