//! What is done with requests that an upstream cannot take.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{Method, Response, StatusCode};
use witgate_config::model::{self, Breaker};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, get, settings};
use crate::status;
use crate::testing::Snapshot;
use crate::testing::{self, run};

/// An upstream whose endpoint breaker opens after one failure, with this fallback.
fn falling_back(origin: &Origin, fallback: &str) -> model::Upstream {
    let text = format!(
        "[upstreams.other]\nendpoints = [\"127.0.0.1:1\"]\n\
         [upstreams.origin]\nendpoints = [\"127.0.0.1:1\"]\n\
         [upstreams.origin.fallback]\n{fallback}\n"
    );
    let mut config =
        witgate_config::parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    let settings = settings(&[origin.address]);
    let minute = Duration::from_secs(60);
    model::Upstream {
        fallback: config.upstreams.remove("origin").unwrap().fallback,
        breaker: Breaker {
            failure_ratio: 0.01,
            min_requests: 1,
            open_for: minute,
            max_open_for: minute,
            ..settings.breaker
        },
        ..settings
    }
}

fn snapshot(upstream: model::Upstream, other: Option<model::Upstream>) -> Arc<Snapshot> {
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), upstream);
    config.upstreams.extend(other.map(|other| ("other".into(), other)));
    let built = Snapshot::build(config, None);
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// An origin that responds to this number of requests with `answer`, and then resets connections.
fn answering(times: usize, answer: &'static str) -> Origin {
    let served = Arc::new(AtomicUsize::new(0));
    Origin::start(async move |mut visitor: Visitor| {
        while visitor.request().await.is_some() && served.fetch_add(1, Ordering::SeqCst) < times {
            visitor.send(answer).await;
        }
    })
}

async fn ask(
    snapshot: &Arc<Snapshot>,
    method: Method,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<Response<Body>, Fault> {
    forward(&mut exchange(snapshot, method, headers), body).await
}

async fn break_it(snapshot: &Arc<Snapshot>) {
    ask(snapshot, Method::POST, &[], Body::Full("x".into())).await.unwrap_err();
}

#[test]
fn a_fixed_answer_says_why_and_until_when() {
    run(async {
        let origin = answering(0, "");
        let respond = r#"respond = { status = 503, headers = { x-a = "1" }, body = "later" }"#;
        let snapshot = snapshot(falling_back(&origin, respond), None);
        break_it(&snapshot).await;
        let mut exchange = exchange(&snapshot, Method::GET, &[]);
        let response = forward(&mut exchange, Body::Empty).await.unwrap();
        assert!(exchange.facts.local_response);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let headers = response.headers();
        assert_eq!(headers["x-a"], "1");
        assert_eq!(headers["proxy-status"], "witgate; error=destination_unavailable");
        assert!(headers.contains_key("retry-after"));
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "later");
        assert_eq!(status(&snapshot.upstreams)[0].fallbacks["respond"], 1);
    });
}

#[test]
fn another_upstream_takes_requests_with_their_bodies_and_is_named_in_the_record() {
    run(async {
        let (origin, other) = (answering(0, ""), Origin::answering(HELLO));
        let snapshot =
            snapshot(falling_back(&origin, "upstream = \"other\""), Some(settings(&[other.address])));
        break_it(&snapshot).await;
        let mut exchange = exchange(&snapshot, Method::POST, &[]);
        let body = testing::chunks(vec![Ok(b"some"), Ok(b" data")]);
        let response = forward(&mut exchange, body).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!exchange.facts.local_response);
        let (name, endpoint) = exchange.facts.record.endpoint.take().unwrap();
        assert_eq!((&*name, &*endpoint), ("other", &*other.address.to_string()));
        assert!(other.requests()[0].contains("transfer-encoding: chunked"));
        assert_eq!(origin.requests().len(), 1);
    });
}

#[test]
fn where_the_other_upstream_fails_too_the_fixed_answer_is_left() {
    run(async {
        let (origin, other) = (answering(0, ""), answering(0, ""));
        let fallback = "upstream = \"other\"\nrespond = { body = \"sorry\" }";
        let snapshot = snapshot(falling_back(&origin, fallback), Some(settings(&[other.address])));
        break_it(&snapshot).await;
        assert_eq!(get(&snapshot).await.unwrap(), "sorry");
        assert_eq!(other.requests().len(), 1);
    });
}

#[test]
fn only_what_it_is_for_falls_back() {
    run(async {
        let origin = answering(0, "");
        let fallback = "on = [\"no-endpoint\"]\nrespond = { status = 200 }";
        let mut upstream = falling_back(&origin, fallback);
        let broken = snapshot(upstream.clone(), None);
        break_it(&broken).await;
        assert_eq!(get(&broken).await.unwrap_err().kind, FaultKind::BreakerOpen);
        upstream.endpoints[0].weight = 0;
        assert_eq!(get(&snapshot(upstream, None)).await.unwrap(), "");
    });
}

#[test]
fn overload_falls_back_too() {
    run(async {
        let origin = Origin::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
        let mut upstream = falling_back(&origin, "respond = { body = \"busy\" }");
        upstream.max_requests = 1;
        upstream.max_pending = 0;
        let snapshot = snapshot(upstream, None);
        let streaming = ask(&snapshot, Method::GET, &[], Body::Empty).await.unwrap();
        assert_eq!(get(&snapshot).await.unwrap(), "busy");
        drop(streaming);
        assert_eq!(status(&snapshot.upstreams)[0].shed, 1);
    });
}

#[test]
fn a_fallback_that_cannot_be_is_told() {
    let origin = Origin::answering(HELLO);
    let mut upstream = falling_back(&origin, "respond = { body = \"later\" }");
    upstream.fallback.as_mut().unwrap().respond.as_mut().unwrap().status = 1000;
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), upstream);
    let problems = Snapshot::build(config, None).err().unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["upstreams.origin.fallback.respond"]);
}
