//! What the record says of requests that got no response, or not the first one.

use std::time::Duration;

use futures_util::future::{self, Either};
use http::Method;
use witgate_config::model::{Hedge, HedgeAfter, Upstream};
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::record::Record;

use super::origin::{Origin, Visitor};
use super::{HELLO, exchange, forward, settings, snapshot};
use crate::testing::run;

const BAD: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";

fn silent() -> Origin {
    Origin::start(async |mut visitor: Visitor| {
        visitor.request().await;
        visitor.closed().await;
    })
}

/// The record of a request whose client leaves once `left` is true.
async fn abandoned(upstream: Upstream, left: impl Fn() -> bool) -> Record {
    let snapshot = snapshot(upstream);
    let mut request = exchange(&snapshot, Method::GET, &[]);
    {
        let forwarding = std::pin::pin!(forward(&mut request, Body::Empty));
        let leaving = std::pin::pin!(super::eventually("the time to leave", left));
        let first = future::select(forwarding, leaving).await;
        assert!(matches!(first, Either::Right(_)), "there was a response");
    }
    std::mem::take(&mut request.facts.record)
}

fn endpoint(record: &Record) -> &str {
    record.endpoint.as_ref().map_or("", |(_, endpoint)| endpoint)
}

#[test]
fn a_request_whose_client_left_is_recorded_with_endpoint_attempts_and_time() {
    run(async {
        let origin = silent();
        let record = abandoned(settings(&[origin.address]), || origin.requests().len() == 1).await;
        assert_eq!((endpoint(&record), record.attempts), (&*origin.address.to_string(), 1));
        assert!(record.upstream_time.is_some_and(|time| !time.is_zero()));
        assert_eq!(record.endpoint.expect("an endpoint").0.as_ref(), "origin");
    });
}

#[test]
fn so_are_one_that_was_sent_again_and_one_that_was_hedged() {
    run(async {
        let (bad, quiet) = (Origin::answering(BAD), silent());
        let mut upstream = settings(&[bad.address, quiet.address]);
        upstream.endpoints[1].priority = 1;
        upstream.retry.statuses = vec![503];
        upstream.retry.attempts = 2;
        let record = abandoned(upstream, || quiet.requests().len() == 1).await;
        assert_eq!((endpoint(&record), record.attempts), (&*quiet.address.to_string(), 2));
        assert_eq!(record.repeats.len(), 1);

        let [first, second] = [silent(), silent()];
        let mut upstream = settings(&[first.address, second.address]);
        upstream.hedge = Some(Hedge { after: HedgeAfter::Delay(Duration::from_millis(5)), max_extra: 1 });
        let record = abandoned(upstream, || first.requests().len() + second.requests().len() == 2).await;
        assert_eq!(record.attempts, 2);
        assert!(record.endpoint.is_some() && record.upstream_time.is_some());
    });
}

#[test]
fn a_request_that_found_no_connection_names_the_endpoint_and_was_not_sent() {
    run(async {
        let origin = silent();
        let upstream = Upstream { max_connections: 1, ..settings(&[origin.address]) };
        let snapshot = snapshot(upstream);
        let mut holding = exchange(&snapshot, Method::GET, &[]);
        let holding = std::pin::pin!(forward(&mut holding, Body::Empty));
        let mut waiting = exchange(&snapshot, Method::GET, &[]);
        {
            let queued = || snapshot.upstreams["origin"].carried.limit.waiting() == 1;
            let asked = async {
                super::eventually("a first request", || origin.requests().len() == 1).await;
                let forwarding = std::pin::pin!(forward(&mut waiting, Body::Empty));
                let leaving = std::pin::pin!(super::eventually("a queue", queued));
                assert!(matches!(future::select(forwarding, leaving).await, Either::Right(_)));
            };
            let asked = std::pin::pin!(asked);
            let both = future::select(holding, asked).await;
            assert!(matches!(both, Either::Right(_)));
        }
        let record = &waiting.facts.record;
        assert_eq!((endpoint(record), record.attempts), (&*origin.address.to_string(), 0));
        assert_eq!(record.upstream_time, None);
    });
}

#[test]
fn the_cause_of_a_timeout_names_the_endpoint_the_time_and_the_setting() {
    run(async {
        let origin = silent();
        let address = origin.address;
        let cause = async |upstream: Upstream, timeout: Option<Duration>| {
            let snapshot = snapshot(upstream);
            let mut request = exchange(&snapshot, Method::GET, &[]);
            request.facts.timeout = timeout;
            let fault = forward(&mut request, Body::Empty).await.expect_err("a timeout");
            assert_eq!(request.facts.record.attempts, 1);
            assert!(request.facts.record.upstream_time.is_some());
            (fault.kind, fault.cause.expect("a cause").into_owned())
        };
        let short = Duration::from_millis(30);
        let first_byte = Upstream { first_byte_timeout: short, ..settings(&[address]) };
        let expected = format!("{address}: no response head within 30ms (`first_byte_timeout`)");
        assert_eq!(cause(first_byte, None).await, (FaultKind::FirstByteTimeout, expected));
        let mut per_try = settings(&[address]);
        per_try.retry.per_try_timeout = Some(short);
        let expected = format!("{address}: no response head within 30ms (`retry.per_try_timeout`)");
        assert_eq!(cause(per_try, None).await, (FaultKind::FirstByteTimeout, expected));
        let (kind, told) = cause(settings(&[address]), Some(short)).await;
        assert_eq!(kind, FaultKind::RequestTimeout);
        assert_eq!(told, "no response within 30ms of the request, which is its deadline");
    });
}

#[test]
fn the_cause_of_a_request_without_an_endpoint_says_what_the_endpoints_are() {
    run(async {
        let origin = Origin::answering(HELLO);
        let mut upstream = settings(&[origin.address, origin.address]);
        upstream.endpoints[1].port = 1;
        let snapshot = snapshot(upstream);
        let drain = |index: usize| {
            let set = snapshot.upstreams["origin"].set.load();
            set.entries[index].member.endpoint().share.set_drained(true);
        };
        drain(0);
        drain(1);
        let mut request = exchange(&snapshot, Method::GET, &[]);
        let fault = forward(&mut request, Body::Empty).await.expect_err("no endpoint");
        assert_eq!(fault.kind, FaultKind::NoEndpoint);
        assert_eq!(fault.cause.as_deref(), Some("origin: no endpoint takes requests: 2 drained"));
    });
}
