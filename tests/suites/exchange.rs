//! What version 0.2.0 lets plugins say and ask about an exchange, over sockets: notes from one binding to the next, bodies that are
//! declined, exchanges that end within their body, and where a response came from.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use witgate_tests::{Client, DEADLINE, Gateway, Origin, Scratch, guest};

/// A gateway whose binding `writer` leaves the note `a` and whose binding `reader` passes it on as `x-note`.
async fn start(origin: &Origin) -> Gateway {
    start_with(origin, "127.0.0.1:1").await
}

/// The same with this address in place of a closed port.
async fn start_with(origin: &Origin, closed: &str) -> Gateway {
    let scratch = Scratch::new();
    scratch.install(&guest("exchange"), "exchange");
    let config = format!(
        "[plugins.exchange]\nfile = \"exchange.wasm\"\nunstable = true\n\
         [bindings.writer]\nplugin = \"exchange\"\nsettings = {{ act = \"leave a found-out\" }}\n\
         grants = {{ store = [], notes = {{ write = [\"a\"] }}, upstream_hosts = [\"*.tenants.test\"] }}\n\
         [bindings.reader]\nplugin = \"exchange\"\n\
         grants = {{ store = [], notes = {{ read = [\"a\"] }} }}\n\
         [[routes]]\nname = \"both\"\npath = \"/both/*\"\nupstream = \"origin\"\nplugins = [\"writer\", \"reader\"]\n\
         [[routes]]\nname = \"reader\"\npath = \"/*\"\nupstream = \"origin\"\nplugins = [\"reader\"]\n\
         [[routes]]\nname = \"nowhere\"\npath = \"/nowhere\"\nupstream = \"closed\"\nplugins = [\"reader\"]\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n\
         [upstreams.closed]\nendpoints = [\"{closed}\"]\n",
        origin.address()
    );
    Gateway::start(scratch, &config).await
}

#[tokio::test]
async fn a_note_goes_from_the_writer_to_the_reader_of_one_exchange_and_no_client_sets_one() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = gateway.client().await;
    for _ in 0..3 {
        assert_eq!(client.get("/both/x", &[("x-note", "forged")]).await.status, 200);
        assert_eq!(origin.last().header("x-note"), "found-out");
        assert_eq!(client.get("/x", &[("a", "forged")]).await.status, 200);
        assert!(!origin.last().headers.contains_key("x-note"), "another exchange has no notes");
    }
}

#[tokio::test]
async fn a_declined_body_keeps_its_length_and_the_others_are_changed() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = gateway.client().await;
    let shouted = client.get("/x", &[]).await;
    assert_eq!((shouted.text(), shouted.headers.get("content-length")), ("ORIGIN GET /X", None));
    for decline in ["request", "response"] {
        let reply = client.get("/x", &[("x-decline", decline), ("range", "bytes=0-3")]).await;
        assert_eq!((reply.text(), reply.header("content-length")), ("origin GET /x", "13"), "{decline}");
        assert_eq!(origin.last().headers.contains_key("range"), decline == "request");
    }
}

#[tokio::test]
async fn a_plugin_sets_the_host_that_the_upstream_sees_where_it_is_granted() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = gateway.client().await;
    for (path, host, seen) in [
        ("/both/x", "Acme.tenants.test:8080", Some("acme.tenants.test:8080")),
        ("/both/x", "a.b.tenants.test", None),
        ("/both/x", "tenants.test", None),
        ("/both/x", "x@acme.tenants.test", None),
        ("/both/x", "acme.tenants.test/path", None),
        ("/both/x", "", None),
        ("/x", "acme.tenants.test", None),
    ] {
        assert_eq!(client.get(path, &[("x-set-host", host)]).await.status, 200, "{host}");
        let told = origin.last();
        let expected = seen.unwrap_or("gateway.test");
        assert_eq!(told.header("host"), expected, "{host}: {}", told.header("x-host-set"));
    }
}

#[tokio::test]
async fn what_a_request_has_cost_is_settled_when_it_has_ended() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = gateway.client().await;
    let mut remaining = async |cost: &str| -> i64 {
        let reply = client.get("/x", &[("x-cost", cost)]).await;
        let header = reply.header("ratelimit").to_owned();
        let left = header.split("r=").nth(1).and_then(|rest| rest.split([';', ',']).next());
        left.and_then(|left| left.trim().parse().ok())
            .unwrap_or_else(|| panic!("{header}: {}", gateway.output()))
    };
    // Each request draws 1. Some flows back meanwhile: 1000 a minute.
    assert_eq!(remaining("500").await, 999);
    let after = remaining("0").await;
    assert!((499..700).contains(&after), "500 were drawn in place of 1: {after}");
    let again = remaining("5000").await;
    assert!(again >= after - 1, "a request that cost nothing draws nothing: {again} after {after}");
    assert_eq!(client.get("/x", &[]).await.status, 429);
}

#[tokio::test]
async fn plugins_are_told_where_a_response_came_from() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = gateway.client().await;
    assert_eq!(client.get("/x", &[]).await.header("x-origin"), "origin true 1 true false -");
    let failed = client.get("/nowhere", &[]).await;
    assert_eq!(failed.status, 502);
    let told = failed.header("x-origin");
    assert!(told.starts_with("closed true ") && told.ends_with(" true upstream-unreachable"), "{told}");
}

#[tokio::test]
async fn an_exchange_ends_within_the_body_of_its_request_over_both_versions_of_http() {
    let origin = Origin::named("origin").await;
    let gateway = start(&origin).await;
    let mut client = Client::http2(gateway.address()).await;
    for (body, status) in [("go on", 200), ("now stop", 422), ("stop-bad", 503), ("go on", 200)] {
        let reply = client.post("/x", &[], body.as_bytes().to_vec()).await;
        assert_eq!(reply.status, status, "{body}: {}", gateway.output());
        assert_eq!(status == 422, reply.headers.contains_key("x-ended"), "{body}");
    }
}

#[tokio::test]
async fn an_exchange_ends_although_the_upstream_has_the_beginning_of_its_body() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let origin = Origin::named("origin").await;
    let gateway = start_with(&origin, &upstream.local_addr().expect("an address").to_string()).await;
    let mut client = TcpStream::connect(gateway.address()).await.expect("a connection");
    let head = "POST /nowhere HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n7\r\nsome of\r\n";
    client.write_all(head.as_bytes()).await.expect("written");
    let (mut forwarded, _) = upstream.accept().await.expect("a connection");
    read_until(&mut forwarded, b"some of").await;
    client.write_all(b"4\r\nstop\r\n").await.expect("written");
    let answer = read_until(&mut client, b"NO MORE").await;
    assert!(answer.starts_with(b"HTTP/1.1 422 "), "{}", String::from_utf8_lossy(&answer));
    let mut rest = Vec::new();
    // However it ends, by a reset as well.
    let _ended = forwarded.read_to_end(&mut rest).await;
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        !rest.contains("0\r\n\r\n") && !rest.contains("stop"),
        "the body does not end as if it were whole: {rest}"
    );
}

/// What is read until these bytes came.
async fn read_until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    while !read.windows(end.len()).any(|bytes| bytes == end) {
        let more =
            tokio::time::timeout(DEADLINE, stream.read(&mut piece)).await.expect("in time").expect("read");
        assert_ne!(more, 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..more]);
    }
    read
}
