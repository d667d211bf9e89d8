//! Routes that distinguish empty segments, and header blocks that do not end.

use std::io::Read;
use std::time::{Duration, Instant};

use super::raw_origin::RawOrigin;
use super::{HEAD, PREFACE, frame, next_frame};
use crate::listener::tests::{Client, start};

/// A gateway with this table for a route `store`, beside an admin route that refuses.
fn asked(route: &str, target: &str) -> String {
    let origin = RawOrigin::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let text = format!(
        "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nname = \"store\"\nupstream = \"origin\"\n{route}\n\
         [[routes]]\nname = \"admin\"\npath = \"/admin/*\"\nrespond = {{ status = 403 }}\n\
         [upstreams.origin]\nendpoints = [\"{}\"]\n",
        origin.address
    );
    let (_plane, address) = start(|config| {
        let read =
            witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        *config = read.config;
    });
    let request = format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n");
    let told = Client::connect(address).send(request.as_bytes()).until("\r\n\r\n");
    match origin.heads().first() {
        Some(head) => head.split(' ').nth(1).expect("a target").to_owned(),
        None => told.split(' ').nth(1).expect("a status").to_owned(),
    }
}

#[test]
fn a_route_may_keep_its_slashes() {
    let cases = [
        ("path = \"/*\"", "/b//k", "/b/k"),
        ("path = \"/*\"\nmerge_slashes = true", "/b//k", "/b/k"),
        ("path = \"/*\"\nmerge_slashes = false", "/b//k///x?y=//z", "/b//k///x?y=//z"),
        ("path = \"/*\"\nmerge_slashes = false", "//b/", "//b/"),
        ("path = \"/*\"\nmerge_slashes = false", "/b//./k", "/b//k"),
        ("path = \"/*\"\nmerge_slashes = false", "/b//../k", "/k"),
        ("path = \"/*\"\nmerge_slashes = false", "/b/../../k", "400"),
        ("path = \"/b/{*key}\"\nmerge_slashes = false\nrewrite = \"/s/{key}\"", "/b//k//x", "/s//k//x"),
        ("path = \"/b/*\"\nmerge_slashes = false\nstrip_prefix = true", "/b//k//x", "//k//x"),
        ("path = \"/b/*\"\nstrip_prefix = true", "/b//k//x", "/k/x"),
        // The path of the route does not match the path with all its slashes.
        ("path = \"/b/*\"\nmerge_slashes = false", "//b//k", "/b/k"),
        // No spelling leads around the other route.
        ("path = \"/*\"\nmerge_slashes = false", "//admin/x", "403"),
        ("path = \"/*\"\nmerge_slashes = false", "/x//..//..//admin//x", "400"),
        ("path = \"/*\"\nmerge_slashes = false", "/x//..//admin//x", "403"),
        ("path = \"/*\"\nmerge_slashes = false", "/admin//..//x", "//x"),
    ];
    for (route, target, expected) in cases {
        assert_eq!(asked(route, target), expected, "{route}: {target}");
    }
}

#[test]
fn a_header_block_over_http2_has_the_time_of_a_head() {
    let (_plane, address) = start(|config| {
        config.listeners[0].limits.header_timeout = Duration::from_millis(300);
    });
    let begin = [PREFACE, &frame(4, 0, 0, &[])].concat();
    let half = frame(1, 5, 1, HEAD);
    for (what, bytes) in [
        ("no END_HEADERS", frame(1, 1, 1, HEAD)),
        ("half a frame", half[..half.len() - 2].to_vec()),
        ("half the head of a frame", half[..5].to_vec()),
        ("an empty CONTINUATION", [frame(1, 1, 1, HEAD), frame(9, 0, 1, b"")].concat()),
    ] {
        let mut client = Client::connect(address);
        let begun = Instant::now();
        client.send(&begin).send(&bytes);
        let mut reason = None;
        while let Some((kind, _, _, payload)) = next_frame(&mut client) {
            if kind == 7 {
                reason = Some(payload[7]);
            }
        }
        assert_eq!(reason, Some(11), "{what}: ENHANCE_YOUR_CALM");
        assert!(
            begun.elapsed() >= Duration::from_millis(300) && begun.elapsed() < Duration::from_secs(8),
            "{what}"
        );
        let _ = client.0.read(&mut [0; 1]);
    }
    // A connection with a whole block, or with none, is not concerned.
    let mut client = Client::connect(address);
    client.send(&begin);
    crate::listener::tests::let_pass(Duration::from_millis(500));
    client.send(&frame(1, 5, 1, HEAD));
    while let Some((kind, _, stream, _)) = next_frame(&mut client) {
        if (kind, stream) == (1, 1) {
            return;
        }
    }
    panic!("no response");
}
