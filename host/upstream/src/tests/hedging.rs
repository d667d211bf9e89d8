//! Hedging: requests that take long are also sent to other endpoints.

use std::time::Duration;

use http::Method;
use witgate_config::model::{self, Hedge, HedgeAfter};
use witgate_exchange::body::Body;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, settings, snapshot};
use crate::status;
use crate::testing::{self, run};

/// Sends no response, and notices when the gateway gives up.
fn stuck() -> Origin {
    Origin::start(async |mut visitor: Visitor| {
        visitor.request().await;
        visitor.closed().await;
    })
}

fn hedged(endpoints: &[&Origin], after: HedgeAfter) -> model::Upstream {
    let addresses: Vec<_> = endpoints.iter().map(|origin| origin.address).collect();
    model::Upstream { hedge: Some(Hedge { after, max_extra: 1 }), ..settings(&addresses) }
}

const SOON: HedgeAfter = HedgeAfter::Delay(Duration::from_millis(20));

#[test]
fn the_first_answer_is_taken_and_the_other_attempt_given_up() {
    run(async {
        let (stuck, well) = (stuck(), Origin::answering(HELLO));
        let snapshot = snapshot(hedged(&[&stuck, &well], SOON));
        let mut hedges = 0;
        for _ in 0..4 {
            let mut exchange = exchange(&snapshot, Method::GET, &[]);
            let answer = forward(&mut exchange, Body::Empty).await.unwrap();
            assert_eq!(testing::bytes(answer.into_body()).await.unwrap(), "hello");
            let (_, endpoint) = exchange.facts.record.endpoint.clone().unwrap();
            assert_eq!(*endpoint, well.address.to_string());
            for repeat in &exchange.facts.record.repeats {
                assert_eq!(repeat.to_string(), format!("hedge-won {}", well.address));
            }
            assert_eq!(exchange.facts.record.attempts as usize, 1 + exchange.facts.record.repeats.len());
            hedges += exchange.facts.record.repeats.len();
        }
        let open = || stuck.log.open.load(std::sync::atomic::Ordering::SeqCst);
        eventually("the losers' connections are closed", || open() == 0).await;
        assert!(hedges > 0);
        assert_eq!(stuck.requests().len(), hedges);
        let tries = status(&snapshot.upstreams)[0].tries;
        assert_eq!((tries.hedges, tries.hedges_won), (hedges as u64, hedges as u64));
        let endpoint = snapshot.upstreams["origin"].endpoint(0);
        let active = &endpoint.active;
        assert_eq!(active.load(std::sync::atomic::Ordering::SeqCst), 0);
    });
}

#[test]
fn a_post_is_not_hedged() {
    run(async {
        let slow = Origin::start(async |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                tokio::time::sleep(Duration::from_millis(100)).await;
                visitor.send(HELLO).await;
            }
        });
        let snapshot = snapshot(hedged(&[&slow, &slow], SOON));
        assert!(super::send(&snapshot, Method::POST, Body::Full("x".into())).await.is_ok());
        assert_eq!(slow.requests().len(), 1);
    });
}

#[test]
fn hedges_draw_on_the_budget() {
    run(async {
        let (stuck, well) = (stuck(), Origin::answering(HELLO));
        let mut settings = hedged(&[&stuck, &well], SOON);
        settings.first_byte_timeout = Duration::from_millis(100);
        settings.retry.budget =
            model::RetryBudget { ratio: 0.0, min_per_second: 0, window: Duration::from_secs(1) };
        let snapshot = snapshot(settings);
        let mut failed = 0;
        for _ in 0..2 {
            failed += u64::from(super::get(&snapshot).await.is_err());
        }
        let tries = status(&snapshot.upstreams)[0].tries;
        assert!(failed > 0);
        assert_eq!((tries.hedges, tries.budget_exhausted), (0, failed));
    });
}

#[test]
fn a_percentile_counts_once_enough_has_been_seen() {
    run(async {
        let (moody, well) = (
            Origin::start(async |mut visitor: Visitor| {
                while let Some(request) = visitor.request().await {
                    if request.contains("x-slow") {
                        visitor.closed().await;
                        return;
                    }
                    visitor.send(HELLO).await;
                }
            }),
            Origin::answering(HELLO),
        );
        let after = HedgeAfter::Percentile { share: 0.95, min_samples: 50 };
        let snapshot = snapshot(hedged(&[&moody, &well], after));
        for _ in 0..60 {
            super::get(&snapshot).await.unwrap();
        }
        // The percentile is computed again after a moment, when a request needs it.
        let mut won = false;
        for _ in 0..100 {
            let mut slow = exchange(&snapshot, Method::GET, &[("x-slow", "1")]);
            slow.facts.timeout = Some(Duration::from_millis(500));
            let answered = forward(&mut slow, Body::Empty).await.is_ok();
            won |= answered
                && slow.facts.record.repeats.iter().any(|repeat| repeat.to_string().starts_with("hedge-won"));
            if won {
                break;
            }
        }
        assert!(won, "nothing was hedged");
    });
}
