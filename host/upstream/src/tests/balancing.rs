//! Which endpoint is picked, over real connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::header::SET_COOKIE;
use http::{HeaderMap, Method};
use witgate_config::model::{Breaker, SameSite, SlowStart, Sticky};
use witgate_config::{Settings, model};
use witgate_exchange::body::Body;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, rebuilt, settings, snapshot};
use crate::balancer::clock;
use crate::set::TableMaking;
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{Availability, EndpointChange, EndpointStatus, adjust, status};

fn balancer(kind: &str, settings: serde_json::Value) -> model::Balancer {
    let serde_json::Value::Object(value) = settings else { panic!("settings are an object") };
    model::Balancer { kind: kind.into(), settings: Settings::unwritten("upstreams.origin.balancer", value) }
}

fn change(snapshot: &Snapshot, origin: &Origin, change: EndpointChange) -> EndpointStatus {
    adjust(&snapshot.upstreams, "origin", &origin.address.to_string(), &change).unwrap()
}

fn drain(drain: bool) -> EndpointChange {
    EndpointChange { drain: Some(drain), ..Default::default() }
}

fn weight(weight: u32) -> EndpointChange {
    EndpointChange { weight: Some(weight), ..Default::default() }
}

/// Does the work of a round of the keeper.
fn refresh(snapshot: &Snapshot) {
    snapshot.upstreams["origin"].refresh(clock::now(), TableMaking::Paced);
}

/// Sends a GET with headers, and returns the headers that stages add to the response.
async fn get_with(snapshot: &Arc<Snapshot>, headers: &[(&str, &str)]) -> HeaderMap {
    let mut exchange = exchange(snapshot, Method::GET, headers);
    let response = forward(&mut exchange, Body::Empty).await.unwrap();
    testing::bytes(response.into_body()).await.unwrap();
    std::mem::take(&mut exchange.facts.response_headers).into_iter().collect()
}

/// The number of requests that each origin has received since the last call.
fn seen(origins: [&Origin; 2]) -> [usize; 2] {
    origins.map(|origin| origin.requests().len())
}

#[test]
fn a_drained_endpoint_takes_no_new_requests_and_finishes_those_it_has() {
    run(async {
        let go = Arc::new(AtomicBool::new(false));
        let told = go.clone();
        let slow = Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                while !told.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                visitor.send(HELLO).await;
            }
        });
        let other = Origin::answering(HELLO);
        let snapshot = snapshot(settings(&[slow.address, other.address]));
        let in_flight = async { get(&snapshot).await.unwrap() };
        let meanwhile = async {
            eventually("it is under way", || slow.requests().len() == 1).await;
            let status = change(&snapshot, &slow, drain(true));
            assert_eq!((status.availability, status.active), (Availability::Drained, 1));
            for _ in 0..10 {
                get(&snapshot).await.unwrap();
            }
            go.store(true, Ordering::SeqCst);
        };
        assert_eq!(tokio::join!(in_flight, meanwhile).0, "hello");
        assert_eq!(seen([&slow, &other]), [1, 10]);
        change(&snapshot, &slow, drain(false));
        for _ in 0..10 {
            get(&snapshot).await.unwrap();
        }
        assert_eq!(seen([&slow, &other]), [6, 15]);
        let events: Vec<String> =
            status(&snapshot.upstreams)[0].events.iter().map(|event| event.event.clone()).collect();
        assert_eq!(events, ["endpoint-drained", "endpoint-undrained"]);
    });
}

#[test]
fn what_an_operator_says_outlives_reloads_until_the_file_says_otherwise() {
    run(async {
        let (first, second) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let mut file = settings(&[first.address, second.address]);
        let before = snapshot(file.clone());
        assert_eq!(change(&before, &second, weight(3)).written_weight, Some(1));
        for _ in 0..8 {
            get(&before).await.unwrap();
        }
        assert_eq!(seen([&first, &second]), [2, 6]);
        change(&before, &first, drain(true));
        // The endpoints change places, and get other settings.
        file.endpoints.reverse();
        file.protocol = model::UpstreamProtocol::Http2;
        let after = rebuilt(file.clone(), Some(&before));
        let stands = |snapshot: &Snapshot| {
            let endpoints = status(&snapshot.upstreams)[0].endpoints.clone();
            endpoints.iter().map(|endpoint| (endpoint.weight, endpoint.availability)).collect::<Vec<_>>()
        };
        assert_eq!(stands(&after), [(3, Availability::Available), (1, Availability::Drained)]);
        file.endpoints[0].weight = 7;
        let after = rebuilt(file.clone(), Some(&after));
        assert_eq!(stands(&after), [(7, Availability::Available), (1, Availability::Drained)]);
        change(&after, &first, EndpointChange { reset: true, ..Default::default() });
        assert_eq!(stands(&after), [(7, Availability::Available), (1, Availability::Available)]);
        let unknown = adjust(&after.upstreams, "origin", "a.example:1", &drain(true)).unwrap_err();
        assert!(unknown.contains("a.example:1"), "{unknown}");
        assert!(adjust(&after.upstreams, "nobody", "a.example:1", &drain(true)).is_err());
    });
}

#[test]
fn weight_zero_takes_an_endpoint_out() {
    run(async {
        let (first, second) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let snapshot = snapshot(settings(&[first.address, second.address]));
        change(&snapshot, &first, weight(0));
        change(&snapshot, &second, weight(0));
        let fault = get(&snapshot).await.unwrap_err();
        assert_eq!(fault.kind, witgate_exchange::fault::FaultKind::NoEndpoint);
        change(&snapshot, &second, EndpointChange { reset: true, ..Default::default() });
        get(&snapshot).await.unwrap();
        assert_eq!(seen([&first, &second]), [0, 1]);
    });
}

#[test]
fn the_next_priority_takes_over_and_gives_back() {
    run(async {
        let well = Arc::new(AtomicBool::new(false));
        let told = well.clone();
        let first = Origin::start(async move |mut visitor: Visitor| {
            while visitor.request().await.is_some() && told.load(Ordering::SeqCst) {
                visitor.send(HELLO).await;
            }
        });
        let second = Origin::answering(HELLO);
        let mut settings = settings(&[first.address, second.address]);
        settings.endpoints[1].priority = 1;
        let rest = Duration::from_millis(100);
        settings.breaker =
            Breaker { consecutive_failures: 1, open_for: rest, max_open_for: rest, ..settings.breaker };
        let snapshot = snapshot(settings);
        get(&snapshot).await.unwrap_err();
        refresh(&snapshot);
        for _ in 0..5 {
            get(&snapshot).await.unwrap();
        }
        assert_eq!(second.requests().len(), 5);
        well.store(true, Ordering::SeqCst);
        let available = || {
            refresh(&snapshot);
            status(&snapshot.upstreams)[0].endpoints[0].availability == Availability::Probing
        };
        eventually("the first may be probed", available).await;
        for _ in 0..5 {
            get(&snapshot).await.unwrap();
            refresh(&snapshot);
        }
        assert_eq!(second.requests().len(), 5, "the first has everything again");
    });
}

#[test]
fn a_reload_goes_on_with_the_turn() {
    run(async {
        let (first, second) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let mut file = settings(&[first.address, second.address]);
        let before = snapshot(file.clone());
        get(&before).await.unwrap();
        file.keep_alive = Duration::from_secs(29);
        let after = rebuilt(file, Some(&before));
        get(&after).await.unwrap();
        assert_eq!(seen([&first, &second]), [1, 1]);
    });
}

#[test]
fn an_endpoint_that_a_reload_brings_comes_in_slowly() {
    run(async {
        let (first, second) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let mut file = settings(&[first.address]);
        let window = Duration::from_secs(1000);
        file.slow_start = Some(SlowStart { window, least: 0.25, after_recovery: false });
        let before = snapshot(file.clone());
        assert_eq!(status(&before.upstreams)[0].endpoints[0].percent, 100, "nobody was there before it");
        file.endpoints = settings(&[first.address, second.address]).endpoints;
        let after = rebuilt(file, Some(&before));
        for _ in 0..10 {
            get(&after).await.unwrap();
        }
        assert_eq!(seen([&first, &second]), [8, 2]);
        after.upstreams["origin"].refresh(clock::now() + window, TableMaking::Paced);
        for _ in 0..10 {
            get(&after).await.unwrap();
        }
        assert_eq!(seen([&first, &second]), [13, 7]);
    });
}

#[test]
fn where_that_is_wanted_one_that_has_recovered_comes_in_slowly() {
    let mut file = settings(&["127.0.0.1:1".parse().unwrap()]);
    let window = Duration::from_secs(100);
    file.slow_start = Some(SlowStart { window, least: 0.25, after_recovery: true });
    let rest = Duration::from_millis(1);
    file.breaker = Breaker { consecutive_failures: 1, open_for: rest, max_open_for: rest, ..file.breaker };
    run(async {
        let snapshot = snapshot(file);
        get(&snapshot).await.unwrap_err();
        refresh(&snapshot);
        let upstream = &snapshot.upstreams["origin"];
        eventually("it may be probed", || upstream.endpoint(0).availability() == Availability::Probing).await;
        refresh(&snapshot);
        let endpoint = upstream.endpoint(0);
        let breaker = &endpoint.breaker;
        let (probe, _) = breaker.enter(&upstream.config.breaker).unwrap();
        probe.answered(breaker, Duration::ZERO, &upstream.config.breaker);
        refresh(&snapshot);
        assert_eq!(status(&snapshot.upstreams)[0].endpoints[0].percent, 25);
    });
}

fn sticky() -> Sticky {
    Sticky { cookie: "stay".into(), path: "/".into(), ttl: None, same_site: SameSite::Lax, key: None }
}

#[test]
fn a_client_stays_with_its_endpoint_as_long_as_that_takes_requests() {
    run(async {
        let origins = [Origin::answering(HELLO), Origin::answering(HELLO)];
        let mut file = settings(&[origins[0].address, origins[1].address]);
        file.sticky = Some(sticky());
        let snapshot = snapshot(file);
        let set = |headers: &HeaderMap| {
            let cookie = headers.get(SET_COOKIE).map(|cookie| cookie.to_str().unwrap());
            cookie.map(|cookie| cookie.split(';').next().unwrap().to_owned())
        };
        let cookie = set(&get_with(&snapshot, &[]).await).expect("a cookie is set");
        assert!(cookie.starts_with("stay="));
        let sent = format!("a=1; {cookie}; b=2");
        for _ in 0..6 {
            assert_eq!(set(&get_with(&snapshot, &[("cookie", &sent)]).await), None);
        }
        let theirs = usize::from(origins[0].requests().len() != 7);
        assert_eq!(origins[theirs].requests().len(), 7);
        let told = origins[theirs].requests().pop().unwrap();
        assert!(told.contains("cookie: a=1; b=2\r\n") && !told.contains("stay"), "{told}");
        // The endpoint of the session is drained: the balancer picks another, and the client stays with it from
        // then on.
        change(&snapshot, &origins[theirs], drain(true));
        let other = set(&get_with(&snapshot, &[("cookie", &cookie)]).await).expect("another cookie");
        change(&snapshot, &origins[theirs], drain(false));
        for _ in 0..4 {
            assert_eq!(set(&get_with(&snapshot, &[("cookie", &other)]).await), None);
        }
        assert_eq!(origins[1 - theirs].requests().len(), 5);
        // A forged cookie counts as none.
        assert!(set(&get_with(&snapshot, &[("cookie", "stay=00")]).await).is_some());
    });
}

#[test]
fn requests_with_one_key_go_to_one_endpoint_also_when_a_plugin_chose_it() {
    run(async {
        for kind in ["ring-hash", "maglev"] {
            let origins = [Origin::answering(HELLO), Origin::answering(HELLO)];
            let mut file = settings(&[origins[0].address, origins[1].address]);
            file.balancer =
                balancer(kind, serde_json::json!({ "keys": ["header:x-user"], "load_factor": 1.5 }));
            let snapshot = snapshot(file);
            for user in 0..20 {
                let before = seen([&origins[0], &origins[1]]);
                let user = user.to_string();
                for _ in 0..3 {
                    get_with(&snapshot, &[("x-user", &user)]).await;
                    let mut chosen = exchange(&snapshot, Method::GET, &[("x-user", "somebody")]);
                    chosen.facts.hash_key = Some(user.clone().into());
                    let response = forward(&mut chosen, Body::Empty).await.unwrap();
                    testing::bytes(response.into_body()).await.unwrap();
                }
                let after = seen([&origins[0], &origins[1]]);
                let moved = [after[0] - before[0], after[1] - before[1]];
                assert!(moved == [6, 0] || moved == [0, 6], "{kind}, user {user}: {moved:?}");
            }
            assert!(seen([&origins[0], &origins[1]]).iter().all(|count| *count > 0), "{kind}");
            assert_eq!(
                snapshot.upstreams["origin"].member(0).group_in_flight(),
                0,
                "requests that are over are not in flight"
            );
        }
    });
}

#[test]
fn a_slow_endpoint_is_left_to_itself() {
    run(async {
        let slow = Origin::start(async |mut visitor: Visitor| {
            while visitor.request().await.is_some() {
                tokio::time::sleep(Duration::from_millis(300)).await;
                visitor.send(HELLO).await;
            }
        });
        let fast = Origin::answering(HELLO);
        let mut file = settings(&[slow.address, fast.address]);
        file.balancer = balancer("peak-ewma", serde_json::json!({ "decay": "1m" }));
        let before = snapshot(file.clone());
        for _ in 0..40 {
            get(&before).await.unwrap();
        }
        let count = slow.requests().len();
        assert!((1..10).contains(&count), "it got {count} of 40");
        assert!(status(&before.upstreams)[0].endpoints[0].latency_micros >= Some(300_000));
        // Observed latencies survive a reload.
        file.keep_alive = Duration::from_secs(29);
        let after = rebuilt(file, Some(&before));
        for _ in 0..40 {
            get(&after).await.unwrap();
        }
        let count = slow.requests().len() - count;
        assert!(count < 10, "it got {count} of 40 more");
    });
}

#[test]
fn settings_a_policy_does_not_take_are_told() {
    let mut config = testing::config();
    let mut upstream = settings(&["127.0.0.1:1".parse().unwrap()]);
    upstream.balancer = balancer("maglev", serde_json::json!({ "table_size": 8, "keys": ["moon"] }));
    config.upstreams.insert("origin".into(), upstream);
    let problems = Snapshot::build(config, None).err().unwrap();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    let expected = ["upstreams.origin.balancer.keys[0]", "upstreams.origin.balancer.table_size"];
    assert_eq!(keys, expected);
}
