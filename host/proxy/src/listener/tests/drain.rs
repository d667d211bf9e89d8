//! What a drain, a connection's age and a swap do to idle connections, and in which order listeners drain.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use witgate_config::Config;
use witgate_config::model::DrainOrder;

use super::{Client, DEADLINE, GET, config, let_pass, listener, route, snapshot, start, wait_for};
use crate::listener::DataPlane;
use crate::protocol::tests::{HEAD, PREFACE, forward, frame, next_frame};

/// Longer than a request takes to arrive after its predecessor, in these tests.
const PAUSE: Duration = Duration::from_millis(400);

fn idle_for(time: Duration) -> impl FnOnce(&mut Config) {
    move |config| {
        config.gateway.drain_timeout = DEADLINE;
        config.gateway.drain_idle = time;
    }
}

fn begin(plane: DataPlane, address: SocketAddr) -> std::thread::JoinHandle<usize> {
    let drained = std::thread::spawn(move || plane.drain(DEADLINE));
    wait_for("nothing more is accepted", || TcpStream::connect(address).is_err());
    drained
}

fn is_last(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.contains("connection: close\r\n")
}

#[test]
fn an_idle_connection_has_its_request_answered_in_a_drain() {
    let (plane, address) = start(idle_for(Duration::from_secs(4)));
    let mut used = Client::connect(address);
    used.send(GET).until("hello");
    let mut fresh = Client::connect(address);
    wait_for("both are accepted", || plane.status()[0].accepted == 2);
    let drained = begin(plane, address);
    let_pass(PAUSE);
    for client in [&mut used, &mut fresh] {
        let answer = client.send(GET).rest();
        assert!(is_last(&answer) && answer.ends_with("hello"), "{answer}");
    }
    let begun = Instant::now();
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(begun.elapsed() < Duration::from_secs(2), "nobody is waited for who is not there");
}

#[test]
fn idle_connections_end_when_they_have_had_their_time() {
    let (plane, address) = start(idle_for(PAUSE));
    let mut used = Client::connect(address);
    used.send(GET).until("hello");
    let mut fresh = Client::connect(address);
    wait_for("both are accepted", || plane.status()[0].accepted == 2);
    let begun = Instant::now();
    let drained = begin(plane, address);
    assert_eq!((used.rest(), fresh.rest()), (String::new(), String::new()));
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(begun.elapsed() >= PAUSE && begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
}

#[test]
fn a_drain_without_connections_is_over_at_once() {
    let (plane, _address) = start(idle_for(Duration::from_secs(5)));
    let begun = Instant::now();
    assert_eq!(plane.drain(DEADLINE), 0);
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_connection_that_has_grown_old_ends_with_an_answer() {
    let (_plane, address) =
        start(|config| config.listeners[0].limits.max_connection_age = Some(Duration::from_millis(100)));
    let mut client = Client::connect(address);
    client.send(GET).until("hello");
    let_pass(PAUSE);
    let answer = client.send(GET).rest();
    assert!(is_last(&answer), "{answer}");
}

#[test]
fn a_connection_that_has_grown_old_ends_at_its_keep_alive() {
    let (_plane, address) = start(|config| {
        config.listeners[0].limits.max_connection_age = Some(Duration::from_millis(100));
        config.listeners[0].limits.keep_alive = PAUSE * 2;
    });
    let mut client = Client::connect(address);
    client.send(GET).until("hello");
    let begun = Instant::now();
    assert_eq!(client.rest(), "");
    assert!(begun.elapsed() >= PAUSE, "{:?}", begun.elapsed());
}

#[test]
fn a_connection_of_a_changed_listener_ends_with_an_answer() {
    let (plane, address) = start(idle_for(Duration::from_secs(1)));
    let mut client = Client::connect(address);
    client.send(GET).until("hello");
    let changed = |config: &mut Config| {
        idle_for(Duration::from_secs(1))(config);
        config.listeners[0].limits.headers = 7;
    };
    plane.swap(snapshot(config(changed))).expect("a swap");
    let_pass(PAUSE);
    let answer = client.send(GET).rest();
    assert!(is_last(&answer), "{answer}");
    Client::connect(address).send(GET).until("hello");
}

#[test]
fn http2_is_told_twice_and_what_is_on_its_way_is_answered() {
    let (plane, address) = start(idle_for(Duration::from_secs(4)));
    let mut client = Client::connect(address);
    client.send(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, HEAD)].concat());
    // The first response is complete.
    while !matches!(next_frame(&mut client).expect("a frame"), (0, 1, 1, _)) {}
    let drained = begin(plane, address);
    let (mut last_streams, mut answered) = (Vec::new(), false);
    while let Some((kind, flags, stream, payload)) = next_frame(&mut client) {
        match (kind, stream) {
            (7, _) => {
                assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
                last_streams.push(u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]));
            }
            // The PING tells that the first GOAWAY is out. Before the client acknowledges it, the client begins
            // another stream.
            (6, _) if flags & 1 == 0 => {
                client.send(&[frame(1, 5, 3, HEAD), frame(6, 1, 0, &payload)].concat());
            }
            (0, 3) => answered |= flags & 1 == 1,
            _ => {}
        }
    }
    assert_eq!((last_streams, answered), (vec![u32::MAX >> 1, 3], true));
    assert_eq!(drained.join().expect("no panic"), 0);
}

/// Reads the frames of a connection until it ends, and returns the last stream that each GOAWAY named.
fn told(client: &mut Client) -> Vec<u32> {
    let mut last_streams = Vec::new();
    while let Some((kind, _, _, payload)) = next_frame(client) {
        if kind == 7 {
            assert_eq!(payload[4..8], [0; 4], "NO_ERROR");
            last_streams.push(u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]));
        }
    }
    last_streams
}

#[test]
fn http2_that_never_says_it_was_told_ends_when_it_has_had_its_time() {
    let (plane, address) = start(idle_for(PAUSE));
    let mut used = Client::connect(address);
    used.send(&[PREFACE, &frame(4, 0, 0, &[]), &frame(1, 5, 1, HEAD)].concat());
    while !matches!(next_frame(&mut used).expect("a frame"), (0, 1, 1, _)) {}
    let mut fresh = Client::connect(address);
    fresh.send(&[PREFACE, &frame(4, 0, 0, &[])].concat());
    next_frame(&mut fresh).expect("settings");
    let begun = Instant::now();
    let drained = begin(plane, address);
    assert_eq!(told(&mut used), [u32::MAX >> 1, 1]);
    assert_eq!(told(&mut fresh), [u32::MAX >> 1, 0]);
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(begun.elapsed() >= PAUSE && begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
}

/// Drains, and checks that both listeners close although a client of the edge listener is still connected.
fn drains_before_its_time_is_up(plane: DataPlane, edge: SocketAddr, mesh: SocketAddr) {
    let begun = Instant::now();
    let drained = begin(plane, edge);
    wait_for("the other is closed too", || TcpStream::connect(mesh).is_err());
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
}

#[test]
fn http2_that_never_says_it_was_told_does_not_hold_a_listener_that_drains_last() {
    let origin = Calling::start();
    let (plane, edge, mesh) = edge_and_mesh(origin.address, PAUSE);
    let mut mute = Client::connect(edge);
    mute.send(&[PREFACE, &frame(4, 0, 0, &[])].concat());
    next_frame(&mut mute).expect("settings");
    drains_before_its_time_is_up(plane, edge, mesh);
}

#[test]
fn http2_that_never_says_it_was_told_ends_at_its_keep_alive() {
    let (_plane, address) = start(|config| {
        config.listeners[0].limits.keep_alive = PAUSE;
        config.listeners[0].limits.body_timeout = PAUSE;
    });
    let mut client = Client::connect(address);
    client.send(&[PREFACE, &frame(4, 0, 0, &[])].concat());
    assert_eq!(told(&mut client), [u32::MAX >> 1, 0]);
}

/// An origin that reports its request, waits for a signal, calls another address, and passes on that response.
struct Calling {
    address: SocketAddr,
    asked: Receiver<()>,
    go: SyncSender<SocketAddr>,
}

impl Calling {
    fn start() -> Calling {
        let origin = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = origin.local_addr().expect("an address");
        let (tell, asked) = sync_channel(1);
        let (go, wait) = sync_channel::<SocketAddr>(1);
        std::thread::spawn(move || {
            let mut client = Client(origin.accept().expect("a connection").0);
            client.until("\r\n\r\n");
            tell.send(()).expect("a test that listens");
            let called = match wait.recv().map(TcpStream::connect) {
                Ok(Ok(stream)) => Client(stream).send(b"GET /mesh HTTP/1.1\r\nhost: a\r\n\r\n").until("mesh"),
                Ok(Err(_)) => "refused".to_owned(),
                Err(_) => return,
            };
            let called = if called.starts_with("HTTP/1.1 200 ") { "called" } else { &called };
            let length = called.len();
            client.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{called}").as_bytes());
        });
        Calling { address, asked, go }
    }
}

/// An edge listener in front of an origin, and a mesh listener for the calls between services.
fn edge_and_mesh(origin: SocketAddr, idle: Duration) -> (DataPlane, SocketAddr, SocketAddr) {
    let (plane, edge) = start(|config| {
        idle_for(idle)(config);
        forward(config, origin);
        config.routes[0].listeners = vec!["web".into()];
        let mut mesh = listener("mesh");
        mesh.drain = DrainOrder::Last;
        config.listeners.push(mesh);
        let mut answer = route("mesh");
        answer.name = "mesh".into();
        answer.listeners = vec!["mesh".into()];
        config.routes.push(answer);
    });
    let mesh = plane.addresses().into_iter().find(|(name, _)| name == "mesh").expect("the mesh").1;
    (plane, edge, mesh)
}

#[test]
fn a_listener_that_drains_last_serves_the_calls_of_the_others() {
    let origin = Calling::start();
    let (plane, edge, mesh) = edge_and_mesh(origin.address, PAUSE / 4);
    let mut client = Client::connect(edge);
    client.send(GET);
    origin.asked.recv_timeout(DEADLINE).expect("a request in time");
    let drained = begin(plane, edge);
    let_pass(PAUSE);
    origin.go.send(mesh).expect("an origin that waits");
    let answer = client.rest();
    assert!(is_last(&answer) && answer.ends_with("called"), "{answer}");
    assert_eq!(drained.join().expect("no panic"), 0);
    assert!(TcpStream::connect(mesh).is_err());
}

#[test]
fn idle_connections_do_not_hold_a_listener_that_drains_last() {
    let origin = Calling::start();
    let (plane, edge, mesh) = edge_and_mesh(origin.address, PAUSE);
    let _idle = Client::connect(edge);
    let mut of_mesh = Client::connect(mesh);
    of_mesh.send(GET).until("mesh");
    wait_for("it is accepted", || plane.status().iter().all(|bound| bound.accepted == 1));
    drains_before_its_time_is_up(plane, edge, mesh);
}

#[test]
fn one_timeout_bounds_a_drain_in_two_steps() {
    let origin = Calling::start();
    let (plane, edge, mesh) = edge_and_mesh(origin.address, PAUSE / 4);
    let mut client = Client::connect(edge);
    client.send(GET);
    origin.asked.recv_timeout(DEADLINE).expect("a request in time");
    let begun = Instant::now();
    assert_eq!(plane.drain(PAUSE * 2), 1, "the request on the edge was cut");
    assert!(begun.elapsed() >= PAUSE * 2 && begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    assert!(TcpStream::connect(mesh).is_err());
}
