//! Clients that leave while their request is in flight: what is done for them is given up, unless they only
//! half-closed.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use witgate_config::Config;

use super::{Authority, in_front_of, run, shake, tls};
use crate::listener::DataPlane;
use crate::listener::tests::{Client, DEADLINE, let_pass, start, wait_for};

/// What an origin observes.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// A request head arrived.
    Requested,
    /// The gateway gave up the request.
    GivenUp,
}

/// An origin that sends `before` to every request, and nothing more until its gateway gives up.
struct Origin {
    address: SocketAddr,
    news: Receiver<News>,
}

impl Origin {
    fn saying(before: &'static [u8]) -> Origin {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let (tell, news) = sync_channel(1024);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (client, tell) = (Client(stream.expect("a connection")), tell.clone());
                std::thread::spawn(move || wait(client, before, &tell));
            }
        });
        Origin { address, news }
    }

    fn is(&self, expected: &News) {
        assert_eq!(self.news.recv_timeout(DEADLINE).as_ref(), Ok(expected));
    }
}

fn wait(mut client: Client, before: &[u8], tell: &SyncSender<News>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match client.0.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    client.send(before);
    // The test may be over.
    let _ = tell.send(News::Requested);
    client.0.set_read_timeout(None).expect("a socket");
    while matches!(client.0.read(&mut [0; 4096]), Ok(1..)) {}
    let _ = tell.send(News::GivenUp);
}

fn open(plane: &DataPlane) -> usize {
    plane.status()[0].open.iter().sum()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const POST: &[u8] = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";

#[test]
fn a_client_that_closes_its_side_takes_its_request_along() {
    let chunked = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let half = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nabc";
    let many = [GET, &[GET; 2000].concat()].concat();
    let cases: [(&str, &[u8]); 6] = [
        ("a request", GET),
        ("a request with a body", POST),
        ("a request with chunks", chunked),
        ("half a body", half),
        ("two requests", &[GET, POST].concat()),
        ("more requests than are read ahead", &many),
    ];
    for (what, bytes) in cases {
        let origin = Origin::saying(b"");
        let (plane, address) = in_front_of(origin.address);
        let mut client = Client::connect(address);
        client.send(bytes);
        origin.is(&News::Requested);
        client.0.shutdown(Shutdown::Write).expect("half a close");
        origin.is(&News::GivenUp);
        wait_for(what, || open(&plane) == 0);
        assert_eq!(plane.drain(DEADLINE), 0, "{what}");
    }
}

#[test]
fn a_client_that_closes_while_its_answer_streams_ends_the_stream() {
    let origin = Origin::saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
    let (plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET).until("one");
    client.0.shutdown(Shutdown::Write).expect("half a close");
    origin.is(&News::Requested);
    origin.is(&News::GivenUp);
    wait_for("the connection is gone", || open(&plane) == 0);
}

/// A gateway that lets one request at a time go to its origin, and lets others wait.
fn one_at_a_time(origin: SocketAddr, waiting: usize) -> (DataPlane, SocketAddr) {
    start(|config| {
        super::forward(config, origin);
        let upstream = config.upstreams.get_mut("origin").expect("the upstream");
        upstream.max_requests = 1;
        upstream.max_pending = waiting;
        upstream.pending_timeout = DEADLINE;
    })
}

#[test]
fn who_leaves_frees_the_place_of_the_request() {
    let origin = Origin::saying(b"");
    let (plane, address) = one_at_a_time(origin.address, 0);
    for _ in 0..3 {
        let mut client = Client::connect(address);
        client.send(GET);
        origin.is(&News::Requested);
        drop(client);
        origin.is(&News::GivenUp);
        wait_for("the connection is gone", || open(&plane) == 0);
    }
}

#[test]
fn who_leaves_while_waiting_for_a_place_waits_no_longer() {
    for waiting in [GET, POST] {
        let origin = Origin::saying(b"");
        let (plane, address) = one_at_a_time(origin.address, 1);
        let mut first = Client::connect(address);
        first.send(GET);
        origin.is(&News::Requested);
        let mut second = Client::connect(address);
        second.send(waiting);
        wait_for("both are there", || open(&plane) == 2);
        second.0.shutdown(Shutdown::Write).expect("half a close");
        wait_for("the second is gone", || open(&plane) == 1);
        assert!(origin.news.try_recv().is_err(), "the first goes on");
    }
}

#[test]
fn what_needs_no_wait_is_answered_whoever_leaves() {
    let (_plane, address) = start(|_| {});
    for bytes in [GET, POST, &[GET, POST, GET].concat()] {
        let mut client = Client::connect(address);
        client.send(bytes);
        client.0.shutdown(Shutdown::Write).expect("half a close");
        let answers = client.rest();
        assert!(answers.ends_with("hello"), "{answers}");
    }
}

#[test]
fn a_client_that_has_said_its_last_still_gets_its_answer_where_it_may_close_its_side() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let origin = listener.local_addr().expect("an address");
    let (go, wait) = sync_channel::<()>(1);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut client = Client(stream);
            client.until("\r\n\r\n");
            if wait.recv().is_err() {
                return;
            }
            client.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nlate");
        }
    });
    let (plane, address) = start(|config| {
        super::forward(config, origin);
        config.listeners[0].half_close = true;
    });
    let mut client = Client::connect(address);
    client.send(GET);
    client.0.shutdown(Shutdown::Write).expect("half a close");
    // Long enough for a gateway that mistakes the half-close for the end to act on it.
    let_pass(Duration::from_millis(300));
    assert_eq!(open(&plane), 1);
    go.send(()).expect("an origin that waits");
    assert!(client.rest().ends_with("late"));
    // A client that is gone altogether is still noticed.
    let mut gone = Client::connect(address);
    gone.send(GET);
    wait_for("it is there", || open(&plane) == 1);
    socket2::SockRef::from(&gone.0).set_linger(Some(Duration::ZERO)).expect("a socket");
    drop(gone);
    wait_for("it is gone", || open(&plane) == 0);
}

#[test]
fn a_goodbye_of_tls_is_one_of_the_client() {
    let authority = Authority::new();
    let files = authority.sign("server", &["a.example"]);
    let origin = Origin::saying(b"");
    let (plane, address) = start(|config: &mut Config| {
        super::forward(config, origin.address);
        config.listeners[0].tls = Some(tls(vec![files]));
    });
    run(async {
        let connector = authority.client(None, &["http/1.1"]);
        let mut client = shake(address, &connector, "a.example").await.expect("a handshake");
        client.write_all(GET).await.expect("room");
        client.flush().await.expect("room");
        origin.is(&News::Requested);
        // `close_notify` alone; the TCP connection stays open.
        client.get_mut().1.send_close_notify();
        client.flush().await.expect("room");
        origin.is(&News::GivenUp);
        assert_eq!(client.read(&mut [0; 16]).await.unwrap_or(0), 0, "no answer");
    });
    wait_for("the connection is gone", || open(&plane) == 0);
}

#[test]
fn who_leaves_does_not_hold_up_a_drain() {
    let origin = Origin::saying(b"");
    let (plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET);
    origin.is(&News::Requested);
    let drained = std::thread::spawn(move || plane.drain(DEADLINE * 2));
    wait_for("nothing more is accepted", || std::net::TcpStream::connect(address).is_err());
    let begun = std::time::Instant::now();
    drop(client);
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(begun.elapsed() < DEADLINE / 2, "it did not wait for the origin: {:?}", begun.elapsed());
}

#[test]
fn bytes_behind_a_request_are_not_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut client = Client(listener.accept().expect("a connection").0);
        for _ in 0..2001 {
            client.until("\r\n\r\n");
            client.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
        let _ = client.0.flush();
    });
    let (_plane, address) = in_front_of(address);
    let mut client = Client::connect(address);
    let mut writer = client.0.try_clone().expect("a socket");
    let writing = std::thread::spawn(move || writer.write_all(&[GET; 2000].concat()).expect("room"));
    for _ in 0..2000 {
        client.until("ok");
    }
    writing.join().expect("no panic");
}
