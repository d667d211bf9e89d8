//! Finding the route: it must not matter how many there are.

use std::fmt::Write as _;
use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method};
use witgate_exchange::head::{Client, RequestHead, Scheme};
use witgate_proxy::router::{Found, Router};
use witgate_proxy::snapshot::{Services, Snapshot};

/// So many routes with a condition made of their number.
fn snapshot(routes: usize, condition: fn(usize) -> String) -> Snapshot {
    let mut text = String::from("[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\n");
    for number in 0..routes {
        let _ = write!(text, "\n[[routes]]\n{}\nrespond = {{ status = 200 }}\n", condition(number));
    }
    let loaded = match witgate_config::parse_str(&text) {
        Ok(loaded) => loaded,
        Err(failure) => panic!("{:?}", failure.problems),
    };
    match Snapshot::build(Arc::new(loaded.config), Services::default(), None) {
        Ok(snapshot) => snapshot,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn head(authority: &str, target: &str) -> RequestHead {
    let address = Ipv4Addr::LOCALHOST.into();
    let target = PathAndQuery::try_from(target).expect("a target");
    RequestHead {
        method: Method::GET,
        received_target: None,
        target,
        upstream_target: None,
        upstream_method: None,
        authority: authority.into(),
        scheme: Scheme::Http,
        headers: HeaderMap::new(),
        trailers: None,
        client: Client {
            address,
            peer: SocketAddr::new(address, 40_000),
            certificate: None,
            local: None,
            tls: None,
        },
        route: None,
        parameters: Vec::new(),
        notes: None,
        settling: None,
        identity: None,
        request_id: "".into(),
        trace: None,
    }
}

fn find(router: &Router, head: &RequestHead, expected: bool) {
    let found = matches!(router.find(black_box(head)), Found::Route(..));
    assert_eq!(black_box(found), expected);
}

/// A kind of route: its condition, and a request for the one with this number.
type Kind = (&'static str, fn(usize) -> String, fn(usize) -> RequestHead);

const KINDS: [Kind; 3] = [
    (
        "exact",
        |number| format!("path = \"/exact/{number}\""),
        |number| head("a.example.com", &format!("/exact/{number}")),
    ),
    (
        "parameters",
        |number| format!("path = \"/items/{number}/{{id}}/parts/{{part}}\""),
        |number| head("a.example.com", &format!("/items/{number}/42/parts/7?q=1")),
    ),
    (
        "host and prefix",
        |number| format!("host = \"h{number}.example.com\"\nprefix = \"/api\""),
        |number| head(&format!("h{number}.example.com"), "/api/v1/users"),
    ),
];

/// Each kind of condition, among 1 to 10,000 of its kind; and a request for none of them.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("router");
    let elsewhere = head("a.example.com", "/elsewhere/1");
    for (kind, condition, request) in KINDS {
        for routes in [1, 100, 10_000] {
            let snapshot = snapshot(routes, condition);
            let router = &snapshot.routers["web"];
            for (kind, head, expected) in [
                (kind.to_owned(), &request(routes - 1), true),
                (format!("{kind}, nothing"), &elsewhere, false),
            ] {
                group.bench_function(BenchmarkId::new(kind, routes), |bencher| {
                    bencher.iter(|| find(router, head, expected));
                });
            }
        }
    }
    group.finish();
}
