//! A data plane whose route responds by itself, and clients that write bytes.

mod drain;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use witgate_config::Config;
use witgate_config::model::{self, Action, Auth, RouteMatch};
use witgate_telemetry::Telemetry;

use super::DataPlane;
use crate::snapshot::Snapshot;
use crate::testing;

/// The longest time a test waits for a condition.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

pub(crate) fn listener(name: &str) -> model::Listener {
    model::Listener {
        name: name.into(),
        address: ([127, 0, 0, 1], 0).into(),
        protocol: model::ListenerProtocol::Http,
        proxy_protocol: None,
        tls: None,
        http2: true,
        half_close: false,
        drain: model::DrainOrder::First,
        limits: testing::limits(),
        plugins: Vec::new(),
        filters: Vec::new(),
    }
}

pub(crate) fn route(body: &str) -> model::Route {
    model::Route {
        name: "all".into(),
        matches: RouteMatch::default(),
        action: Action::Respond { status: 200, headers: Vec::new(), body: body.into() },
        listeners: Vec::new(),
        plugins: Vec::new(),
        filters: Vec::new(),
        auth: Auth::Optional,
        timeout: None,
        body_bytes: None,
        callers: model::Callers::default(),
        merge_slashes: true,
        cache: None,
    }
}

pub(crate) fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = testing::config();
    config.listeners = vec![listener("web")];
    config.routes = vec![route("hello")];
    config.gateway.drain_timeout = Duration::from_secs(2);
    change(&mut config);
    config
}

pub(crate) fn snapshot(config: Config) -> Arc<Snapshot> {
    Arc::new(Snapshot::build(Arc::new(config), Default::default(), None).expect("a snapshot"))
}

pub(crate) fn start(change: impl FnOnce(&mut Config)) -> (DataPlane, SocketAddr) {
    let plane = DataPlane::start(snapshot(config(change)), Telemetry::new()).expect("a data plane");
    let address = plane.addresses()[0].1;
    (plane, address)
}

/// A client that writes bytes and reads what is sent back.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        Client(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.write_all(bytes).expect("room");
        self
    }

    /// Reads until `end` is seen.
    pub(crate) fn until(&mut self, end: &str) -> String {
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !text.ends_with(end.as_bytes()) {
            match self.0.read(&mut byte).expect("bytes in time") {
                0 => panic!("closed after {:?}", String::from_utf8_lossy(&text)),
                _ => text.push(byte[0]),
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Reads until the gateway closes.
    pub(crate) fn rest(&mut self) -> String {
        let mut text = Vec::new();
        self.0.read_to_end(&mut text).expect("a close in time");
        String::from_utf8_lossy(&text).into_owned()
    }
}

pub(crate) fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < DEADLINE, "{what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// Lets time pass in which nothing must happen. A test that waits for something uses [`wait_for`], which has a
/// condition and a deadline.
#[expect(clippy::disallowed_methods, reason = "the test checks that nothing happens meanwhile")]
pub(crate) fn let_pass(time: Duration) {
    std::thread::sleep(time);
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const BYE: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

#[test]
fn requests_are_answered_one_after_the_other_and_pipelined() {
    let (plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    for _ in 0..3 {
        assert!(client.send(GET).until("hello").starts_with("HTTP/1.1 200 OK\r\n"));
    }
    client.send(&[GET, GET, BYE].concat());
    assert_eq!(client.rest().matches("hello").count(), 3);
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn bytes_may_trickle() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    for byte in BYE {
        client.send(&[*byte]);
    }
    assert!(client.rest().ends_with("hello"));
}

/// The bytes that are sent, the expected status, and the rule that they break.
const AMBIGUOUS: &[(&str, u16, &str)] = &[
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "both lengths",
    ),
    ("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "chunked in HTTP/1.0"),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        400,
        "repeated length",
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc", 400, "a list as length"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400, "a sign in a length"),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n",
        400,
        "a length that wraps",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        501,
        "a coding before chunked",
    ),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "chunked twice",
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\x0bchunked\r\n\r\n0\r\n\r\n", 400, "a vertical tab"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n", 400, "a folded line"),
    ("GET / HTTP/1.1\nhost: a\n\n", 400, "bare LF"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\n\r\n", 400, "one bare LF"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r2\r\n\r\n", 400, "bare CR in a value"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n", 400, "a zero byte in a value"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n", 400, "white space before the colon"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", 400, "no colon"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n", 400, "an underscore in a name"),
    ("GET / HTTP/1.1\r\n\r\n", 400, "no Host"),
    ("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "two Hosts"),
    ("GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400, "a Host with a space"),
    ("GET / HTTP/1.1\r\nhost: u@a\r\n\r\n", 400, "a user in Host"),
    ("GET http://b/ HTTP/1.1\r\nhost: a\r\n\r\n", 400, "target and Host disagree"),
    ("GET http://u@a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400, "a user in the target"),
    ("GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", 400, "another scheme"),
    ("GET a HTTP/1.1\r\nhost: a\r\n\r\n", 400, "no slash"),
    ("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 400, "CONNECT"),
    ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400, "the asterisk without OPTIONS"),
    ("GET /#b HTTP/1.1\r\nhost: a\r\n\r\n", 400, "a fragment"),
    ("GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400, "a space in the target"),
    ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "two spaces"),
    ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", 400, "another version"),
    ("GET /\r\nhost: a\r\n\r\n", 400, "no version"),
    ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "a method that is no token"),
    ("GET /%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "an encoded zero byte"),
    ("GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n", 400, "percent without digits"),
    ("GET /a%2fb HTTP/1.1\r\nhost: a\r\n\r\n", 400, "an encoded slash"),
    ("GET /a\\b HTTP/1.1\r\nhost: a\r\n\r\n", 400, "a backslash"),
    ("GET /../a HTTP/1.1\r\nhost: a\r\n\r\n", 400, "above the root"),
    ("GET / HTTP/1.1\r\nhost: a\r\nconnection: host\r\n\r\n", 400, "Host named away"),
    ("\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "empty lines"),
    ("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 400, "half a preface"),
];

#[test]
fn nothing_ambiguous_is_let_in() {
    let (plane, address) = start(|_| {});
    for (request, status, rule) in AMBIGUOUS {
        let mut client = Client::connect(address);
        client.send(request.as_bytes());
        client.0.shutdown(Shutdown::Write).expect("half a close");
        let answer = client.rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{rule}: {answer}");
        assert!(answer.contains("application/problem+json"), "{rule}: {answer}");
        assert!(!answer.contains("hello"), "{rule}: {answer}");
    }
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn what_follows_a_refused_head_is_not_a_request() {
    let (_plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    let refused =
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    client.send(&[GET, refused, GET].concat());
    let answer = client.rest();
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 2, "{answer}");
    assert_eq!(answer.matches("hello").count(), 1, "{answer}");
}

#[test]
fn heads_have_limits() {
    let (_plane, address) = start(|config| {
        config.listeners[0].limits.url_bytes = 100;
        config.listeners[0].limits.headers = 10;
        config.listeners[0].limits.header_bytes = 1000;
    });
    let long = "a".repeat(101);
    let cases = [
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), "414"),
        (format!("GET /{}", "a".repeat(10_000)), "414"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: 1\r\n".repeat(10)), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}", "a".repeat(10_000)), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(940)), "431"),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\nconnection: close\r\n\r\n", "a".repeat(800)), "200"),
    ];
    for (request, status) in cases {
        let answer = Client::connect(address).send(request.as_bytes()).rest();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[test]
fn slow_heads_and_idle_connections_end() {
    let (_plane, address) = start(|config| {
        config.listeners[0].limits.header_timeout = Duration::from_millis(200);
        config.listeners[0].limits.keep_alive = Duration::from_millis(200);
    });
    let answer = Client::connect(address).send(b"GET / HTTP/1.1\r\nhost: a").rest();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(Client::connect(address).rest(), "");
    let answer = Client::connect(address).send(GET).rest();
    assert!(answer.ends_with("hello"), "{answer}");
}

#[test]
fn an_early_answer_reaches_a_client_that_is_still_sending() {
    let (_plane, address) = start(|config| config.listeners[0].limits.body_bytes = 10);
    let mut client = Client::connect(address);
    client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n");
    client.send(&vec![b'x'; 100_000]);
    let answer = client.rest();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn connections_over_the_limit_wait() {
    let (plane, address) = start(|config| {
        config.gateway.workers = 2;
        config.listeners[0].limits.connections = 1;
    });
    let mut first = Client::connect(address);
    first.send(GET).until("hello");
    let mut second = Client::connect(address);
    second.send(GET);
    wait_for("the second waits", || plane.status()[0].waited == 1);
    assert_eq!(plane.status()[0].open.iter().sum::<usize>(), 1);
    drop(first);
    second.until("hello");
}

#[test]
fn a_swap_opens_and_closes_listeners_and_a_failed_one_changes_nothing() {
    let (plane, address) = start(|_| {});
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut other = listener("other");
    other.address = taken.local_addr().expect("an address");
    let with_other = |config: &mut Config| config.listeners.push(other.clone());
    let problems = plane.swap(snapshot(config(with_other))).expect_err("the address is in use");
    assert!(problems[0].message.contains("other"), "{problems:?}");
    assert_eq!(plane.snapshot().config.listeners.len(), 1);
    Client::connect(address).send(GET).until("hello");

    drop(taken);
    plane.swap(snapshot(config(with_other))).expect("the address is free");
    assert_eq!(plane.addresses()[0].1, address);
    Client::connect(other.address).send(GET).until("hello");
    plane.swap(snapshot(config(|_| {}))).expect("one listener less");
    wait_for("the other is closed", || TcpStream::connect(other.address).is_err());
    plane.swap(snapshot(config(with_other))).expect("and back");
    Client::connect(other.address).send(GET).until("hello");
}

#[test]
fn every_request_sees_the_snapshot_of_its_time() {
    let (plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    client.send(GET).until("hello");
    let old = Arc::downgrade(&plane.snapshot());
    plane.swap(snapshot(config(|config| config.routes = vec![route("again")]))).expect("a swap");
    client.send(GET).until("again");
    wait_for("the old snapshot is dropped", || old.strong_count() == 0);
}

#[test]
fn changed_limits_end_old_connections_within_the_time_of_a_drain() {
    let (plane, address) = start(|_| {});
    let mut client = Client::connect(address);
    client.send(GET).until("hello");
    plane.swap(snapshot(config(|config| config.listeners[0].limits.headers = 7))).expect("a swap");
    assert_eq!(client.rest(), "");
    Client::connect(address).send(GET).until("hello");
}

#[test]
fn a_drain_lets_what_has_begun_end() {
    let (plane, address) = start(|_| {});
    let mut idle = Client::connect(address);
    idle.send(GET).until("hello");
    let mut begun = Client::connect(address);
    begun.send(b"GET / HTTP/1.1\r\n");
    wait_for("both are accepted", || plane.status()[0].open.iter().sum::<usize>() == 2);
    let drained = std::thread::spawn(move || plane.drain(DEADLINE));
    assert_eq!(idle.rest(), "");
    begun.send(b"host: a\r\n\r\n");
    let answer = begun.rest();
    assert!(answer.contains("connection: close\r\n") && answer.ends_with("hello"), "{answer}");
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(TcpStream::connect(address).is_err());
}
