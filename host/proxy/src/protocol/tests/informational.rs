//! Informational responses of origins (RFC 9110 section 15.2) reach the client ahead of the response.

use std::net::SocketAddr;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::net::TcpStream;

use super::raw_origin::RawOrigin;
use super::{forward, in_front_of, run};
use crate::listener::tests::{Client, start};

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn an_http1_client_gets_them_at_once_and_in_order() {
    let (go, wait) = sync_channel(1);
    let wait = std::sync::Mutex::new(wait);
    let origin = RawOrigin::serving(move |client| {
        client.send(
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\nconnection: x-mine\r\nx-mine: 1\r\nset-cookie: a=1\r\nserver: o\r\n\r\n\
              HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
        );
        wait.lock().expect("no panic").recv().expect("the word to go");
        client.send("HTTP/1.1 199 Odd\r\n\r\n".as_bytes()).send(OK.as_bytes());
    });
    let (_plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET);
    // The origin has not responded yet.
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nlink: </b>\r\n\r\n");
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 102 Processing\r\n\r\n");
    go.send(()).expect("an origin that waits");
    assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 199 \r\n\r\n");
    assert!(client.until("\r\n\r\nok").starts_with("HTTP/1.1 200 OK\r\n"));
}

#[test]
fn their_number_is_not_limited_but_their_bytes_are() {
    let many = format!("{}{OK}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(40));
    let origin = RawOrigin::answering(many);
    let (_plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    client.send(GET);
    for _ in 0..40 {
        assert_eq!(client.until("\r\n\r\n"), "HTTP/1.1 102 Processing\r\n\r\n");
    }
    client.until("\r\n\r\nok");

    let large = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "a".repeat(10_000)).repeat(14);
    let origin = RawOrigin::answering(format!("{large}{OK}"));
    let (_plane, address) = in_front_of(origin.address);
    let mut client = Client::connect(address);
    let told = client.send(GET).until("\"upstream-protocol\"");
    assert!(told.contains("\r\n\r\nHTTP/1.1 502 "), "{}", told.len());
}

#[test]
fn their_bytes_are_limited_for_all_attempts_of_an_exchange_together() {
    let heads = format!("HTTP/1.1 103 Early Hints\r\nlink: <{}>\r\n\r\n", "a".repeat(10_000)).repeat(6);
    let origin = RawOrigin::serving(move |client| {
        client.send(heads.as_bytes());
        // The attempt fails, and the request is sent again.
        let _ = client.0.shutdown(std::net::Shutdown::Both);
    });
    let (_plane, address) = start(|config| {
        forward(config, origin.address);
        let retry = &mut config.upstreams.get_mut("origin").expect("it was added").retry;
        retry.attempts = 4;
        retry.on = witgate_config::model::RetryOn { reset: true, ..Default::default() };
    });
    let told = Client::connect(address).send(GET).until("}");
    assert!(told.contains("HTTP/1.1 502 ") && told.contains("\"upstream-protocol\""), "{}", told.len());
    assert_eq!(told.matches("HTTP/1.1 103 ").count(), 13, "that is 128 KiB");
    assert_eq!(origin.heads().len(), 3);
}

#[test]
fn they_do_not_extend_the_time_for_the_response() {
    let origin = RawOrigin::serving(|client| {
        // The gateway closes the connection when the time is up.
        while std::io::Write::write_all(&mut client.0, b"HTTP/1.1 102 Processing\r\n\r\n").is_ok() {
            crate::listener::tests::let_pass(Duration::from_millis(50));
        }
    });
    let (_plane, address) = start(|config| {
        forward(config, origin.address);
        config.upstreams.get_mut("origin").expect("it was added").first_byte_timeout =
            Duration::from_millis(400);
    });
    let told = Client::connect(address).send(GET).until("\"first-byte-timeout\"");
    assert!(told.starts_with("HTTP/1.1 102 ") && told.contains("HTTP/1.1 504 "), "{told}");
}

#[test]
fn an_http10_client_gets_none() {
    let origin = RawOrigin::answering(format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n{OK}"));
    let (_plane, address) = in_front_of(origin.address);
    let told = Client::connect(address).send(b"GET / HTTP/1.0\r\nhost: a\r\n\r\n").until("ok");
    assert!(told.starts_with("HTTP/1.0 200 OK\r\n"), "{told}");
}

/// The informational responses and the response that an HTTP/2 client gets.
async fn over_http2(address: SocketAddr) -> (Vec<http::Response<()>>, StatusCode) {
    let stream = TcpStream::connect(address).await.expect("a connection");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("a handshake");
    tokio::spawn(connection);
    let request = Request::get("http://a/").body(()).expect("a request");
    let (mut response, _) = client.send_request(request, true).expect("a stream");
    let mut informational = Vec::new();
    while let Some(head) = std::future::poll_fn(|context| response.poll_informational(context)).await {
        informational.push(head.expect("a head"));
    }
    let status = response.await.expect("a response").status();
    (informational, status)
}

#[test]
fn an_http2_client_gets_them_too() {
    let origin = RawOrigin::answering(format!(
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\nkeep-alive: 1\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n{OK}"
    ));
    let (_plane, address) = in_front_of(origin.address);
    let (informational, status) = run(over_http2(address));
    let statuses: Vec<u16> = informational.iter().map(|head| head.status().as_u16()).collect();
    assert_eq!((statuses, status.as_u16()), (vec![103, 102], 200));
    assert_eq!(informational[0].headers()["link"], "</a>");
    assert!(!informational[0].headers().contains_key("keep-alive"));
}

#[test]
fn a_switch_of_protocols_has_no_transfer_coding() {
    for field in ["transfer-encoding: chunked", "transfer-encoding: gzip", "content-length: 3"] {
        let switch = super::accepting(&String::from_utf8_lossy(super::SWITCH));
        let answer = format!("{}{field}\r\n\r\n", switch.trim_end_matches("\r\n").to_owned() + "\r\n");
        let origin = RawOrigin::answering(answer);
        let (_plane, address) = in_front_of(origin.address);
        let told = Client::connect(address).send(super::SWITCH).until("\r\n\r\n");
        assert!(told.starts_with("HTTP/1.1 502 "), "{field}: {told}");
    }
}
