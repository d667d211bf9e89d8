//! Sets that change while requests are in flight, over real connections, with a real keeper.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::Method;
use witgate_config::model::{self, Breaker, SameSite, Sticky};
use witgate_exchange::body::Body;
use witgate_exchange::fault::FaultKind;
use witgate_telemetry::Telemetry;

use super::origin::{Origin, Visitor};
use super::{HELLO, eventually, exchange, forward, get, settings, snapshot};
use crate::balancer::clock;
use crate::discovery::{
    Allow, BuiltSource, EndpointSink, EndpointSpec, Limits, Readiness, Run, Source, SourceThread,
};
use crate::keeper::Keeper;
use crate::set::TableMaking;
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{BreakerState, Upstream, status};

const SECOND: Duration = Duration::from_secs(1);

fn spec(origin: &Origin) -> EndpointSpec {
    EndpointSpec::at(&origin.address.ip().to_string(), origin.address.port())
}

/// Puts a set in service, as the keeper does.
fn serve(snapshot: &Snapshot, spec: impl IntoIterator<Item = EndpointSpec>) {
    serve_at(snapshot, spec, clock::now());
}

fn serve_at(snapshot: &Snapshot, spec: impl IntoIterator<Item = EndpointSpec>, now: Duration) {
    let spec: Vec<Arc<EndpointSpec>> = spec.into_iter().map(Arc::new).collect();
    snapshot.upstreams["origin"].put_in_service(&spec, 1, now);
}

/// A source made from a function that gets its sink.
struct Scripted<F>(F);

impl<F> Source for Scripted<F>
where
    F: AsyncFnMut(&dyn EndpointSink) -> Result<(), String> + Send,
{
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin((self.0)(sink))
    }
}

/// A snapshot whose upstream has this source, and its keeper.
struct Discovered {
    snapshot: Arc<Snapshot>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    keeper: Keeper,
}

fn built<F>(thread: SourceThread, pace: Duration, script: F) -> BuiltSource
where
    F: AsyncFnMut(&dyn EndpointSink) -> Result<(), String> + Send + 'static,
{
    let networks = Some(vec!["127.0.0.0/8".parse().unwrap()]);
    let limits = Limits { allow: Allow { networks, ..Allow::default() }, pace, ..Limits::default() };
    BuiltSource { source: Box::new(Scripted(script)), thread, kind: Some("scripted"), limits, restored: None }
}

fn with_source(
    config: &model::Upstream,
    source: BuiltSource,
    previous: Option<&Arc<Upstream>>,
) -> Arc<Snapshot> {
    let upstream = Upstream::build_with(source, "origin", config, None, &Default::default(), previous)
        .unwrap_or_else(|problems| panic!("{problems:?}"));
    let upstreams = testing::upstreams(usize::MAX, [("origin".into(), upstream)]);
    Arc::new(Snapshot { config: Arc::new(testing::config()), upstreams })
}

impl Discovered {
    fn start(config: &model::Upstream, source: BuiltSource) -> Discovered {
        let snapshot = with_source(config, source, None);
        let snapshots = Arc::new(ArcSwap::new(snapshot.clone()));
        let keeper = Keeper::start(snapshots.clone(), Telemetry::new()).unwrap();
        Discovered { snapshot, snapshots, keeper }
    }

    fn ports(&self) -> Vec<u16> {
        ports(&self.snapshot)
    }
}

fn ports(snapshot: &Snapshot) -> Vec<u16> {
    snapshot.upstreams["origin"].set.load().members().map(|member| member.spec.port).collect()
}

/// A healthy endpoint and one with an open breaker stay, while others are added and removed every 10 ms.
#[test]
fn a_set_that_changes_every_ten_milliseconds_fails_no_request_and_takes_nothing_from_those_that_stay() {
    for thread in [SourceThread::Keeper, SourceThread::Own] {
        run(async move {
            let (well, sick) = (Origin::answering(HELLO), Origin::start(async |_: Visitor| {}));
            let guests: Vec<Origin> = (0..6).map(|_| Origin::answering(HELLO)).collect();
            let stay = [spec(&well), spec(&sick)];
            let come: Vec<EndpointSpec> = guests.iter().map(spec).collect();
            let (calm, turns) = (Arc::new(AtomicBool::new(true)), Arc::<AtomicU64>::default());
            let (is_calm, turned) = (calm.clone(), turns.clone());
            let source = built(thread, Duration::from_millis(10), async move |sink: &dyn EndpointSink| {
                loop {
                    let turn = turned.fetch_add(1, Ordering::SeqCst) as usize;
                    let some = |index: &usize| (index + turn).is_multiple_of(3) || (index * turn) % 4 == 1;
                    let guests = (0..come.len()).filter(some).map(|index| come[index].clone());
                    let guests = guests.filter(|_| !is_calm.load(Ordering::SeqCst));
                    sink.whole(stay.iter().cloned().chain(guests).collect())
                        .map_err(|refused| refused.to_string())?;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            let mut config = settings(&[]);
            config.breaker = Breaker {
                consecutive_failures: 1,
                open_for: 60 * SECOND,
                max_open_for: 60 * SECOND,
                ..config.breaker
            };
            let discovered = Discovered::start(&config, source);
            let snapshot = &discovered.snapshot;
            eventually("the first set", || discovered.ports().len() == 2).await;
            while status(&snapshot.upstreams)[0]
                .endpoints
                .iter()
                .all(|one| one.breaker == BreakerState::Closed)
            {
                let _ = get(snapshot).await;
            }
            let (asked_sick, connected) = (sick.connections(), well.connections());
            calm.store(false, Ordering::SeqCst);
            let until = turns.load(Ordering::SeqCst) + 150;
            let ask = async || {
                while turns.load(Ordering::SeqCst) < until {
                    assert_eq!(get(snapshot).await.unwrap(), "hello");
                }
            };
            tokio::join!(ask(), ask(), ask(), ask());
            assert!(guests.iter().all(|guest| guest.connections() > 0), "each guest was there");
            assert_eq!(sick.connections(), asked_sick, "the breaker of one that stays stays open");
            assert!(well.connections() <= connected + 4, "{} connections", well.connections());
            calm.store(true, Ordering::SeqCst);
            eventually("the guests have left", || discovered.ports().len() == 2).await;
            let left = || guests.iter().all(|guest| guest.log.open.load(Ordering::SeqCst) == 0);
            eventually("no connection to one that has left", left).await;
        });
    }
}

/// A rolling update: each endpoint is gone for good as soon as it is no longer in use. The set is swapped every
/// few milliseconds, which is more often than a source is allowed to.
#[test]
fn endpoints_are_replaced_one_after_the_other_and_no_request_notices() {
    run(async {
        let snapshot = snapshot(settings(&[]));
        let upstream = &snapshot.upstreams["origin"];
        let mut present = vec![Origin::answering(HELLO), Origin::answering(HELLO)];
        serve(&snapshot, present.iter().map(spec));
        let over = std::cell::Cell::new(false);
        let ask = async || {
            let mut answered = 0;
            while !over.get() {
                assert_eq!(get(&snapshot).await.unwrap(), "hello");
                answered += 1;
            }
            answered
        };
        let replace = async {
            for _ in 0..20 {
                present.push(Origin::answering(HELLO));
                serve(&snapshot, present.iter().map(spec));
                let new = present.last().unwrap();
                eventually("the new one is asked", || new.connections() > 0).await;
                let (old, member) = (present.remove(0), upstream.member(0));
                serve(&snapshot, present.iter().rev().map(spec));
                let is_free = || {
                    let in_use = member.endpoint().active.load(Ordering::SeqCst);
                    in_use == 0 && old.log.open.load(Ordering::SeqCst) == 0
                };
                assert_eq!(member.spec.port, old.address.port());
                eventually("nothing of the old one is in use", is_free).await;
                present.reverse();
                serve(&snapshot, present.iter().map(spec));
                present.reverse();
                serve(&snapshot, present.iter().map(spec));
            }
            over.set(true);
        };
        let (first, second, third, ()) = tokio::join!(ask(), ask(), ask(), replace);
        assert!(first + second + third > 20);
    });
}

#[test]
fn what_is_idle_closes_when_its_endpoint_leaves_and_what_is_busy_at_its_end() {
    run(async {
        let go = Arc::new(AtomicBool::new(false));
        let told_to_go = go.clone();
        let leaves = Origin::start(async move |mut visitor: Visitor| {
            while let Some(request) = visitor.request().await {
                while request.contains("x-slow") && !told_to_go.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                visitor.send(HELLO).await;
            }
        });
        let stays = Origin::answering(HELLO);
        let mut config = settings(&[leaves.address, stays.address]);
        config.endpoints[1].priority = 1;
        let snapshot = snapshot(config);
        let open = || leaves.log.open.load(Ordering::SeqCst);
        let slow = async || {
            let mut exchange = exchange(&snapshot, Method::GET, &[("x-slow", "yes")]);
            let response = forward(&mut exchange, Body::Empty).await.unwrap();
            testing::bytes(response.into_body()).await.unwrap()
        };
        let leaving = async || {
            eventually("the slow one is under way", || leaves.requests().len() == 1).await;
            get(&snapshot).await.unwrap();
            assert_eq!(open(), 2);
            serve(&snapshot, [spec(&stays)]);
            eventually("the idle one is closed", || open() == 1).await;
            assert_eq!(get(&snapshot).await.unwrap(), "hello");
            assert_eq!((leaves.requests().len(), stays.requests().len()), (2, 1));
            go.store(true, Ordering::SeqCst);
        };
        let (answer, ()) = tokio::join!(slow(), leaving());
        assert_eq!(answer, "hello", "a request that is under way ends where it is");
        eventually("the other is closed, too", || open() == 0).await;
        // When the endpoint is reported again, it is a new one.
        let before = leaves.connections();
        serve(&snapshot, [spec(&leaves)]);
        get(&snapshot).await.unwrap();
        assert_eq!(leaves.connections(), before + 1);
    });
}

/// An idle connection that is not used between two reloads nevertheless survives.
#[test]
fn a_reload_closes_connections_of_endpoints_that_go_and_no_others() {
    run(async {
        let (stays, goes) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let before = snapshot(settings(&[stays.address, goes.address]));
        for _ in 0..2 {
            get(&before).await.unwrap();
        }
        let after = super::rebuilt(settings(&[stays.address]), Some(&before));
        drop(before);
        eventually("that of the other is closed", || goes.log.open.load(Ordering::SeqCst) == 0).await;
        assert_eq!(stays.log.open.load(Ordering::SeqCst), 1);
        get(&after).await.unwrap();
        assert_eq!(stays.connections(), 1);
    });
}

/// Which of three endpoints respond to six requests, with this readiness, and with failing checks of the first if
/// `ill`.
async fn asked(readiness: [Readiness; 3], panic_below: f64, ill: bool) -> (Vec<usize>, Vec<FaultKind>) {
    let origins = [(); 3].map(|()| Origin::answering(HELLO));
    let text = "[upstreams.a]\nendpoints = [\"a:1\"]\nhealth = { tcp = {} }\n";
    let parsed = witgate_config::parse_str(text).unwrap_or_else(|failure| panic!("{:?}", failure.problems));
    let health = parsed.config.upstreams["a"].health.clone();
    let snapshot = snapshot(model::Upstream { health, panic_below, ..settings(&[]) });
    let upstream = &snapshot.upstreams["origin"];
    serve(&snapshot, origins.iter().map(spec));
    if ill {
        let plan = upstream.plan.as_ref().unwrap();
        upstream.endpoint(0).health.note(&Err("ill".into()), &plan.settings);
    }
    serve(
        &snapshot,
        origins.iter().zip(readiness).map(|(origin, readiness)| EndpointSpec { readiness, ..spec(origin) }),
    );
    let mut faults = Vec::new();
    for _ in 0..6 {
        faults.extend(get(&snapshot).await.err().map(|fault| fault.kind));
    }
    (origins.iter().map(|origin| origin.requests().len()).collect(), faults)
}

#[test]
fn an_endpoint_takes_requests_if_it_is_told_ready_and_does_not_fail_its_checks() {
    use Readiness::{NotServing, Ready, Serving};
    run(async {
        for (readiness, panic_below, ill, expected) in [
            ([Ready, Ready, Ready], 0.5, false, [2, 2, 2]),
            ([Ready, NotServing, Ready], 0.5, false, [3, 0, 3]),
            ([Ready, Serving, NotServing], 0.5, false, [6, 0, 0]),
            // No endpoint is ready, and some still serve.
            ([NotServing, Serving, Serving], 0.5, false, [0, 3, 3]),
            ([Ready, Ready, NotServing], 0.0, true, [0, 6, 0]),
            // In panic, checks are ignored, but the readiness reported by the source is not.
            ([Ready, Ready, NotServing], 1.0, true, [3, 3, 0]),
        ] {
            let found = asked(readiness, panic_below, ill).await;
            assert_eq!(found, (expected.to_vec(), vec![]), "{readiness:?} {panic_below} {ill}");
        }
        let nobody = asked([NotServing; 3], 1.0, false).await;
        assert_eq!(nobody, (vec![0; 3], vec![FaultKind::NoEndpoint; 6]));
    });
}

#[test]
fn a_source_that_fails_hangs_or_talks_nonsense_takes_no_endpoint_away() {
    run(async {
        let origin = Origin::answering(HELLO);
        let good = spec(&origin);
        let step = Arc::<AtomicU64>::default();
        let at = step.clone();
        let source =
            built(SourceThread::Keeper, Duration::from_millis(10), async move |sink: &dyn EndpointSink| {
                match at.fetch_add(1, Ordering::SeqCst) {
                    0 => {
                        let _ = sink.whole(vec![good.clone()]);
                        Err("the registry went away".to_owned())
                    }
                    1 => {
                        // Invalid reports of every kind.
                        let _ = sink.whole(vec![]);
                        let _ = sink
                            .whole(vec![EndpointSpec::at("169.254.169.254", 80), EndpointSpec::at("\0", 0)]);
                        let _ = sink.whole((0..20_000).map(|_| EndpointSpec::at("127.0.0.1", 1)).collect());
                        Err("what it says is no set".to_owned())
                    }
                    _ => std::future::pending().await,
                }
            });
        let discovered = Discovered::start(&settings(&[]), source);
        let snapshot = &discovered.snapshot;
        eventually("the first set", || discovered.ports().len() == 1).await;
        eventually("it hangs", || step.load(Ordering::SeqCst) == 3).await;
        assert_eq!(discovered.ports(), [origin.address.port()]);
        assert_eq!(get(snapshot).await.unwrap(), "hello");
        let status = status(&snapshot.upstreams).remove(0);
        let source = status.source.unwrap();
        assert_eq!((source.endpoints, source.error.as_deref()), (1, Some("what it says is no set")));
        assert!(source.age > 0);
        let events = status.events.iter().map(|event| &*event.event);
        // The change of the set in service is an event too.
        let events: Vec<_> = events.filter(|event| *event != "endpoints-changed").collect();
        assert_eq!(events, ["source-failed"], "once, however often");
    });
}

#[test]
fn a_reload_does_not_disturb_a_set_that_was_discovered() {
    run(async {
        let origin = Origin::answering(HELLO);
        let good = spec(&origin);
        let source = built(SourceThread::Keeper, SECOND, async move |sink: &dyn EndpointSink| {
            sink.whole(vec![good.clone()]).map_err(|refused| refused.to_string())
        });
        let mut config = settings(&[]);
        let discovered = Discovered::start(&config, source);
        eventually("the first set", || discovered.ports().len() == 1).await;
        get(&discovered.snapshot).await.unwrap();
        config.keep_alive = 17 * SECOND;
        // Another source, which has not reported anything yet.
        let silent =
            built(SourceThread::Keeper, SECOND, async |_: &dyn EndpointSink| std::future::pending().await);
        let after = with_source(&config, silent, Some(&discovered.snapshot.upstreams["origin"]));
        discovered.snapshots.store(after.clone());
        discovered.keeper.follow();
        assert_eq!(ports(&after), [origin.address.port()]);
        assert_eq!(get(&after).await.unwrap(), "hello");
        assert_eq!(origin.connections(), 1, "it is the same endpoint");
    });
}

#[test]
fn a_session_leads_back_while_its_endpoint_is_there() {
    run(async {
        let origins = [Origin::answering(HELLO), Origin::answering(HELLO)];
        let mut config = settings(&[origins[0].address, origins[1].address]);
        config.sticky = Some(Sticky {
            cookie: "stay".into(),
            path: "/".into(),
            ttl: None,
            same_site: SameSite::Lax,
            key: None,
        });
        let snapshot = snapshot(config);
        let ask = async |cookie: Option<&str>| {
            let headers: Vec<(&str, &str)> = cookie.iter().map(|cookie| ("cookie", *cookie)).collect();
            let mut exchange = exchange(&snapshot, Method::GET, &headers);
            let response = forward(&mut exchange, Body::Empty).await.unwrap();
            testing::bytes(response.into_body()).await.unwrap();
            let set = exchange.facts.response_headers.pop();
            set.map(|(_, value)| value.to_str().unwrap().split(';').next().unwrap().to_owned())
        };
        let cookie = ask(None).await.unwrap();
        let bound = origins.iter().position(|origin| origin.requests().len() == 1).unwrap();
        let seen = || origins[bound].requests().len();
        assert_eq!((ask(Some(&cookie)).await, seen()), (None, 2));
        // Another weight is reported: it is the same endpoint.
        serve(&snapshot, origins.iter().map(|origin| EndpointSpec { weight: 7, ..spec(origin) }));
        assert_eq!((ask(Some(&cookie)).await, seen()), (None, 3));
        serve(&snapshot, [spec(&origins[1 - bound])]);
        assert!(ask(Some(&cookie)).await.is_some(), "it is bound to the other now");
        assert_eq!(seen(), 3);
        serve(&snapshot, origins.iter().map(spec));
        assert_eq!((ask(Some(&cookie)).await, seen()), (None, 4));
    });
}

fn ten_thousand(kind: &str) -> (Arc<Snapshot>, Vec<EndpointSpec>) {
    let spec: Vec<EndpointSpec> = (0..10_000)
        .map(|index| EndpointSpec::at(&format!("10.1.{}.{}", index / 250, index % 250), 80))
        .collect();
    let mut config = settings(&[]);
    config.balancer.kind = kind.into();
    let snapshot = snapshot(config);
    serve(&snapshot, spec.clone());
    (snapshot, spec)
}

#[test]
fn what_has_not_changed_is_shared_with_the_next_set() {
    let (snapshot, mut spec) = ten_thousand("round-robin");
    let upstream = &snapshot.upstreams["origin"];
    let before = upstream.set.load_full();
    spec[7].weight = 3;
    spec.remove(9000);
    spec.push(EndpointSpec::at("10.2.0.1", 80));
    serve(&snapshot, spec);
    let after = upstream.set.load_full();
    let kept = after.members().filter(|member| before.members().any(|known| Arc::ptr_eq(known, member)));
    assert_eq!((after.entries.len(), kept.count()), (10_000, 9998));
    let same = |index: usize| after.entries[index].member.is_same_endpoint(&before.entries[index].member);
    assert!(same(7) && after.entries[7].member.weight() == 3, "another weight is no other endpoint");
    assert!(before.entries[9000].member.endpoint().has_left());
    assert!(!after.entries[9000].member.endpoint().has_left());
}

/// Of many changes within a second, the first builds a table, and the last builds one more. In the meantime no
/// removed endpoint gets a request, and a new endpoint is found if no other is left.
#[test]
fn hash_tables_are_made_once_a_second_and_picks_are_right_meanwhile() {
    for kind in ["maglev", "ring-hash"] {
        let mut config = settings(&["10.0.0.1:80".parse().unwrap()]);
        config.balancer.kind = kind.into();
        let snapshot = snapshot(config);
        let upstream = &snapshot.upstreams["origin"];
        let begun = clock::now();
        let at = |millis: u64| begun + Duration::from_millis(millis);
        let numbered = |ports: std::ops::Range<u16>| ports.map(|port| EndpointSpec::at("10.0.0.2", port));
        let picks = || {
            let affinity = |hash| crate::request::affinity::Affinity { hash: Some(hash), session: None };
            let pick = |hash: u64| upstream.pick(&affinity(hash.wrapping_mul(0x9E37_79B9_7F4A_7C15)), &[]);
            let ports = (0..200).map(|hash| pick(hash).unwrap().member.spec.port);
            ports.collect::<std::collections::BTreeSet<u16>>()
        };
        serve_at(&snapshot, numbered(1..5), at(0));
        assert!(!upstream.set.load().view.is_stale, "the first change at once");
        serve_at(&snapshot, numbered(3..7), at(10));
        assert!(upstream.set.load().view.is_stale);
        assert_eq!(upstream.tables_due(), Some(at(1000)));
        assert_eq!(picks(), [3, 4].into(), "{kind}: those of the old table that are still there");
        serve_at(&snapshot, numbered(11..13), at(20));
        assert!(
            picks().is_subset(&[11, 12].into()),
            "{kind}: those of now, where all of the old table are gone"
        );
        upstream.refresh(at(999), TableMaking::Paced);
        assert!(upstream.set.load().view.is_stale);
        upstream.refresh(at(1000), TableMaking::Paced);
        assert!(!upstream.set.load().view.is_stale && upstream.tables_due().is_none());
        assert_eq!(picks(), [11, 12].into());
    }
}
