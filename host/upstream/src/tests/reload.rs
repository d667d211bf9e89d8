//! What survives a reload.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use witgate_config::model::Breaker;
use witgate_exchange::body::Body;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, get, rebuilt, send, settings, snapshot};
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, status};

#[test]
fn an_upstream_that_did_not_change_is_carried_over_whole() {
    run(async {
        let origin = Origin::answering(HELLO);
        let before = snapshot(settings(&[origin.address]));
        get(&before).await.unwrap();
        let after = rebuilt(settings(&[origin.address]), Some(&before));
        assert!(Arc::ptr_eq(&before.upstreams["origin"], &after.upstreams["origin"]));
        drop(before);
        get(&after).await.unwrap();
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn endpoints_that_stay_keep_connections_and_breakers_when_others_come() {
    run(async {
        let (well, sick) = (Origin::answering(HELLO), Origin::start(async |_: Visitor| {}));
        let mut old = settings(&[well.address, sick.address]);
        old.breaker = Breaker {
            consecutive_failures: 1,
            open_for: Duration::from_secs(60),
            max_open_for: Duration::from_secs(60),
            ..old.breaker
        };
        let before = snapshot(old.clone());
        for _ in 0..2 {
            let _ = get(&before).await;
        }
        let newcomer = Origin::answering(HELLO);
        let mut new = settings(&[sick.address, newcomer.address, well.address]);
        new.breaker = old.breaker;
        let after = rebuilt(new, Some(&before));
        drop(before);
        let states: Vec<_> =
            status(&after.upstreams)[0].endpoints.iter().map(|endpoint| endpoint.breaker).collect();
        assert_eq!(states, [BreakerState::Open, BreakerState::Closed, BreakerState::Closed]);
        for _ in 0..4 {
            get(&after).await.unwrap();
        }
        assert_eq!((well.connections(), newcomer.connections()), (1, 1));
    });
}

#[test]
fn a_request_ends_on_the_upstream_it_began_on_and_connections_of_those_gone_are_closed() {
    run(async {
        let origin = Origin::answering(HELLO);
        let before = snapshot(settings(&[origin.address]));
        let response = send(&before, Method::GET, Body::Empty).await.unwrap();
        let empty = Snapshot::build(testing::config(), Some(&before));
        assert!(empty.is_ok_and(|snapshot| snapshot.upstreams.is_empty()));
        let limit = before.upstreams["origin"].carried.limit.clone();
        drop(before);
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "hello");
        eventually("its connections are closed", || limit.open() == 0).await;
    });
}

#[test]
fn the_cap_counts_connections_of_the_version_before() {
    run(async {
        let origin = Origin::answering(HELLO);
        let mut capped = settings(&[origin.address]);
        capped.max_connections = 1;
        let before = snapshot(capped.clone());
        get(&before).await.unwrap();
        capped.keep_alive = Duration::from_secs(7);
        let after = rebuilt(capped, Some(&before));
        assert_eq!(status(&after.upstreams)[0].connections, 1);
        get(&after).await.unwrap();
        assert_eq!(origin.connections(), 1);
    });
}

#[test]
fn everything_wrong_is_reported_at_once() {
    let mut config = testing::config();
    let mut upstream = settings(&["127.0.0.1:1".parse().unwrap()]);
    upstream.balancer.kind = "magic".into();
    config.upstreams.insert("first".into(), upstream.clone());
    upstream.balancer.kind = "round-robin".into();
    upstream.tls = Some(super::tls::unverified());
    upstream.tls.as_mut().unwrap().ca = Some("/nowhere/ca.pem".into());
    config.upstreams.insert("second".into(), upstream);
    let problems = Snapshot::build(config, None).err().unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["upstreams.first.balancer", "upstreams.second.tls.ca"]);
}
