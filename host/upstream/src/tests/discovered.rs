//! Upstreams with a source other than the fixed list: which of their sets are accepted, and for how long. Host names
//! of fixed lists. The maximum age of connections.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use witgate_config::model;
use witgate_exchange::contracts::discovery::{Resolved, Resolver};
use witgate_telemetry::Telemetry;

use super::origin::Origin;
use super::{HELLO, eventually, get, settings};
use crate::discovery::{
    Discovery, EndpointSink, EndpointSpec, OwnAddresses, Run, Source, SourceKind, SourceThread,
};
use crate::keeper::Keeper;
use crate::testing::Snapshot;
use crate::testing::{self, run};
use crate::{Availability, UpstreamStatus, status};

/// What a scripted source reports next: sets, or `None` for a failure.
type Script = VecDeque<Option<Vec<SocketAddr>>>;

/// The scripts of the sources, by the paths of their settings.
static SCRIPTS: Mutex<Vec<(PathBuf, Script)>> = Mutex::new(Vec::new());

const SOURCES: &[SourceKind] = &[SourceKind {
    kind: "file",
    summary: "what the test says",
    thread: SourceThread::Keeper,
    build: |source| {
        let model::DiscoverySource::File(path) = source else { panic!("the tests configure files only") };
        Ok(Box::new(Scripted(path.clone())))
    },
}];

struct Scripted(PathBuf);

impl Source for Scripted {
    fn run<'a>(&'a mut self, sink: &'a dyn EndpointSink) -> Run<'a> {
        Box::pin(async move {
            loop {
                match next(&self.0) {
                    Some(Some(set)) => {
                        let specs = set.iter().map(|at| EndpointSpec::at(&at.ip().to_string(), at.port()));
                        let _ = sink.whole(specs.collect());
                    }
                    Some(None) => sink.failed("the registry does not answer".into()),
                    None => {}
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    }
}

fn next(path: &PathBuf) -> Option<Option<Vec<SocketAddr>>> {
    let mut scripts = SCRIPTS.lock().unwrap();
    scripts.iter_mut().find(|(known, _)| known == path)?.1.pop_front()
}

/// Has the source of this name report a set, or fail.
fn report(name: &str, set: Option<&[SocketAddr]>) {
    let mut scripts = SCRIPTS.lock().unwrap();
    let path = PathBuf::from(name);
    if !scripts.iter().any(|(known, _)| *known == path) {
        scripts.push((path.clone(), VecDeque::new()));
    }
    let script = &mut scripts.iter_mut().find(|(known, _)| *known == path).unwrap().1;
    script.push_back(set.map(<[SocketAddr]>::to_vec));
}

fn discovered(name: &str) -> model::Upstream {
    let discover = model::Discover {
        source: model::DiscoverySource::File(name.into()),
        allow: Some(vec!["127.0.0.0/8".parse().unwrap()]),
        min_endpoints: 1,
        max_endpoints: 10,
        keep_stale: None,
    };
    model::Upstream { endpoints: Vec::new(), discover: Some(discover), ..settings(&[]) }
}

/// A snapshot with its keeper.
struct Running {
    snapshot: Arc<Snapshot>,
    snapshots: Arc<ArcSwap<Snapshot>>,
    discovery: Discovery,
    keeper: Keeper,
}

impl Running {
    fn start(upstream: model::Upstream, discovery: Discovery) -> Running {
        let snapshot = built(upstream, &discovery, None);
        let snapshots = Arc::new(ArcSwap::new(snapshot.clone()));
        let keeper = Keeper::start(snapshots.clone(), Telemetry::new()).unwrap();
        Running { snapshot, snapshots, discovery, keeper }
    }

    fn reload(&mut self, upstream: model::Upstream) {
        self.snapshot = built(upstream, &self.discovery, Some(&self.snapshot));
        self.snapshots.store(self.snapshot.clone());
        self.keeper.follow();
    }

    fn status(&self) -> UpstreamStatus {
        status(&self.snapshot.upstreams).remove(0)
    }

    fn ports(&self) -> Vec<u16> {
        let endpoints = self.status().endpoints;
        let ports = endpoints.iter().map(|endpoint| endpoint.address.rsplit_once(':').unwrap().1.parse());
        ports.map(Result::unwrap).collect()
    }
}

fn built(upstream: model::Upstream, discovery: &Discovery, previous: Option<&Snapshot>) -> Arc<Snapshot> {
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), upstream);
    let built = Snapshot::build_with(config, discovery, previous);
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")))
}

fn with_sources() -> Discovery {
    Discovery { sources: SOURCES, ..Discovery::default() }
}

#[test]
fn a_build_without_the_source_says_how_to_get_it() {
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), discovered("none"));
    let Err(problems) = Snapshot::build(config, None) else { panic!("refused") };
    assert!(problems[0].message.contains("no source of endpoints `file`"), "{problems:?}");
    assert!(problems[0].hint.as_ref().is_some_and(|hint| hint.contains("discovery-file")), "{problems:?}");
}

#[test]
fn a_set_is_served_and_a_reload_with_other_settings_keeps_it() {
    run(async {
        let (one, two) = (Origin::answering(HELLO), Origin::answering(HELLO));
        report("reload", Some(&[one.address]));
        let mut running = Running::start(discovered("reload"), with_sources());
        eventually("the first set", || running.ports() == [one.address.port()]).await;
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello");
        let before = running.snapshot.upstreams["origin"].endpoint(0);
        running.reload(model::Upstream { max_pending: 7, ..discovered("reload") });
        assert!(Arc::ptr_eq(&before, &running.snapshot.upstreams["origin"].endpoint(0)));
        report("reload", None);
        eventually("the failure", || running.status().source.unwrap().failing).await;
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello", "the last good set serves");
        // Another source: its set replaces the other when there is one.
        running.reload(discovered("reload, another"));
        assert_eq!(running.ports(), [one.address.port()]);
        report("reload, another", Some(&[two.address]));
        eventually("the set of the other source", || running.ports() == [two.address.port()]).await;
    });
}

#[test]
fn a_reload_that_allows_less_takes_out_what_is_no_longer_allowed() {
    run(async {
        let one = Origin::answering(HELLO);
        report("less", Some(&[one.address]));
        let mut running = Running::start(discovered("less"), with_sources());
        eventually("the first set", || running.ports().len() == 1).await;
        let mut less = discovered("less");
        less.discover.as_mut().unwrap().allow = Some(vec!["10.0.0.0/8".parse().unwrap()]);
        running.reload(less);
        assert_eq!(running.ports(), [0_u16; 0]);
        assert!(get(&running.snapshot).await.is_err());
    });
}

#[test]
fn an_address_at_which_the_gateway_begins_to_listen_is_taken_out() {
    run(async {
        let (one, two) = (Origin::answering(HELLO), Origin::answering(HELLO));
        report("own", Some(&[one.address, two.address]));
        let discovery = Discovery { own: OwnAddresses::default(), ..with_sources() };
        let running = Running::start(discovered("own"), discovery.clone());
        eventually("the first set", || running.ports().len() == 2).await;
        discovery.own.replace(vec![SocketAddr::new([0, 0, 0, 0].into(), two.address.port())]);
        eventually("one has left", || running.ports() == [one.address.port()]).await;
        let source = running.status().source.unwrap();
        assert!(source.left_out == 1 && source.refused[0].contains("listener of this gateway"), "{source:?}");
        // The same set again is no reason to believe it.
        report("own", Some(&[one.address, two.address]));
        report("own", None);
        eventually("both reports were taken", || running.status().source.unwrap().failing).await;
        assert_eq!(running.ports(), [one.address.port()]);
    });
}

#[test]
fn a_set_that_was_not_confirmed_for_too_long_serves_only_who_passes_checks() {
    run(async {
        let one = Origin::answering(HELLO);
        let stale = |name: &str, health: Option<model::Health>| {
            let mut upstream = model::Upstream { health, ..discovered(name) };
            upstream.discover.as_mut().unwrap().keep_stale = Some(Duration::from_millis(300));
            upstream
        };
        report("stale", Some(&[one.address]));
        let running = Running::start(stale("stale", None), with_sources());
        eventually("the first set", || running.ports().len() == 1).await;
        eventually("it is stale", || running.status().endpoints[0].availability == Availability::Stale).await;
        assert!(get(&running.snapshot).await.is_err() && running.status().source.unwrap().stale);
        let told =
            |running: &Running| running.status().events.iter().any(|event| event.event == "endpoints-stale");
        assert!(told(&running));
        report("stale", Some(&[one.address]));
        eventually("it is confirmed", || {
            running.status().endpoints[0].availability == Availability::Available
        })
        .await;
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello");

        let check = witgate_config::parse_str(
            "[upstreams.u]\nendpoints = [\"127.0.0.1:1\"]\nhealth = { interval = \"20ms\", jitter = 0.0, http = { path = \"/\" } }\n",
        );
        let health = check.ok().and_then(|mut loaded| loaded.config.upstreams.remove("u")?.health);
        assert!(health.is_some());
        report("stale and checked", Some(&[one.address]));
        let running = Running::start(stale("stale and checked", health), with_sources());
        eventually("it is stale", || told(&running)).await;
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello", "its checks pass");
    });
}

/// Resolves every name to the addresses that the test says, and counts.
#[derive(Default)]
struct Names {
    addresses: Mutex<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Resolver for Names {
    fn resolve(&self, _: String) -> Pin<Box<dyn Future<Output = Result<Resolved, String>> + Send>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.addresses.lock().unwrap().clone();
        Box::pin(async move {
            match addresses.is_empty() {
                true => Err("`users.test` does not exist (NXDOMAIN)".to_owned()),
                false => Ok(Resolved { addresses, valid_for: Duration::ZERO }),
            }
        })
    }
}

/// An upstream with one endpoint whose host is a name.
fn named(port: u16) -> model::Upstream {
    let mut upstream = settings(&["127.0.0.1:1".parse().unwrap()]);
    (upstream.endpoints[0].host, upstream.endpoints[0].port) = ("users.test".into(), port);
    upstream
}

#[test]
fn a_name_is_looked_up_beside_the_requests_and_its_last_addresses_stay() {
    run(async {
        let names = Arc::<Names>::default();
        *names.addresses.lock().unwrap() = vec![[127, 0, 0, 1].into()];
        let one = Origin::answering(HELLO);
        let discovery = Discovery { resolver: names.clone(), ..Discovery::default() };
        let mut running = Running::start(named(one.address.port()), discovery);
        for _ in 0..20 {
            assert_eq!(get(&running.snapshot).await.unwrap(), "hello");
        }
        assert_eq!(names.asked.load(Ordering::SeqCst), 1, "requests ask nobody");
        let endpoint = &running.status().endpoints[0];
        assert_eq!(endpoint.resolved, [IpAddr::from([127, 0, 0, 1])]);
        running.reload(model::Upstream { max_pending: 7, ..named(one.address.port()) });
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello");
        assert_eq!(names.asked.load(Ordering::SeqCst), 1, "nor do reloads");
    });
}

#[test]
fn a_name_that_cannot_be_looked_up_fails_requests_at_once_and_says_why() {
    run(async {
        let discovery = Discovery { resolver: Arc::<Names>::default(), ..Discovery::default() };
        let running = Running::start(named(1), discovery);
        let fault = get(&running.snapshot).await.unwrap_err();
        assert!(format!("{fault:?}").contains("NXDOMAIN"), "{fault:?}");
        assert!(running.status().endpoints[0].lookup_failure.is_some());
    });
}

#[test]
fn a_connection_to_an_address_that_has_left_serves_no_further_request() {
    run(async {
        let names = Arc::<Names>::default();
        let one = Origin::answering(HELLO);
        *names.addresses.lock().unwrap() = vec![[127, 0, 0, 1].into()];
        let discovery = Discovery { resolver: names.clone(), ..Discovery::default() };
        let running = Running::start(named(one.address.port()), discovery);
        assert_eq!(get(&running.snapshot).await.unwrap(), "hello");
        let endpoint = running.snapshot.upstreams["origin"].endpoint(0);
        eventually("it is idle", || running.status().endpoints[0].idle == 1).await;
        endpoint.addresses.replace(vec![[127, 9, 9, 9].into()]);
        eventually("the idle connection is closed", || running.status().endpoints[0].connections == 0).await;
    });
}

#[test]
fn a_connection_at_its_maximum_age_is_closed_and_loses_no_request() {
    run(async {
        let one = Origin::answering(HELLO);
        let age = Duration::from_millis(100);
        let upstream = model::Upstream { max_connection_age: Some(age), ..settings(&[one.address]) };
        let running = Running::start(upstream, Discovery::default());
        let begun = std::time::Instant::now();
        while begun.elapsed() < 6 * age {
            assert_eq!(get(&running.snapshot).await.unwrap(), "hello");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let connections = one.connections();
        assert!((4..=9).contains(&connections), "{connections} connections in {:?}", begun.elapsed());
        eventually("the idle one is closed too", || running.status().endpoints[0].connections == 0).await;
    });
}
