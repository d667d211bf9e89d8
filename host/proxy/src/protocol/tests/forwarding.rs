//! What a trusted proxy says of the client's scheme holds for the upstream, and for what the gateway makes of it.

use super::raw_origin::RawOrigin;
use crate::listener::tests::{Client, start};

/// The scheme that the upstream is told, and whether the session cookie is `Secure`.
fn told(trusted: &str, fields: &str) -> (String, bool) {
    let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let text = format!(
        "[gateway]\ntrusted_proxies = [{trusted:?}]\n\
         [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"all\"\nupstream = \"origin\"\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\nsticky = {{}}\n",
        origin.address
    );
    let (_plane, address) = start(|config| {
        let read =
            witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        *config = read.config;
    });
    let request = format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    let head = Client::connect(address).send(request.as_bytes()).until("\r\n\r\n").to_ascii_lowercase();
    let asked = origin.heads().first().expect("a request").to_ascii_lowercase();
    let scheme = asked.split("\r\nx-forwarded-proto: ").nth(1).and_then(|rest| rest.lines().next());
    assert_eq!(asked.matches("x-forwarded-proto").count(), 1, "{asked}");
    assert!(head.contains("set-cookie: "), "{head}");
    (scheme.expect("a scheme").to_owned(), head.contains("secure"))
}

#[test]
fn the_scheme_of_a_trusted_proxy_is_that_of_the_request() {
    for (fields, expected) in [
        ("x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: wss\r\n", "https"),
        ("x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: HTTPS\r\n", "https"),
        ("x-forwarded-for: 192.0.2.1, 127.0.0.9\r\nx-forwarded-proto: https,http\r\n", "https"),
        ("x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https,http\r\n", "http"),
        ("forwarded: for=192.0.2.1;proto=\"Https\"\r\n", "https"),
        ("forwarded: for=192.0.2.1;proto=https, for=127.0.0.9;proto=http\r\n", "https"),
        ("x-forwarded-proto: ws\r\n", "http"),
        ("", "http"),
    ] {
        let expected = (expected.to_owned(), expected == "https");
        assert_eq!(told("127.0.0.0/8", fields), expected, "{fields}");
    }
    let stranger = told("192.0.2.0/24", "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n");
    assert_eq!(stranger, ("http".to_owned(), false), "only a trusted proxy is believed");
}

#[test]
fn names_with_underscores_are_no_way_around_the_headers_of_the_gateway() {
    for trusted in ["127.0.0.0/8", "192.0.2.0/24"] {
        let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let text = format!(
            "[gateway]\nunderscores_in_headers = true\ntrusted_proxies = [{trusted:?}]\n\
             identity_headers = {{ x-authenticated-user = \"subject\" }}\n\
             [[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
             [[routes]]\nname = \"all\"\nupstream = \"origin\"\n\
             [upstreams.origin]\nendpoints = [\"{}\"]\n",
            origin.address
        );
        let (_plane, address) = start(|config| {
            let read =
                witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
            *config = read.config;
        });
        let fields = "x_authenticated_user: root\r\nX-Authenticated_User: root\r\nX_AUTHENTICATED_USER: root\r\n\
                      x_forwarded_for: 203.0.113.9\r\nX-Real_IP: 203.0.113.9\r\nx_original_url: /root\r\nx_other: kept\r\n";
        let trailers = "x_authenticated_user: root\r\nx_forwarded_for: 203.0.113.9\r\nx_sum: kept\r\n";
        let request = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nte: trailers\r\n{fields}\r\n1\r\nx\r\n0\r\n{trailers}\r\n"
        );
        Client::connect(address).send(request.as_bytes()).until("ok");
        let asked = origin.heads().join("").to_ascii_lowercase();
        assert!(!asked.contains("root") && !asked.contains("203.0.113.9"), "{trusted}: {asked}");
        assert!(asked.contains("\r\nx_other: kept\r\n"), "{asked}");
    }
}
