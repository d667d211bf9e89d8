//! Extended CONNECT (RFC 8441) to origins that do not switch protocols.

use std::net::SocketAddr;

use http::Request;
use http_body_util::{BodyExt, Empty};

use super::raw_origin::RawOrigin;
use super::{http2_client, in_front_of, run};
use crate::listener::tests::{Client, start};

/// Status, whether a length was told, and the body of the response to a request for a WebSocket.
async fn asked(address: SocketAddr) -> (u16, bool, String) {
    let mut client = http2_client(address).await;
    let mut request = Request::connect("http://a.example/chat").body(Empty::new()).expect("a request");
    request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
    let response = client.send_request(request).await.expect("a response");
    let (status, length) = (response.status().as_u16(), response.headers().contains_key("content-length"));
    let body = match response.status().is_success() {
        true => String::new(),
        false => {
            let body = response.into_body().collect().await.expect("a body").to_bytes();
            String::from_utf8_lossy(&body).into_owned()
        }
    };
    (status, length, body)
}

#[test]
fn only_a_switch_of_protocols_opens_the_tunnel() {
    let cases = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", 502, "upstream-protocol"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 502, "upstream-protocol"),
        ("HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 502, "upstream-protocol"),
        ("HTTP/1.1 404 Not Found\r\ncontent-length: 5\r\n\r\nhello", 404, "hello"),
        ("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n", 426, ""),
        ("HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 2\r\n\r\nno", 302, "no"),
    ];
    for (answer, expected, body) in cases {
        let origin = RawOrigin::answering(answer);
        let (_plane, address) = in_front_of(origin.address);
        let (status, length, told) = run(asked(address));
        assert_eq!((status, length), (expected, false), "{answer}");
        assert!(told.contains(body), "{answer}: {told}");
    }
}

#[test]
fn a_response_that_is_made_here_opens_no_tunnel() {
    let (_plane, address) = start(|_| {});
    let (status, length, told) = run(asked(address));
    assert_eq!((status, length), (400, false));
    assert!(told.contains("upgrade-refused"), "{told}");
}

/// The gateway's status for a switch of protocols with these fields, over HTTP/1.1 and over HTTP/2. `ACCEPT` stands for
/// what the key of the request requires.
fn switched(fields: &'static str) -> (String, u16) {
    let origin = RawOrigin::serving_heads(move |client, head| {
        let right = super::accepting(head);
        let accept =
            right.lines().find_map(|line| line.strip_prefix("sec-websocket-accept: ")).expect("a field");
        let fields = fields.replace("ACCEPT", accept);
        client.send(format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n").as_bytes());
    });
    let (_plane, address) = in_front_of(origin.address);
    let http1 = Client::connect(address).send(super::SWITCH).until("\r\n\r\n");
    (http1.split(' ').nth(1).expect("a status").to_owned(), run(asked(address)).0)
}

#[test]
fn a_switch_of_protocols_is_the_one_that_was_asked_for() {
    const FIELDS: &str = "connection: upgrade\r\nupgrade: websocket\r\n";
    let good = "connection: Upgrade\r\nupgrade: WebSocket\r\nsec-websocket-accept: ACCEPT\r\n";
    assert_eq!(switched(good), ("101".to_owned(), 200));
    for fields in [
        FIELDS,
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        "connection: upgrade\r\nupgrade: chat\r\nsec-websocket-accept: ACCEPT\r\n",
        "connection: upgrade\r\nupgrade: websocket, chat\r\nsec-websocket-accept: ACCEPT\r\n",
        "connection: upgrade\r\nsec-websocket-accept: ACCEPT\r\n",
        "upgrade: websocket\r\nsec-websocket-accept: ACCEPT\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: ACCEPT\r\nsec-websocket-accept: x\r\n",
    ] {
        assert_eq!(switched(fields), ("502".to_owned(), 502), "{fields}");
    }
}

/// A redirect leaves no doubt that there is no tunnel (RFC 9110 section 9.3.6), and a client may follow it (RFC 6455
/// section 4.1), so it is passed on.
#[test]
fn a_redirect_passes_with_its_location() {
    for status in [301, 302, 303, 307, 308] {
        let origin = RawOrigin::answering(format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: /other?a=1\r\ncontent-length: 0\r\n\r\n"
        ));
        let (_plane, address) = in_front_of(origin.address);
        run(async {
            let mut client = http2_client(address).await;
            let mut request =
                Request::connect("http://a.example/chat").body(Empty::new()).expect("a request");
            request.extensions_mut().insert(hyper::ext::Protocol::from_static("websocket"));
            let response = client.send_request(request).await.expect("a response");
            assert_eq!(
                (response.status().as_u16(), &response.headers()["location"]),
                (status, &"/other?a=1".parse().expect("a value"))
            );
            assert!(!response.headers().contains_key("content-length"));
        });
    }
}
