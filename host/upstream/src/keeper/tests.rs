//! When the keeper wakes, and that it sleeps if nothing is due.

use std::net::SocketAddr;

use witgate_config::model::{self, SlowStart};

use arc_swap::ArcSwap;
use witgate_exchange::fault::{Fault, FaultKind};

use super::*;
use crate::observe::conduct::Others;
use crate::observe::ejection::ObservedFailure;
use crate::observe::events::EventKind;
use crate::observe::{Extent, Failing};
use crate::testing;
use crate::testing::Snapshot;

const SECOND: Duration = Duration::from_secs(1);

fn addresses(endpoints: u32) -> Vec<SocketAddr> {
    (0..endpoints).map(|index| SocketAddr::from(((0x0a00_0000 + index).to_be_bytes(), 80))).collect()
}

fn upstream(endpoints: u32, change: impl FnOnce(&mut model::Upstream)) -> Arc<Upstream> {
    let mut config = testing::upstream(&addresses(endpoints));
    change(&mut config);
    rebuilt(config, None)
}

fn rebuilt(config: model::Upstream, previous: Option<&Arc<Upstream>>) -> Arc<Upstream> {
    Upstream::build("origin", &config, None, &Default::default(), previous)
        .unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn snapshot(upstream: Arc<Upstream>) -> Arc<Snapshot> {
    let upstreams = testing::upstreams(0, [("origin".into(), upstream)]);
    Arc::new(Snapshot { config: Arc::new(testing::config()), upstreams })
}

/// In how many milliseconds something is due.
fn due(upstream: &Upstream) -> Option<u128> {
    let now = Instant::now();
    upstream.due(now, clock::now()).map(|due| due.saturating_duration_since(now).as_millis())
}

fn fail(upstream: &Upstream, index: usize) {
    let reset = Failing::of(&Fault::new(FaultKind::UpstreamReset), Extent::Reached);
    let (endpoint, shown) = (upstream.endpoint(index), ObservedFailure::Fault(reset));
    (0..5).for_each(|_| upstream.count_failure(&Others::of(upstream, &endpoint), &endpoint, shown, false));
}

#[test]
fn nothing_is_ever_due_at_rest() {
    assert_eq!(due(&upstream(10_000, |_| {})), None);
    let checked = upstream(3, |config| {
        config.slow_start = Some(SlowStart { window: SECOND, least: 0.1, after_recovery: true });
        config.ejection.success_rate = None;
    });
    assert_eq!(due(&checked), None, "endpoints that were there from the start are not new");
}

#[test]
fn each_thing_that_changes_by_itself_is_due_at_its_time() {
    let within = |upstream: &Upstream, least: u128, most: u128| {
        let due = due(upstream).expect("something is due");
        assert!((least..=most).contains(&due), "{due} ms");
    };
    let breaks = upstream(2, |config| {
        config.breaker.consecutive_failures = 1;
        config.breaker.open_for = 7 * SECOND;
    });
    let endpoint = breaks.endpoint(0);
    let (call, _) = endpoint.breaker.enter(&breaks.config.breaker).expect("closed");
    let unreached = Failing::of(&Fault::new(FaultKind::UpstreamUnreachable), Extent::Unreached);
    let opened = call.failed(&endpoint.breaker, unreached.failure(), &breaks.config.breaker, || Some(()));
    assert!(opened.is_some());
    within(&breaks, 6000, 7001);

    let ejects = upstream(2, |config| config.ejection.base_time = 5 * SECOND);
    fail(&ejects, 0);
    within(&ejects, 4000, 5000);
    // An ejection is forgotten after an interval in service.
    ejects.review_ejections(Instant::now() + 5 * SECOND);
    within(&ejects, 0, 5000 + ejects.config.ejection.interval.as_millis());

    let slow = |config: &mut model::Upstream| {
        config.slow_start = Some(SlowStart { window: 100 * SECOND, least: 0.1, after_recovery: false });
    };
    let before = upstream(1, slow);
    let mut config = before.config.clone();
    config.endpoints = testing::upstream(&addresses(2)).endpoints;
    within(&rebuilt(config, Some(&before)), 14_000, 15_000);

    let compares = upstream(3, |config| {
        let text =
            "[upstreams.a]\nendpoints = [\"a:1\"]\nejection = { interval = \"10s\", success_rate = {} }\n";
        let parsed =
            witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
        config.ejection = parsed.config.upstreams["a"].ejection;
    });
    compares.review_ejections(Instant::now());
    within(&compares, 9000, 10_000);
}

/// One round at the start, and one for each event, whatever the number of endpoints, and however long nothing
/// happens.
#[test]
fn it_sleeps_while_nothing_happens_and_wakes_for_an_event_and_a_swap() {
    testing::run(async {
        let rounds = Arc::<AtomicU64>::default();
        let upstream = upstream(10_000, |_| {});
        let snapshots = Arc::new(ArcSwap::new(snapshot(upstream.clone())));
        let keeper = Keeper::start_counting(snapshots.clone(), Telemetry::new(), rounds.clone()).unwrap();
        let reached = async |count: u64| {
            let deadline = Instant::now() + 10 * SECOND;
            while rounds.load(Ordering::Relaxed) < count {
                assert!(Instant::now() < deadline, "{} rounds", rounds.load(Ordering::Relaxed));
                sleep(Duration::from_millis(5)).await;
            }
        };
        reached(1).await;
        // A time without events, in which a keeper that polls would make six rounds.
        sleep(6 * ROUND).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 1);
        upstream.carried.events.record(EventKind::EndpointDrained, None, "by hand");
        reached(2).await;
        let mut config = upstream.config.clone();
        config.keep_alive = 7 * SECOND;
        snapshots.store(snapshot(rebuilt(config, Some(&upstream))));
        keeper.follow();
        reached(3).await;
        sleep(6 * ROUND).await;
        assert_eq!(rounds.load(Ordering::Relaxed), 3);
    });
}

/// However many events there are, rounds have a shortest interval, because each reads all endpoints.
#[test]
fn a_storm_of_events_is_met_by_few_rounds() {
    testing::run(async {
        let rounds = Arc::<AtomicU64>::default();
        let upstream = upstream(2, |_| {});
        let snapshots = Arc::new(ArcSwap::new(snapshot(upstream.clone())));
        let _keeper = Keeper::start_counting(snapshots, Telemetry::new(), rounds.clone()).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < 6 * ROUND {
            upstream.carried.events.record(EventKind::WeightChanged, None, "by hand");
            sleep(Duration::from_millis(1)).await;
        }
        let most = begun.elapsed().as_millis() / ROUND.as_millis() + 2;
        assert!(u128::from(rounds.load(Ordering::Relaxed)) <= most, "{rounds:?} rounds, {most} are allowed");
    });
}
