//! Responses that the gateway makes itself pass the filters of gateway and listener, and of the route if there is one.

use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Empty;

use super::{http2_client, run};
use crate::listener::DataPlane;
use crate::listener::tests::{Client, start};

/// CORS and a security header on the gateway, an id on the listener, another header on the one route.
const FILTERED: &str = r#"
[gateway]
filters = [
    { kind = "cors", origins = ["https://app.example"] },
    { kind = "headers", response = { set = { strict-transport-security = "max-age=60" } } },
]
[[listeners]]
name = "web"
address = "127.0.0.1:0"
filters = [{ kind = "request-id", header = "x-correlation-id", trust = "anyone" }]
[[routes]]
name = "all"
path = "/there"
methods = ["POST", "GET"]
body_limit = "4B"
respond = { status = 200, body = "there" }
filters = [
    { kind = "headers", response = { set = { x-route = "all" } } },
    { kind = "ip", deny = ["127.0.0.9"] },
]
"#;

fn filtered() -> (DataPlane, SocketAddr) {
    start(|config| {
        let limits = config.listeners[0].limits;
        let read =
            witgate_config::parse_str(FILTERED).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        *config = read.config;
        config.listeners[0].limits = limits;
        config.listeners[0].limits.header_timeout = Duration::from_millis(300);
        config.listeners[0].limits.url_bytes = 100;
        config.listeners[0].limits.headers = 8;
    })
}

/// What every response has, as its head says; a page of the origin may read it if the head of the request told the
/// origin.
fn assert_filtered(what: &str, head: &str) {
    for field in [
        "\r\naccess-control-allow-origin: https://app.example\r\n",
        "\r\nstrict-transport-security: max-age=60\r\n",
        "\r\nx-correlation-id: ",
    ] {
        assert!(head.contains(field), "{what}: {field:?} is not in {head}");
    }
}

#[test]
fn what_the_gateway_answers_itself_over_http1_has_the_headers_of_its_filters() {
    let (_plane, address) = filtered();
    let origin = "host: a\r\norigin: https://app.example\r\n";
    let long = format!("GET /{} HTTP/1.1\r\n{origin}\r\n", "x".repeat(200));
    let many = format!("GET /there HTTP/1.1\r\n{origin}{}\r\n", "x-a: 1\r\n".repeat(8));
    let cases = [
        ("no such route", 404, format!("GET /nowhere HTTP/1.1\r\n{origin}\r\n")),
        ("no such method", 405, format!("DELETE /there HTTP/1.1\r\n{origin}\r\n")),
        ("no path", 400, format!("GET /../x HTTP/1.1\r\n{origin}\r\n")),
        ("no host", 400, "GET /there HTTP/1.1\r\norigin: https://app.example\r\n\r\n".to_owned()),
        (
            "an option that is end to end",
            400,
            format!("GET /there HTTP/1.1\r\n{origin}connection: host\r\n\r\n"),
        ),
        ("no header", 400, format!("GET /there HTTP/1.1\r\n{origin}nothing\r\n\r\n")),
        ("no request line", 400, format!("GET /there\r\n{origin}\r\n")),
        ("a long target", 414, long),
        ("many fields", 431, many),
        ("half a head", 408, format!("GET /there HTTP/1.1\r\n{origin}")),
    ];
    for (what, status, request) in cases {
        let mut client = Client::connect(address);
        let head = client.send(request.as_bytes()).until("\r\n\r\n");
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {head}");
        assert_filtered(what, &head);
    }
}

#[test]
fn a_body_over_the_limit_has_the_headers_of_its_route_and_its_own_id() {
    let (_plane, address) = filtered();
    let mut client = Client::connect(address);
    client.send(b"POST /there HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\nx-correlation-id: mine\r\ncontent-length: 5\r\n\r\n12345");
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
    assert_filtered("413", &head);
    assert!(
        head.contains("\r\nx-route: all\r\n") && head.contains("\r\nx-correlation-id: mine\r\n"),
        "{head}"
    );
}

#[test]
fn a_request_without_a_route_is_seen_by_filters_like_any_other() {
    let (_plane, address) = filtered();
    let mut client = Client::connect(address);
    client.send(b"GET /nowhere HTTP/1.1\r\nhost: a\r\nx-correlation-id: mine\r\n\r\n");
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 404 ") && head.contains("\r\nx-correlation-id: mine\r\n"), "{head}");
    assert!(!head.contains("x-route"), "{head}");
    client.until("}");
    // The browser is to read the 404 of the request that it announces.
    client.send(b"OPTIONS /nowhere HTTP/1.1\r\nhost: a\r\norigin: https://app.example\r\naccess-control-request-method: GET\r\n\r\n");
    let head = client.until("\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 204 "), "{head}");
    assert_filtered("preflight", &head);
}

#[test]
fn what_the_gateway_answers_itself_over_http2_has_the_headers_of_its_filters() {
    let (_plane, address) = filtered();
    run(async {
        let mut client = http2_client(address).await;
        let long = format!("http://a/{}", "x".repeat(200));
        for (status, method, target) in [
            (404, "GET", "http://a/nowhere"),
            (405, "DELETE", "http://a/there"),
            (400, "GET", "http://a/%zz"),
            (414, "GET", &long),
        ] {
            let request =
                Request::builder().method(method).uri(target).header("origin", "https://app.example");
            let request = request.body(Empty::new()).expect("a request");
            let response = client.send_request(request).await.expect("a response");
            assert_eq!(response.status(), StatusCode::from_u16(status).expect("a status"), "{target}");
            let headers = response.headers();
            assert_eq!(headers["access-control-allow-origin"], "https://app.example", "{status}");
            assert_eq!(headers["strict-transport-security"], "max-age=60", "{status}");
            assert!(headers.contains_key("x-correlation-id"), "{status}");
        }
    });
}
