//! The protocols over real sockets: HTTP/2, TLS, tunnels.

mod forwarding;
mod framing;
mod informational;
mod leaving;
mod lingering;
mod malformed;
mod raw_origin;
mod refusals;
mod slashes;
mod websockets;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use witgate_config::model::{self, Action, CertificateFiles, Forward, ListenerTls, Rewrite};
use witgate_exchange::body::Body;
use witgate_exchange::contracts::MaybeReady;
use witgate_exchange::facts::Facts;
use witgate_exchange::fault::Fault;

use crate::filters::{Filter, Stage, Step};
use crate::listener::DataPlane;
use crate::listener::tests::{Client, DEADLINE, config, snapshot, start, wait_for};
use crate::router::{Route, Router, Rule};
use crate::snapshot::Snapshot;
use crate::testing;

fn run<F: Future>(future: F) -> F::Output {
    testing::run(async { tokio::time::timeout(DEADLINE, future).await.expect("in time") })
}

async fn http2_client(address: SocketAddr) -> http2::SendRequest<Empty<Bytes>> {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (client, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(connection);
    client
}

fn get(headers: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let request = headers
        .iter()
        .fold(Request::get("http://a.example/"), |request, (name, value)| request.header(*name, *value));
    request.body(Empty::new()).expect("a request")
}

#[test]
fn http2_is_spoken_in_cleartext_without_being_asked() {
    let (plane, address) = start(|_| {});
    run(async {
        let client = http2_client(address).await;
        let requests = (0..20).map(|_| {
            let mut client = client.clone();
            async move {
                let response = client.send_request(get(&[])).await.expect("a response");
                assert_eq!((response.status(), response.version()), (StatusCode::OK, Version::HTTP_2));
                response.into_body().collect().await.expect("a body").to_bytes()
            }
        });
        let bodies = futures_util::future::join_all(requests).await;
        assert!(bodies.iter().all(|body| body == "hello"));
    });
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn http2_heads_have_limits_and_crumbs_count() {
    let (_plane, address) = start(|config| config.listeners[0].limits.headers = 10);
    run(async {
        let mut client = http2_client(address).await;
        let crumbs = [("cookie", "a=1"); 11];
        let status = client.send_request(get(&crumbs)).await.expect("a response").status();
        assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        let status = client.send_request(get(&[("x_user", "1")])).await.expect("a response").status();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        let status = client.send_request(get(&[("host", "b.example")])).await.expect("a response").status();
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert_eq!(client.send_request(get(&[])).await.expect("a response").status(), StatusCode::OK);
    });
}

/// A frame (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kind, flags, stream and payload of the next frame; `None` at the end of the stream.
pub(crate) fn next_frame(client: &mut Client) -> Option<(u8, u8, u32, Vec<u8>)> {
    let mut head = [0; 9];
    client.0.read_exact(&mut head).ok()?;
    let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
    client.0.read_exact(&mut payload).ok()?;
    Some((head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]), payload))
}

/// `GET http://a/` in HPACK, without the dynamic table.
pub(crate) const HEAD: &[u8] = b"\x82\x86\x84\x01\x01a";

#[test]
fn floods_end_the_connection_and_nothing_else() {
    let (_plane, address) = start(|_| {});
    let streams =
        |make: &dyn Fn(u32) -> Vec<u8>| (0..2000).flat_map(|n| make(n * 2 + 1)).collect::<Vec<u8>>();
    let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let floods = [
        ("rapid reset", streams(&|id| [frame(1, 5, id, HEAD), frame(3, 0, id, &[0, 0, 0, 8])].concat())),
        ("made you reset", streams(&|id| [frame(1, 5, id, HEAD), frame(8, 0, id, &[0; 4])].concat())),
        ("continuation", {
            let mut bytes = frame(1, 1, 1, HEAD);
            (0..2000).for_each(|_| bytes.extend(frame(9, 0, 1, &[])));
            bytes
        }),
    ];
    for (what, flood) in floods {
        let mut client = Client::connect(address);
        client.send(&begin);
        // The gateway may close the connection before everything is sent.
        let _ = client.0.write_all(&flood);
        let mut answer = Vec::new();
        let _ = client.0.read_to_end(&mut answer);
        assert!(!answer.is_empty(), "{what}");
        run(async {
            let mut client = http2_client(address).await;
            assert_eq!(client.send_request(get(&[])).await.expect("a response").status(), StatusCode::OK);
        });
    }
}

#[test]
fn a_client_that_makes_no_room_is_given_up() {
    let (plane, address) = start(|config| {
        config.listeners[0].limits.keep_alive = Duration::from_millis(100);
        config.listeners[0].limits.body_timeout = Duration::from_millis(100);
    });
    let mut client = Client::connect(address);
    // SETTINGS_INITIAL_WINDOW_SIZE = 0
    client.send(&[PREFACE, &frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]), &frame(1, 5, 1, HEAD)].concat());
    wait_for("the connection is open", || plane.status()[0].accepted == 1);
    wait_for("the connection is gone", || plane.status()[0].open.iter().sum::<usize>() == 0);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let (plane, address) = start(|config| {
        config.listeners[0].limits.body_timeout = Duration::from_millis(200);
        let Action::Respond { body, .. } = &mut config.routes[0].action else { panic!("a fixed answer") };
        *body = "x".repeat(16 * 1024 * 1024);
    });
    let mut client = Client::connect(address);
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_for("the connection is open", || plane.status()[0].accepted == 1);
    wait_for("the connection is gone", || plane.status()[0].open.iter().sum::<usize>() == 0);
}

/// A certificate authority and the certificates it signed, as files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Authority { folder, issuer }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for `names`; the names of its files begin with `file`.
    fn sign(&self, file: &str, names: &[&str]) -> CertificateFiles {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let key = KeyPair::generate().expect("a key");
        let signed = CertificateParams::new(names).expect("names").signed_by(&key, &self.issuer);
        let files = CertificateFiles {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        std::fs::write(&files.certificate, signed.expect("a certificate").pem()).expect("a file");
        std::fs::write(&files.key, key.serialize_pem()).expect("a file");
        files
    }

    /// The TLS connector of a client that trusts this authority.
    fn client(&self, certificate: Option<&CertificateFiles>, protocols: &[&str]) -> TlsConnector {
        use rustls::pki_types::pem::PemObject;
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("a CA");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("versions").with_root_certificates(roots);
        let mut config = match certificate {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let chain = CertificateDer::pem_file_iter(&files.certificate).expect("a file");
                let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
                let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
                builder.with_client_auth_cert(chain, key).expect("a pair")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }
}

fn tls(certificates: Vec<CertificateFiles>) -> ListenerTls {
    ListenerTls {
        certificates,
        client_ca: None,
        client_certificate_required: false,
        client_identity: None,
        tls12: true,
        alpn: Vec::new(),
    }
}

async fn shake(
    address: SocketAddr,
    connector: &TlsConnector,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    connector.connect(ServerName::try_from(name.to_owned()).expect("a name"), stream).await
}

/// The certificate that the server presents for `name`.
async fn shown(address: SocketAddr, connector: &TlsConnector, name: &str) -> Vec<u8> {
    let stream = shake(address, connector, name).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().expect("a chain")[0].to_vec()
}

fn der(files: &CertificateFiles) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_file(&files.certificate).expect("a certificate").to_vec()
}

#[test]
fn the_certificate_is_chosen_by_name_and_reloaded() {
    let authority = Authority::new();
    let first = authority.sign("first", &["a.example"]);
    let second = authority.sign("second", &["b.example", "*.b.example"]);
    let with_tls = |config: &mut witgate_config::Config| {
        config.listeners[0].tls = Some(tls(vec![first.clone(), second.clone()]));
    };
    let (plane, address) = start(with_tls);
    let connector = authority.client(None, &["h2", "http/1.1"]);
    run(async {
        assert_eq!(shown(address, &connector, "a.example").await, der(&first));
        assert_eq!(shown(address, &connector, "b.example").await, der(&second));
        assert_eq!(shown(address, &connector, "x.b.example").await, der(&second));
        // An unknown name gets the first certificate, which this client then refuses.
        assert!(shake(address, &connector, "c.example").await.is_err());
    });
    let before = der(&first);
    authority.sign("first", &["a.example"]);
    plane.swap(snapshot(config(with_tls))).expect("a swap");
    run(async {
        let now = shown(address, &connector, "a.example").await;
        assert!(now != before && now == der(&first));
    });
    std::fs::write(&first.key, "no key").expect("a file");
    let problems = plane.swap(snapshot(config(with_tls))).expect_err("a broken key");
    assert!(problems[0].message.contains("first.key"), "{problems:?}");
    run(async { assert_eq!(shown(address, &connector, "a.example").await, der(&first)) });
}

#[test]
fn alpn_decides_between_the_versions() {
    let authority = Authority::new();
    let files = authority.sign("server", &["a.example"]);
    let (_plane, address) = start(|config| config.listeners[0].tls = Some(tls(vec![files])));
    run(async {
        let stream =
            shake(address, &authority.client(None, &["h2"]), "a.example").await.expect("a handshake");
        let (mut client, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
        tokio::spawn(connection);
        assert_eq!(client.send_request(get(&[])).await.expect("a response").version(), Version::HTTP_2);

        let stream = shake(address, &authority.client(None, &[]), "a.example").await.expect("a handshake");
        let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let request = get(&[("host", "a.example")]);
        assert_eq!(client.send_request(request).await.expect("a response").version(), Version::HTTP_11);
    });
}

/// Whether a client is accepted and gets a response.
async fn is_let_in(address: SocketAddr, connector: &TlsConnector) -> bool {
    let Ok(stream) = shake(address, connector, "a.example").await else { return false };
    let Ok((mut client, connection)) = http1::handshake(TokioIo::new(stream)).await else { return false };
    tokio::spawn(connection);
    client.send_request(get(&[("host", "a.example")])).await.is_ok()
}

#[test]
fn client_certificates_are_verified() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let server = authority.sign("server", &["a.example"]);
    let good = authority.sign("client", &["client.example"]);
    let bad = stranger.sign("client", &["client.example"]);
    for required in [true, false] {
        let (_plane, address) = start(|config| {
            let tls = tls(vec![server.clone()]);
            let client_ca = Some(authority.path("ca.pem"));
            config.listeners[0].tls =
                Some(ListenerTls { client_ca, client_certificate_required: required, ..tls });
        });
        run(async {
            assert!(is_let_in(address, &authority.client(Some(&good), &[])).await);
            assert!(!is_let_in(address, &authority.client(Some(&bad), &[])).await);
            assert_eq!(is_let_in(address, &authority.client(None, &[])).await, !required);
        });
    }
}

#[test]
fn a_handshake_that_dawdles_ends() {
    let authority = Authority::new();
    let files = authority.sign("server", &["a.example"]);
    let (_plane, address) = start(|config| {
        config.listeners[0].tls = Some(tls(vec![files]));
        config.listeners[0].limits.handshake_timeout = Duration::from_millis(100);
    });
    assert_eq!(Client::connect(address).rest(), "");
}

/// A filter that panics.
struct Broken;

impl Filter for Broken {
    fn request<'a>(&'a self, facts: &'a mut Facts, body: Body) -> MaybeReady<'a, Result<Step, Fault>> {
        assert!(facts.head.path() != "/bug", "a bug, as this test wants it");
        MaybeReady::over(Ok(Step::Proceed(body)))
    }
}

#[test]
fn a_panic_ends_one_request_and_nothing_else() {
    let (plane, address) = start(|_| {});
    let config = Arc::new(config(|_| {}));
    let mut broken = Snapshot::build(config.clone(), Default::default(), None).expect("a snapshot");
    let rule =
        Rule::compile(0, &config.routes[0], &broken.upstreams, &Default::default(), Default::default())
            .expect("a rule");
    let mut route = Route::new(config.routes[0].clone(), Arc::new(rule));
    route.filters = vec![(Stage::Edge, Arc::new(Broken))];
    broken.routers.insert("web".into(), Router::new(vec![Arc::new(route)]).expect("a router"));
    plane.swap(Arc::new(broken)).expect("a swap");

    let mut client = Client::connect(address);
    client.send(b"GET /bug HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.until("}");
    assert!(answer.starts_with("HTTP/1.1 500 ") && answer.contains("\"internal\""), "{answer}");
    client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").until("hello");
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn a_websocket_over_http2_is_one_over_http1_to_its_origin() {
    let (go, wait) = std::sync::mpsc::sync_channel(1);
    let (origin, _thread) = echoing_origin(wait);
    let (_plane, address) = in_front_of(origin);
    go.send(()).expect("an origin that waits");
    run(async {
        let mut client = http2_client(address).await;
        let mut request = Request::connect("http://a.example/chat").body(Empty::new()).expect("a request");
        request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
        let response = client.send_request(request).await.expect("a response");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("upgrade"));
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.expect("a tunnel"));
        tunnel.write_all(b"over two").await.expect("room");
        let mut back = [0; 8];
        tunnel.read_exact(&mut back).await.expect("an echo");
        assert_eq!(&back, b"over two");
    });
}

/// A gateway in front of one origin.
pub(super) fn in_front_of(origin: SocketAddr) -> (DataPlane, SocketAddr) {
    start(|config| forward(config, origin))
}

/// Points the only route at an origin.
pub(crate) fn forward(config: &mut witgate_config::Config, origin: SocketAddr) {
    config.upstreams.insert("origin".into(), upstream(origin));
    let upstreams = vec![("origin".into(), 1)];
    let forward = Forward {
        upstreams,
        rewrite: Rewrite::Keep,
        preserve_host: true,
        retry: Default::default(),
        mirror: None,
        bridge: Default::default(),
        transcode: None,
    };
    config.routes[0].action = Action::Forward(forward);
}

fn upstream(origin: SocketAddr) -> model::Upstream {
    let second = Duration::from_secs(1);
    model::Upstream {
        connect_timeout: second,
        first_byte_timeout: DEADLINE,
        idle_timeout: None,
        keep_alive: second,
        idle_connections: 1,
        max_connections: 0,
        max_pending: 1,
        pending_timeout: second,
        ..testing::upstream(&[origin])
    }
}

pub(super) const SWITCH: &[u8] =
    b"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The 101 that answers a handshake with this head.
pub(super) fn accepting(head: &str) -> String {
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("sec-websocket-key").then_some(value)
    });
    let accept = witgate_upstream::testing::websocket_accept(key.expect("a key").as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// An origin that waits for the test's signal, then switches protocols and echoes what it receives.
fn echoing_origin(go: std::sync::mpsc::Receiver<()>) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let thread = std::thread::spawn(move || {
        let mut client = Client(listener.accept().expect("a connection").0);
        let head = client.until("\r\n\r\n");
        assert!(head.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n"), "{head}");
        go.recv().expect("the word to go");
        client.0.set_nonblocking(true).expect("a socket");
        let early = client.0.read(&mut [0; 16]);
        assert!(early.is_err(), "bytes came before the 101: {early:?}");
        client.0.set_nonblocking(false).expect("a socket");
        client.send(accepting(&head).as_bytes());
        let mut buffer = [0; 1024];
        loop {
            match client.0.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(read) => drop(client.send(&buffer[..read])),
            }
        }
    });
    (address, thread)
}

#[test]
fn a_tunnel_carries_nothing_before_the_101_and_everything_after() {
    let (go, wait) = std::sync::mpsc::sync_channel(1);
    let (origin, thread) = echoing_origin(wait);
    let (plane, address) = in_front_of(origin);
    let mut client = Client::connect(address);
    client.send(&[SWITCH, b"early "].concat());
    go.send(()).expect("an origin that waits");
    assert!(client.until("\r\n\r\n").starts_with("HTTP/1.1 101 "));
    client.until("early ");
    client.send(b"late").until("late");
    // A tunnel does not keep its snapshot.
    let old = Arc::downgrade(&plane.snapshot());
    plane.swap(snapshot(config(|_| {}))).expect("a swap");
    wait_for("the old snapshot is dropped", || old.strong_count() == 0);
    client.send(b"still").until("still");
    client.0.shutdown(Shutdown::Write).expect("half a close");
    assert_eq!(client.rest(), "");
    thread.join().expect("no panic");
    assert_eq!(plane.drain(DEADLINE), 0);
}

#[test]
fn a_drain_leaves_tunnels_alone_until_its_time_is_up() {
    let (go, wait) = std::sync::mpsc::sync_channel(1);
    let (origin, _thread) = echoing_origin(wait);
    let (plane, address) = in_front_of(origin);
    let mut client = Client::connect(address);
    client.send(SWITCH);
    go.send(()).expect("an origin that waits");
    client.until("\r\n\r\n");
    let drained = std::thread::spawn(move || plane.drain(Duration::from_millis(500)));
    wait_for("the listener is closed", || std::net::TcpStream::connect(address).is_err());
    client.send(b"still").until("still");
    assert_eq!(client.rest(), "");
    assert_eq!(drained.join().expect("no panic"), 1);
}
