//! Request bodies over sockets, and the limit on memory for them.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use witgate_config::model::{Action, Forward, Rewrite};
use witgate_exchange::replay::memory::BodyMemory;
use witgate_telemetry::Telemetry;

use crate::listener::DataPlane;
use crate::listener::tests::{Client, DEADLINE, config, snapshot, wait_for};
use crate::snapshot::Snapshot;
use crate::testing;

/// The most bytes of all bodies together.
const MEMORY: usize = 64 * 1024;

/// The number of requests for each path.
type RequestCounts = Arc<Mutex<HashMap<String, usize>>>;

/// An origin that reads chunked requests to their end. The first request for a path that begins with `/lost` gets
/// no response: the origin closes the connection.
fn origin() -> (SocketAddr, RequestCounts) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = RequestCounts::default();
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), log) = (stream, log.clone()) else { return };
            std::thread::spawn(move || answer(stream, &log));
        }
    });
    (address, asked)
}

fn answer(stream: TcpStream, asked: &RequestCounts) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let mut rest = Vec::new();
        while !rest.ends_with(b"\r\n0\r\n\r\n") {
            if reader.read_until(b'\n', &mut rest).ok()? == 0 {
                return None;
            }
        }
        let path = head.split(' ').nth(1)?.to_owned();
        let count = *asked.lock().ok()?.entry(path.clone()).and_modify(|count| *count += 1).or_insert(1);
        if path.starts_with("/lost") && count == 1 {
            return None;
        }
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").ok()?;
    }
}

/// A gateway in front of the origin.
fn gateway(origin: SocketAddr) -> (DataPlane, SocketAddr, Arc<Snapshot>, Arc<Telemetry>) {
    let snapshot = snapshot(config(|config| {
        config.gateway.body_memory = MEMORY;
        config.upstreams.insert("origin".into(), testing::upstream(&[origin]));
        config.routes[0].action = Action::Forward(Forward {
            upstreams: vec![("origin".into(), 1)],
            rewrite: Rewrite::Keep,
            preserve_host: false,
            retry: Default::default(),
            mirror: None,
            bridge: Default::default(),
            transcode: None,
        });
    }));
    let telemetry = Telemetry::new();
    let plane = DataPlane::start(snapshot.clone(), telemetry.clone()).expect("a data plane");
    telemetry.follow(snapshot.clone());
    let address = plane.addresses()[0].1;
    (plane, address, snapshot, telemetry)
}

/// A client that has sent the head of a PUT and this many bytes of its body, and pauses then.
fn slow_client(address: SocketAddr, path: &str, bytes: usize) -> Client {
    let mut client = Client::connect(address);
    let head = format!("PUT {path} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{bytes:x}\r\n");
    client.send(head.as_bytes()).send(&vec![b'x'; bytes]).send(b"\r\n");
    client
}

/// Sends the end of the body, and returns the status of the response.
fn finish(mut client: Client) -> String {
    let head = client.send(b"0\r\n\r\n").until("\r\n\r\n");
    head.split(' ').nth(1).expect("a status line").to_owned()
}

fn refused(memory: &BodyMemory, purpose: &str) -> u64 {
    memory.refused().find(|(word, _)| *word == purpose).map_or(0, |(_, count)| count)
}

#[test]
fn bodies_of_many_slow_clients_take_no_more_than_the_memory_there_is() {
    const EACH: usize = 8 * 1024;
    const FIT: usize = MEMORY / EACH;
    let (origin, _) = origin();
    let (plane, address, snapshot, telemetry) = gateway(origin);
    let memory = snapshot.upstreams.body_memory();
    let mut clients = Vec::new();
    for number in 1..=FIT {
        clients.push(slow_client(address, "/", EACH));
        wait_for("the body is kept", || memory.used() == number * EACH);
    }
    for number in 1..=FIT as u64 {
        clients.push(slow_client(address, "/", EACH));
        wait_for("the body is not kept", || refused(memory, "retry") == number);
        assert_eq!(memory.used(), MEMORY);
    }
    let metrics = telemetry.metrics().expose();
    for line in
        ["witgate_body_memory_bytes{} 65536", "witgate_body_memory_refused_total{purpose=\"retry\"} 8"]
    {
        assert!(metrics.lines().any(|written| written == line), "{line}\n{metrics}");
    }
    // No request fails, and the memory is released with the responses.
    assert!(clients.into_iter().all(|client| finish(client) == "200"));
    wait_for("all is given back", || memory.used() == 0);
    let next = slow_client(address, "/", EACH);
    wait_for("there is room again", || memory.used() == EACH);
    drop(next);
    wait_for("a client that leaves takes its bytes with it", || memory.used() == 0);
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn a_request_whose_body_was_not_kept_is_not_sent_again() {
    let (origin, asked) = origin();
    let (plane, address, snapshot, _telemetry) = gateway(origin);
    let memory = snapshot.upstreams.body_memory();
    let kept = slow_client(address, "/lost/kept", MEMORY);
    wait_for("the body is kept", || memory.used() == MEMORY);
    let not_kept = slow_client(address, "/lost/not-kept", 10);
    wait_for("the body is not kept", || refused(memory, "retry") == 1);
    assert_eq!(finish(not_kept), "502");
    assert_eq!(memory.used(), MEMORY);
    assert_eq!(finish(kept), "200");
    wait_for("all is given back", || memory.used() == 0);
    let asked = asked.lock().expect("a lock");
    assert_eq!((asked["/lost/kept"], asked["/lost/not-kept"]), (2, 1));
    assert_eq!(plane.drain(DEADLINE), 0);
}
