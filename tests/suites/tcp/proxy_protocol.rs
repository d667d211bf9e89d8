//! The PROXY protocol, received and sent, between the gateway and real sockets and HAProxy.

use std::process::{Child, Command, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use witgate_tests::{Gateway, Origin, Scratch, eventually, free_port, missing};

use super::{Service, config, connect, line, rest, write_in_pieces};

const TRUSTED: &str = "proxy_protocol = { trusted = [\"127.0.0.0/8\"] }\n";
const REQUEST: &str = "GET /x HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

/// A header of version 2 for this client, with these additional fields.
fn v2(fields: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 33, 198, 51, 100, 7, 0xDD, 0xD5, 0x01, 0xBB];
    let length = u16::try_from(addresses.len() + fields.len()).expect("it fits").to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11", &length[..], &addresses, fields].concat()
}

/// A listener for HTTP, `web`, whose requests go to this origin. `more` belongs to the listener.
fn http(origin: &Origin, more: &str) -> String {
    format!(
        "[telemetry]\naccess_log = \"access.log\"\n[admin]\naddress = \"off\"\nsocket = \"admin.sock\"\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n{more}\
         [[routes]]\npath = \"/*\"\nupstream = \"origin\"\n[upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address()
    )
}

/// What the gateway answers to these bytes.
async fn answer(gateway: &Gateway, listener: &str, bytes: &[u8]) -> String {
    let mut client = connect(gateway, listener).await;
    let _ = client.write_all(bytes).await;
    String::from_utf8_lossy(&rest(&mut client).await.0).into_owned()
}

#[tokio::test]
async fn a_trusted_proxy_tells_who_the_client_of_a_request_is() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start_exactly(Scratch::new(), &http(&origin, TRUSTED)).await;
    let v1 = b"PROXY TCP4 192.0.2.33 198.51.100.7 56789 443\r\n".to_vec();
    for header in [v1.clone(), v2(&[]), v2(b"\x02\0\x06a.test\xEA\0\0")] {
        let bytes = [&header[..], REQUEST.as_bytes()].concat();
        assert!(answer(&gateway, "web", &bytes).await.contains("origin GET /x"));
        assert_eq!(origin.last().header("x-forwarded-for"), "192.0.2.33");
    }
    let mut client = connect(&gateway, "web").await;
    write_in_pieces(&mut client, v2(&[]).chunks(1)).await;
    client.write_all(REQUEST.as_bytes()).await.expect("room");
    assert!(String::from_utf8_lossy(&rest(&mut client).await.0).contains("origin GET /x"));
    let line = line(&gateway, |line| line["status"] == 200).await;
    assert_eq!(line["client"], "192.0.2.33");
    // A proxy that speaks for itself, as in a health check.
    for own in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        assert!(answer(&gateway, "web", &[own, REQUEST.as_bytes()].concat()).await.contains("origin"));
        assert_eq!(origin.last().header("x-forwarded-for"), "127.0.0.1");
    }
}

#[tokio::test]
async fn a_header_that_is_missing_or_wrong_ends_the_connection() {
    let origin = Origin::named("origin").await;
    let gateway = Gateway::start_exactly(Scratch::new(), &http(&origin, TRUSTED)).await;
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(200));
    let cases: [&[u8]; 6] = [
        b"",
        b"PROXY TCP4 192.0.2.33 198.51.100.7 56789\r\n",
        b"PROXY TCP4 192.0.2.333 198.51.100.7 56789 443\r\n",
        long.as_bytes(),
        &v2(b"\x03\0\x04\0\0\0\0"),
        &v2(b"\x02\0\x16a.test"),
    ];
    for header in cases {
        assert_eq!(answer(&gateway, "web", &[header, REQUEST.as_bytes()].concat()).await, "", "{header:?}");
    }
    assert!(origin.seen().is_empty());
    eventually("each is counted", async || {
        gateway.metric("witgate_faults_total", &["code=\"bad-proxy-header\""]).await > 5.5
    })
    .await;
    line(&gateway, |line| line["cause"] == "the checksum of the PROXY header is wrong").await;
}

#[tokio::test]
async fn other_sources_are_refused_or_served_as_what_they_are() {
    let origin = Origin::named("origin").await;
    let text = http(&origin, "proxy_protocol = { trusted = [\"192.0.2.0/24\"] }\n");
    let gateway = Gateway::start_exactly(Scratch::new(), &text).await;
    let smuggled = [&v2(&[])[..], REQUEST.as_bytes()].concat();
    for bytes in [REQUEST.as_bytes(), &smuggled] {
        assert_eq!(answer(&gateway, "web", bytes).await, "");
    }
    line(&gateway, |line| line["fault"] == "bad-proxy-header").await;
    let direct = text.replace("/24\"] }", "/24\"], others = \"direct\" }");
    gateway.reconfigure(&direct).await;
    eventually("the new settings", async || {
        answer(&gateway, "web", REQUEST.as_bytes()).await.contains("origin GET /x")
    })
    .await;
    assert_eq!(origin.last().header("x-forwarded-for"), "127.0.0.1");
    let seen = origin.seen().len();
    for header in [&v2(&[])[..], b"PROXY TCP4 192.0.2.33 198.51.100.7 56789 443\r\n"] {
        let refused = answer(&gateway, "web", &[header, REQUEST.as_bytes()].concat()).await;
        assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    }
    assert_eq!(origin.seen().len(), seen);
}

#[tokio::test]
async fn endpoints_are_told_who_the_client_is() {
    let service = Service::telling().await;
    let text = config(&[service.address], "proxy_protocol = \"v1\"\n")
        .replace("protocol = \"tcp\"\naddress", &format!("protocol = \"tcp\"\n{TRUSTED}address"));
    let gateway = Gateway::start(Scratch::new(), &text).await;
    let through = async |header: &[u8]| {
        let mut client = connect(&gateway, "db").await;
        client.write_all(&[header, b"payload"].concat()).await.expect("room");
        client.shutdown().await.expect("a half-close");
        rest(&mut client).await.0
    };
    let told = through(&v2(&[])).await;
    assert_eq!(told, b"PROXY TCP4 192.0.2.33 198.51.100.7 56789 443\r\npayload");
    gateway.reconfigure(&Gateway::completed(&text.replace("\"v1\"", "\"v2\""))).await;
    // The identifier of the connection is passed on; the claimed authority is not.
    let told = through(&v2(b"\x05\0\x02id\x02\0\x06a.test")).await;
    let expected = v2(b"\x05\0\x02id");
    assert_eq!((&told[..14], &told[16..33]), (&expected[..14], &expected[16..33]));
    assert_eq!(told[33..36], [3, 0, 4], "the checksum follows");
    assert!(told.ends_with(b"payload") && !told.windows(6).any(|window| window == b"a.test"));
    let line = line(&gateway, |line| line["client"] == "192.0.2.33:56789").await;
    assert!(line["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn endpoints_of_http_are_told_for_each_request() {
    let origin = Origin::named("origin").await;
    let folder = Scratch::new();
    // The second gateway requires the header that the first one sends.
    let behind = Gateway::start_exactly(Scratch::new(), &http(&origin, TRUSTED)).await;
    let text = http(&origin, TRUSTED).replace(
        &format!("[\"{}\"]\n", origin.address()),
        &format!("[\"{}\"]\nproxy_protocol = \"v2\"\nhealth = {{ http = {{ path = \"/check\" }}, interval = \"100ms\" }}\n", behind.address()),
    );
    let gateway = Gateway::start_exactly(folder, &text).await;
    eventually("a check has passed", async || origin.seen().iter().any(|seen| seen.uri.path() == "/check"))
        .await;
    for last in [33, 34] {
        let header = format!("PROXY TCP4 192.0.2.{last} 198.51.100.7 56789 443\r\n");
        assert!(answer(&gateway, "web", format!("{header}{REQUEST}").as_bytes()).await.contains("origin"));
        let told = line(&behind, |line| line["client"] == format!("192.0.2.{last}")).await;
        assert_eq!((&told["status"], &told["path"]), (&200.into(), &"/x".into()));
    }
}

/// HAProxy with this configuration. It ends with this.
struct Haproxy(Child);

impl Haproxy {
    fn start(scratch: &Scratch, text: &str) -> Haproxy {
        let defaults = "defaults\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n mode tcp\n";
        let file = scratch.write("haproxy.cfg", format!("global\n maxconn 100\n{defaults}{text}"));
        let child =
            Command::new("/usr/sbin/haproxy").arg("-db").arg("-f").arg(file).stderr(Stdio::null()).spawn();
        Haproxy(child.expect("haproxy can be run"))
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn reach(port: u16) -> TcpStream {
    let mut reached = None;
    eventually("haproxy accepts", async || {
        reached = TcpStream::connect(("127.0.0.1", port)).await.ok();
        reached.is_some()
    })
    .await;
    reached.expect("the loop ended with one")
}

/// A client, HAProxy, the gateway, HAProxy again, and a service: each hop tells the next who the client is.
#[tokio::test]
async fn haproxy_is_understood_and_understands() {
    if missing("haproxy") {
        return;
    }
    let service = Service::telling().await;
    let behind = free_port();
    for version in ["v1", "v2"] {
        let scratch = Scratch::new();
        let text = config(&[([127, 0, 0, 1], behind).into()], &format!("proxy_protocol = \"{version}\"\n"))
            .replace("protocol = \"tcp\"\naddress", &format!("protocol = \"tcp\"\n{TRUSTED}address"));
        let front = free_port();
        let gateway = Gateway::start(scratch, &text).await;
        let send =
            if version == "v1" { "send-proxy" } else { "send-proxy-v2 proxy-v2-options crc32c,unique-id" };
        let haproxy = format!(
            "frontend f\n bind 127.0.0.1:{front}\n unique-id-format %[uuid]\n default_backend g\n\
             backend g\n server g {} {send}\n\
             frontend b\n bind 127.0.0.1:{behind} accept-proxy\n default_backend s\n\
             backend s\n server s {} send-proxy\n",
            gateway.listener("db"),
            service.address
        );
        let _haproxy = Haproxy::start(&gateway.scratch, &haproxy);
        let mut client = reach(front).await;
        let own = client.local_addr().expect("an address");
        client.write_all(b"payload").await.expect("room");
        client.shutdown().await.expect("a half-close");
        let (came, _) = rest(&mut client).await;
        let came = String::from_utf8_lossy(&came).into_owned();
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {front}\r\npayload", own.port());
        assert_eq!(came, expected, "{version}");
        line(&gateway, |line| line["client"] == own.to_string()).await;
    }
}
