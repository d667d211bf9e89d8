//! What a head goes through before it is routed, as far as it can be called without a connection.

use std::hint::black_box;

use criterion::Criterion;
use http::{HeaderMap, HeaderValue};
use witgate_config::model::EncodedSlashes;
use witgate_exchange::path;
use witgate_exchange::trace::{TRACEPARENT, TraceContext};

/// Paths that need nothing and paths that need everything; a trace that goes on and one that begins.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hygiene");
    for (kind, target) in [
        ("plain path", "/api/v1/users/42?page=2&sort=name"),
        ("path to normalise", "/api/./v1/%7Eusers/x/../42/%e2%82%ac?page=2"),
    ] {
        group.bench_function(kind, |bencher| {
            bencher.iter(|| path::normalise(black_box(target), EncodedSlashes::Refuse).is_ok());
        });
    }
    let mut headers = HeaderMap::new();
    headers.insert(
        TRACEPARENT,
        HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    );
    group.bench_function("trace that goes on", |bencher| {
        bencher.iter(|| TraceContext::from_headers(black_box(&headers), 0.0));
    });
    group.bench_function("trace that begins", |bencher| {
        bencher.iter(|| TraceContext::start(black_box(0.0)));
    });
    group.finish();
}
