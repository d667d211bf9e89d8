//! TLS: passed through by server name and protocol, ended at the gateway, and beside HTTP on one port.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use witgate_tests::{Client, Gateway, Origin, Scratch};

use super::{Service, connect, line, rest, write_in_pieces};
use crate::tls::Authority;

/// A service with TLS of its own, which greets with its name.
async fn secure(scratch: &Scratch, authority: &Authority, name: &'static str, hosts: &[&str]) -> Service {
    authority.issue(scratch, name, hosts);
    let file = |kind: &str| scratch.path().join(format!("{name}.{kind}"));
    let chain = vec![CertificateDer::from_pem_file(file("crt")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(file("key")).expect("a key");
    let mut config =
        rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("they fit");
    config.alpn_protocols = vec![b"postgresql".to_vec(), b"other".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    Service::with(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(name.as_bytes()).await;
                let mut came = Vec::new();
                let _ = stream.read_to_end(&mut came).await;
                let _ = stream.write_all(&came).await;
                let _ = stream.shutdown().await;
            }
        }
    })
    .await
}

async fn tls(
    authority: &Authority,
    gateway: &Gateway,
    listener: &str,
    host: &'static str,
    protocols: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder().with_root_certificates(authority.roots());
    let mut config = builder.with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    let name = ServerName::try_from(host).expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, connect(gateway, listener).await).await
}

/// Who greets a client that asks for this host.
async fn greeted(authority: &Authority, gateway: &Gateway, host: &'static str, protocols: &[&str]) -> String {
    let mut stream = tls(authority, gateway, "db", host, protocols).await.expect("a handshake");
    stream.write_all(b"!").await.expect("room");
    stream.shutdown().await.expect("a half-close");
    let mut came = String::new();
    stream.read_to_string(&mut came).await.expect("a greeting");
    came
}

fn route(name: &str, conditions: &str) -> String {
    format!("[[routes]]\nname = \"{name}\"\nlisteners = \"db\"\n{conditions}\nupstream = \"{name}\"\n")
}

fn upstream(name: &str, service: &Service) -> String {
    format!("[upstreams.{name}]\nprotocol = \"tcp\"\nendpoints = [\"{}\"]\n", service.address)
}

const LISTENER: &str = "[telemetry]\naccess_log = \"access.log\"\n\
    [[listeners]]\nname = \"db\"\nprotocol = \"tcp\"\naddress = \"127.0.0.1:0\"\nlimits = { handshake_timeout = \"30s\" }\n";

#[tokio::test]
async fn connections_go_by_server_name_and_protocol_and_their_tls_is_left_alone() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let all = ["one.test", "a.two.test", "b.a.two.test", "three.test"];
    let one = secure(&scratch, &authority, "one", &all).await;
    let two = secure(&scratch, &authority, "two", &all).await;
    let other = secure(&scratch, &authority, "other", &all).await;
    let rest = secure(&scratch, &authority, "rest", &all).await;
    let text = [
        LISTENER.to_owned(),
        route("one", "sni = \"One.test\""),
        route("two", "sni = [\"*.two.test\"]"),
        route("other", "sni = \"one.test\"\nalpn = \"other\""),
        route("rest", ""),
        upstream("one", &one),
        upstream("two", &two),
        upstream("other", &other),
        upstream("rest", &rest),
    ];
    let gateway = Gateway::start(scratch, &text.concat()).await;
    let cases: [(&'static str, &[&str], &str); 6] = [
        ("one.test", &[], "one!"),
        ("one.test", &["postgresql"], "one!"),
        ("one.test", &["postgresql", "other"], "other!"),
        ("a.two.test", &[], "two!"),
        ("b.a.two.test", &[], "rest!"),
        ("three.test", &["other"], "rest!"),
    ];
    for (host, protocols, expected) in cases {
        assert_eq!(greeted(&authority, &gateway, host, protocols).await, expected, "{host} {protocols:?}");
    }
    let line = line(&gateway, |line| line["route"] == "two").await;
    assert_eq!((&line["sni"], &line["protocol"]), (&"a.two.test".into(), &"tcp".into()));
}

/// A ClientHello with this server name and an extension of this size.
fn hello(name: &[u8], padding: usize) -> Vec<u8> {
    let long = |bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).expect("it fits").to_be_bytes();
        [&length[..], bytes].concat()
    };
    let names = long(&[&[0][..], &long(name)].concat());
    let extensions = [&[0xFE, 0x0D][..], &long(&vec![7; padding]), &[0, 0], &long(&names)].concat();
    let body = [&[3, 3][..], &[9; 32], &[0, 0, 2, 0x13, 1, 1, 0], &long(&extensions)].concat();
    let message = [&[1][..], &u32::try_from(body.len()).expect("it fits").to_be_bytes()[1..], &body].concat();
    message.chunks(16 * 1024).flat_map(|part| [&[22, 3, 1][..], &long(part)].concat()).collect()
}

#[tokio::test]
async fn the_hello_reaches_the_service_unchanged_however_it_arrives() {
    let service = Service::telling().await;
    let text = [LISTENER.to_owned(), route("one", "sni = \"one.test\""), upstream("one", &service)];
    let gateway = Gateway::start(Scratch::new(), &text.concat()).await;
    for (padding, piece) in [(0, 1), (1500, 100), (0, 3), (40_000, 9000)] {
        let sent = [hello(b"ONE.test.", padding), b"what follows".to_vec()].concat();
        let mut client = connect(&gateway, "db").await;
        write_in_pieces(&mut client, sent.chunks(piece)).await;
        client.shutdown().await.expect("a half-close");
        let (came, end) = rest(&mut client).await;
        assert!(end.is_ok() && came == sent, "{padding} {piece}: {} of {} bytes", came.len(), sent.len());
    }
}

#[tokio::test]
async fn a_hello_that_cannot_be_routed_gets_an_alert() {
    let service = Service::telling().await;
    let text = [LISTENER.to_owned(), route("one", "sni = \"one.test\""), upstream("one", &service)];
    let gateway = Gateway::start(Scratch::new(), &text.concat()).await;
    let twice = {
        let mut bytes = hello(b"one.testxx\0\0\x08two.test", 0);
        // The length of the first name, so that a second one follows.
        let at = bytes.windows(3).position(|window| window == b"one").expect("the name");
        bytes[at - 1] = 10;
        bytes
    };
    let cases: [(&str, Vec<u8>, u8, &str); 9] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec(), 10, "bad-client-hello"),
        ("SSL 2", b"\x80\x2E\x01\x03\x01\0\x15\0\0".to_vec(), 10, "bad-client-hello"),
        ("a record of 64 KiB", b"\x16\x03\x01\xFF\xFF\x01".to_vec(), 50, "bad-client-hello"),
        ("two names", twice, 47, "bad-client-hello"),
        ("a name with NUL", hello(b"one.test\0.evil.test", 0), 47, "bad-client-hello"),
        ("a name of 300 bytes", hello(&[b'a'; 300], 0), 47, "bad-client-hello"),
        ("an address", hello(b"127.0.0.1", 0), 112, "no-route"),
        ("another name", hello(b"two.test", 0), 112, "no-route"),
        ("a name below", hello(b"a.one.test", 0), 112, "no-route"),
    ];
    for (what, bytes, alert, fault) in cases {
        let before = gateway.metric("witgate_faults_total", &[&format!("code=\"{fault}\"")]).await;
        let mut client = connect(&gateway, "db").await;
        client.write_all(&bytes).await.expect("room");
        let (came, end) = rest(&mut client).await;
        assert!(end.is_ok(), "{what}: {end:?}");
        assert_eq!(came, [21, 3, 3, 0, 2, 2, alert], "{what}");
        witgate_tests::eventually("the fault is counted", async || {
            gateway.metric("witgate_faults_total", &[&format!("code=\"{fault}\"")]).await > before + 0.5
        })
        .await;
    }
    line(&gateway, |line| line["fault"] == "bad-client-hello" && line["cause"].is_string()).await;
    // An upstream that refuses: the client is told by an alert, too.
    let address = service.address;
    drop(service);
    witgate_tests::eventually("the service is gone", async || TcpStream::connect(address).await.is_err())
        .await;
    let mut client = connect(&gateway, "db").await;
    client.write_all(&hello(b"one.test", 0)).await.expect("room");
    assert_eq!(rest(&mut client).await.0, [21, 3, 3, 0, 2, 2, 80]);
}

#[tokio::test]
async fn a_slow_hello_is_given_up() {
    let service = Service::telling().await;
    let text =
        [LISTENER.replace("30s", "500ms"), route("one", "sni = \"one.test\""), upstream("one", &service)];
    let gateway = Gateway::start(Scratch::new(), &text.concat()).await;
    let (bytes, begun) = (hello(b"one.test", 0), Instant::now());
    for sent in [0, 1, 5, bytes.len() - 1] {
        let mut client = connect(&gateway, "db").await;
        client.write_all(&bytes[..sent]).await.expect("room");
        assert!(rest(&mut client).await.0.is_empty());
    }
    assert!(begun.elapsed() >= Duration::from_millis(2000));
    line(&gateway, |line| line["fault"] == "header-timeout").await;
}

#[tokio::test]
async fn tls_may_end_at_the_gateway() {
    let service = Service::greeting("plain").await;
    let (scratch, authority) = (Scratch::new(), Authority::new());
    authority.issue(&scratch, "gateway", &["one.test", "two.test"]);
    let text = [
        LISTENER.to_owned(),
        "tls = { certificate = \"gateway.crt\", key = \"gateway.key\" }\n".to_owned(),
        route("one", "sni = \"one.test\"\nalpn = [\"postgresql\"]"),
        upstream("one", &service),
    ];
    let gateway = Gateway::start(scratch, &text.concat()).await;
    let mut stream = tls(&authority, &gateway, "db", "one.test", &["x", "postgresql"]).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
    stream.write_all(b" text").await.expect("room");
    stream.shutdown().await.expect("a half-close");
    let mut came = String::new();
    stream.read_to_string(&mut came).await.expect("a close by close_notify");
    assert_eq!(came, "plain text");
    let line = line(&gateway, |line| line["route"] == "one").await;
    assert_eq!((&line["protocol"], &line["sni"]), (&"tls".into(), &"one.test".into()));
    assert!(tls(&authority, &gateway, "db", "one.test", &["x"]).await.is_err(), "no common protocol");
}

#[tokio::test]
async fn one_port_serves_http_and_passes_other_names_through() {
    let (scratch, authority) = (Scratch::new(), Authority::new());
    let database = secure(&scratch, &authority, "database", &["db.test"]).await;
    let origin = Origin::named("origin").await;
    authority.issue(&scratch, "www", &["www.test", "shop.test"]);
    authority.issue(&scratch, "api", &["api.test"]);
    let text = format!(
        "[[listeners]]\nname = \"db\"\naddress = \"127.0.0.1:0\"\n[listeners.tls]\ncertificates = [\n\
         {{ certificate = \"www.crt\", key = \"www.key\" }}, {{ certificate = \"api.crt\", key = \"api.key\" }} ]\n\
         [[routes]]\npath = \"/*\"\nupstream = \"origin\"\n\
         [[routes]]\nname = \"database\"\nsni = \"db.test\"\nupstream = \"database\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n{}",
        origin.address(),
        upstream("database", &database)
    );
    let gateway = Gateway::start(scratch, &text).await;
    assert_eq!(greeted(&authority, &gateway, "db.test", &[]).await, "database!");
    for protocol in ["http/1.1", "h2"] {
        let stream = tls(&authority, &gateway, "db", "www.test", &[protocol]).await.expect("TLS");
        let mut client = match protocol {
            "h2" => Client::http2_over(stream).await,
            _ => Client::http1_over(stream).await,
        };
        // A host with the same certificate, one that no certificate has, one with another certificate, and one that is
        // passed through.
        let cases = [
            ("www.test", 200),
            ("WWW.test:443", 200),
            ("shop.test", 200),
            ("elsewhere.test", 200),
            ("api.test", 421),
            ("db.test", 421),
        ];
        for (host, expected) in cases {
            let uri = format!("https://{host}/x");
            let reply = match protocol {
                "h2" => client.get(&uri, &[]).await,
                _ => client.get("/x", &[("host", host)]).await,
            };
            assert_eq!(reply.status, expected, "{protocol} {host}: {}", reply.text());
            if expected == 421 {
                assert!(reply.text().contains("misdirected-request"), "{}", reply.text());
            }
        }
    }
}
