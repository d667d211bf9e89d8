//! Which requests are sent again, which never are, and what that costs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use witgate_config::model::{self, RetryOn};
use witgate_exchange::body::Body;
use witgate_exchange::fault::{Fault, FaultKind};

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, settings, snapshot};
use crate::status;
use crate::testing::Snapshot;
use crate::testing::{self, run};

const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
const BUSY_FOR_LONG: &str =
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n";
const BUSY_FOR_A_SECOND: &str =
    "HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0\r\n\r\n";

/// Default settings for retries.
fn retrying(endpoints: &[&Origin]) -> model::Upstream {
    let addresses: Vec<_> = endpoints.iter().map(|origin| origin.address).collect();
    model::Upstream { retry: testing::upstream(&[]).retry, ..settings(&addresses) }
}

/// An origin that responds to every request, including the first of each connection, with this text, and closes.
fn saying(answer: &'static str) -> Origin {
    Origin::start(async move |mut visitor: Visitor| {
        visitor.request().await;
        visitor.send(answer).await;
    })
}

/// Sends one request, and returns its entries for the access log.
async fn ask(
    snapshot: &Arc<Snapshot>,
    method: Method,
    body: Body,
) -> (Result<Response<Body>, Fault>, u32, Vec<String>) {
    let mut exchange = exchange(snapshot, method, &[]);
    let answer = forward(&mut exchange, body).await;
    let repeats = exchange.facts.record.repeats.iter().map(ToString::to_string).collect();
    (answer, exchange.facts.record.attempts, repeats)
}

/// A streaming body, which is gone once it was sent unless it is kept.
fn streaming() -> Body {
    testing::chunks(vec![Ok(b"some "), Ok(b"data")])
}

#[test]
fn an_idempotent_request_survives_endpoints_that_reset_or_talk_nonsense() {
    run(async {
        for (broken, word) in [
            ("", "upstream-reset"),
            ("HTTP/1.1 200 OK\r\ncontent-le", "upstream-reset"),
            ("SSH-2.0-OpenSSH_9.2\r\n\r\n", "upstream-protocol"),
        ] {
            let (broken, well) = (saying(broken), Origin::answering(HELLO));
            let snapshot = snapshot(retrying(&[&broken, &well]));
            let mut said = Vec::new();
            for _ in 0..4 {
                let (answer, attempts, repeats) = ask(&snapshot, Method::GET, Body::Empty).await;
                assert_eq!(testing::bytes(answer.unwrap().into_body()).await.unwrap(), "hello");
                assert_eq!(attempts as usize, 1 + repeats.len());
                said.extend(repeats);
            }
            assert!(!said.is_empty());
            assert!(said.iter().all(|repeat| *repeat == format!("{word} {}", broken.address)), "{said:?}");
            assert_eq!((broken.requests().len(), well.requests().len()), (said.len(), 4));
            assert_eq!(status(&snapshot.upstreams)[0].tries.retries, said.len() as u64);
        }
    });
}

#[test]
fn a_post_that_may_have_arrived_is_sent_again_only_if_the_service_bears_it() {
    run(async {
        let (broken, well) = (saying(""), Origin::answering(HELLO));
        let mut settings = retrying(&[&broken, &well]);
        let strict = snapshot(settings.clone());
        let (mut answered, mut failed) = (0, 0);
        for _ in 0..6 {
            match ask(&strict, Method::POST, Body::Full("data".into())).await.0 {
                Ok(_) => answered += 1,
                Err(fault) => {
                    assert_eq!(fault.kind, FaultKind::UpstreamReset);
                    failed += 1;
                }
            }
        }
        assert_eq!((answered, failed), (3, 3));
        assert_eq!(broken.requests().len() + well.requests().len(), 6, "one was sent twice");
        settings.retry.non_idempotent = true;
        let lax = snapshot(settings);
        for _ in 0..4 {
            assert!(ask(&lax, Method::POST, Body::Full("data".into())).await.0.is_ok());
        }
    });
}

#[test]
fn a_body_that_streams_is_kept_up_to_the_limit() {
    run(async {
        let (broken, well) = (
            Origin::start(async |mut visitor: Visitor| {
                visitor.request().await;
                visitor.read_chunked().await;
            }),
            Origin::start(async |mut visitor: Visitor| {
                visitor.request().await;
                visitor.read_to(9).await;
                visitor.send(HELLO).await;
            }),
        );
        let mut settings = retrying(&[&broken, &well]);
        let kept = snapshot(settings.clone());
        for _ in 0..4 {
            assert!(ask(&kept, Method::PUT, streaming()).await.0.is_ok());
        }
        assert!(!broken.requests().is_empty());
        settings.retry.body_bytes = 8;
        let too_long = snapshot(settings);
        let mut failed = 0;
        for _ in 0..4 {
            failed += usize::from(ask(&too_long, Method::PUT, streaming()).await.0.is_err());
        }
        assert_eq!(failed, 2, "what was not kept cannot be sent again");
    });
}

#[test]
fn an_endpoint_alone_is_asked_again_after_a_reset_but_not_after_a_timeout() {
    run(async {
        let moody = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            if visitor.number > 0 {
                visitor.send(HELLO).await;
            }
        });
        let (answer, attempts, _) = ask(&snapshot(retrying(&[&moody])), Method::GET, Body::Empty).await;
        assert_eq!((answer.unwrap().status(), attempts), (StatusCode::OK, 2));
        let silent = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let mut settings = retrying(&[&silent]);
        settings.retry.per_try_timeout = Some(Duration::from_millis(50));
        let (answer, attempts, _) = ask(&snapshot(settings), Method::GET, Body::Empty).await;
        assert_eq!((answer.unwrap_err().kind, attempts), (FaultKind::FirstByteTimeout, 1));
    });
}

#[test]
fn a_try_that_takes_too_long_is_given_up_if_the_request_may_be_sent_again() {
    run(async {
        let slow = Origin::start(async |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                if request.starts_with("GET") {
                    visitor.closed().await;
                    return;
                }
                tokio::time::sleep(Duration::from_millis(150)).await;
                visitor.send(HELLO).await;
            }
        });
        let well = Origin::answering(HELLO);
        let mut settings = retrying(&[&slow, &well]);
        settings.retry.per_try_timeout = Some(Duration::from_millis(50));
        let snapshot = snapshot(settings);
        for _ in 0..4 {
            let (answer, _, repeats) = ask(&snapshot, Method::GET, Body::Empty).await;
            assert_eq!(testing::bytes(answer.unwrap().into_body()).await.unwrap(), "hello");
            assert!(repeats.iter().all(|repeat| repeat.starts_with("first-byte-timeout ")), "{repeats:?}");
        }
        for _ in 0..2 {
            assert!(ask(&snapshot, Method::POST, Body::Empty).await.0.is_ok(), "nothing would be won");
        }
    });
}

#[test]
fn attempts_and_routes_bound_what_is_sent() {
    run(async {
        let origins = [saying(""), saying(""), saying(""), saying("")];
        let all: Vec<&Origin> = origins.iter().collect();
        let mut settings = retrying(&all);
        let sent = || origins.iter().map(|origin| origin.requests().len()).sum::<usize>();
        assert!(ask(&snapshot(settings.clone()), Method::GET, Body::Empty).await.0.is_err());
        assert_eq!(sent(), 3);
        settings.retry.attempts = 1;
        assert!(ask(&snapshot(settings.clone()), Method::GET, Body::Empty).await.0.is_err());
        assert_eq!(sent(), 4);
        settings.retry.attempts = 4;
        assert!(ask(&snapshot(settings.clone()), Method::GET, Body::Empty).await.0.is_err());
        assert_eq!(sent(), 8);
        settings.retry.on = RetryOn { connect: true, ..RetryOn::default() };
        assert!(ask(&snapshot(settings), Method::GET, Body::Empty).await.0.is_err());
        assert_eq!(sent(), 9);
    });
}

#[test]
fn chosen_answers_are_given_up_for_better_ones_and_kept_if_there_are_none() {
    run(async {
        let (busy, well) = (Origin::answering(BUSY), Origin::answering(HELLO));
        let mut settings = retrying(&[&busy, &well]);
        let indifferent = snapshot(settings.clone());
        let statuses = [
            ask(&indifferent, Method::GET, Body::Empty).await.0.unwrap().status(),
            ask(&indifferent, Method::GET, Body::Empty).await.0.unwrap().status(),
        ];
        assert!(statuses.contains(&StatusCode::SERVICE_UNAVAILABLE), "nobody chose it");
        settings.retry.statuses = vec![503];
        let choosy = snapshot(settings);
        let mut said = Vec::new();
        for _ in 0..4 {
            let (answer, _, repeats) = ask(&choosy, Method::GET, Body::Empty).await;
            assert_eq!(answer.unwrap().status(), StatusCode::OK);
            said.extend(repeats);
        }
        assert!(!said.is_empty());
        assert!(said.iter().all(|repeat| *repeat == format!("status-503 {}", busy.address)), "{said:?}");
        let mut alone = retrying(&[&busy]);
        alone.retry.statuses = vec![503];
        let (answer, attempts, _) = ask(&snapshot(alone), Method::GET, Body::Empty).await;
        assert_eq!((answer.unwrap().status().as_u16(), attempts), (503, 3));
    });
}

#[test]
fn retry_after_is_waited_for_within_reason() {
    run(async {
        let (long, short) = (Origin::answering(BUSY_FOR_LONG), Origin::answering(BUSY_FOR_A_SECOND));
        let attempts = async |origin: &Origin, timeout: Duration| {
            let mut settings = retrying(&[origin]);
            settings.retry.statuses = vec![503];
            settings.retry.attempts = 2;
            let snapshot = snapshot(settings);
            let mut exchange = exchange(&snapshot, Method::GET, &[]);
            exchange.facts.timeout = Some(timeout);
            let begun = Instant::now();
            let answer = forward(&mut exchange, Body::Empty).await.unwrap();
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            (exchange.facts.record.attempts, begun.elapsed())
        };
        assert_eq!(attempts(&long, Duration::from_secs(9000)).await.0, 1, "longer than `max_retry_after`");
        assert_eq!(attempts(&short, Duration::from_millis(900)).await.0, 1, "longer than there is time");
        let (sent, time) = attempts(&short, Duration::from_secs(30)).await;
        assert_eq!(sent, 2);
        assert!(time >= Duration::from_secs(1), "{time:?} is not what was asked for");
    });
}

#[test]
fn a_grpc_status_in_the_head_is_a_reason_too() {
    run(async {
        let busy = Origin::answering("HTTP/1.1 200 OK\r\ngrpc-status: 14\r\ncontent-length: 0\r\n\r\n");
        let well = Origin::answering("HTTP/1.1 200 OK\r\ngrpc-status: 0\r\ncontent-length: 0\r\n\r\n");
        let mut settings = retrying(&[&busy, &well]);
        settings.retry.grpc_statuses = vec![14];
        settings.retry.non_idempotent = true;
        let snapshot = snapshot(settings);
        for _ in 0..4 {
            let answer = ask(&snapshot, Method::POST, Body::Full("x".into())).await.0.unwrap();
            assert_eq!(answer.headers()["grpc-status"], "0");
        }
        assert!(!busy.requests().is_empty());
    });
}

#[test]
fn without_budget_the_failure_is_the_answer_and_what_was_never_sent_is_free() {
    run(async {
        let (broken, well) = (saying(""), Origin::answering(HELLO));
        let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut settings = retrying(&[&broken]);
        settings.retry.budget =
            model::RetryBudget { ratio: 0.0, min_per_second: 0, window: Duration::from_secs(10) };
        let poor = snapshot(settings.clone());
        let (answer, attempts, repeats) = ask(&poor, Method::GET, Body::Empty).await;
        assert_eq!((answer.unwrap_err().kind, attempts), (FaultKind::UpstreamReset, 1));
        assert_eq!(repeats, [format!("budget-exhausted {}", broken.address)]);
        assert_eq!(status(&poor.upstreams)[0].tries.budget_exhausted, 1);
        settings.endpoints = super::settings(&[gone, well.address]).endpoints;
        let poor = snapshot(settings);
        for _ in 0..4 {
            assert!(ask(&poor, Method::POST, Body::Full("x".into())).await.0.is_ok());
        }
    });
}

#[test]
fn budget_and_counts_survive_a_reload() {
    run(async {
        let broken = saying("");
        let mut settings = retrying(&[&broken]);
        settings.retry.budget =
            model::RetryBudget { ratio: 0.0, min_per_second: 1, window: Duration::from_secs(3) };
        let before = snapshot(settings.clone());
        for _ in 0..100 {
            assert!(ask(&before, Method::GET, Body::Empty).await.0.is_err());
        }
        let tries = status(&before.upstreams)[0].tries;
        assert!(tries.retries >= 3 && tries.budget_exhausted > 0, "{tries:?}");
        settings.keep_alive = Duration::from_secs(7);
        let after = super::rebuilt(settings, Some(&before));
        assert_eq!(status(&after.upstreams)[0].tries, tries);
        assert!(Arc::ptr_eq(
            &before.upstreams["origin"].carried.tries,
            &after.upstreams["origin"].carried.tries
        ));
    });
}

#[test]
fn an_upgrade_is_never_sent_twice() {
    run(async {
        let origins = [saying(""), saying("")];
        let mut settings = retrying(&[&origins[0], &origins[1]]);
        settings.retry.non_idempotent = true;
        let snapshot = snapshot(settings);
        let mut exchange = exchange(&snapshot, Method::GET, &[]);
        exchange.facts.upgrade = Some("websocket".parse().unwrap());
        assert_eq!(forward(&mut exchange, Body::Empty).await.unwrap_err().kind, FaultKind::UpstreamReset);
        assert_eq!(origins.iter().map(|origin| origin.requests().len()).sum::<usize>(), 1);
    });
}
