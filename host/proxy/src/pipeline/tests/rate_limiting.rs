//! Which buckets are charged, and what the client is told about its limits.

use std::time::Duration;

use witgate_exchange::contracts::counter::{BucketStates, Draw, Settlement, Unavailable};
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::fake::Fake;
use super::*;

fn bucket(policy: &str, key: &str, limit: u32) -> Bucket {
    Bucket {
        policy: policy.to_owned(),
        key: key.to_owned(),
        cost: 1,
        limit,
        window: Duration::from_secs(3600),
        burst: None,
    }
}

fn limiting(binding: &str, buckets: Vec<Bucket>) -> Fake {
    Fake::new(binding).draw(move |_| Ok(buckets.clone()))
}

fn admitted(fixture: &Fixture) -> bool {
    match testing::run(descend(&mut fixture.get("/", &[]), Body::Empty)) {
        Ok(_) => true,
        Err(fault) if fault.kind == FaultKind::RateLimited => false,
        Err(fault) => panic!("{fault}"),
    }
}

#[test]
fn the_limit_and_not_one_more() {
    let fixture = Fixture::new([limiting("limit", vec![bucket("hourly", "ann", 3)])]);
    assert_eq!([(); 5].map(|()| admitted(&fixture)), [true, true, true, false, false]);
}

#[test]
fn several_buckets_are_charged_all_or_none_also_across_bindings() {
    let mut fixture = Fixture::new([
        limiting("wide", vec![bucket("wide", "ann", 4)]),
        limiting("narrow", vec![bucket("narrow", "ann", 1)]),
    ]);
    assert_eq!([(); 3].map(|()| admitted(&fixture)), [true, false, false]);
    // The refused requests drew nothing from the wide bucket.
    fixture.plugins.truncate(1);
    assert_eq!([(); 4].map(|()| admitted(&fixture)), [true, true, true, false]);
}

#[test]
fn bindings_do_not_share_buckets_and_survive_a_new_version() {
    let mut fixture = Fixture::new([limiting("one", vec![bucket("hourly", "ann", 1)])]);
    assert!(admitted(&fixture));
    fixture.plugins = vec![Arc::new(limiting("two", vec![bucket("hourly", "ann", 1)]))];
    assert!(admitted(&fixture));
    fixture.plugins = vec![Arc::new(limiting("one", vec![bucket("hourly", "ann", 1)]))];
    assert!(!admitted(&fixture));
}

#[test]
fn a_cost_of_nothing_only_asks() {
    let ask = || Bucket { cost: 0, ..bucket("hourly", "ann", 1) };
    let fixture = Fixture::new([limiting("limit", vec![ask()])]);
    assert_eq!([(); 3].map(|()| admitted(&fixture)), [true; 3]);
    let response = through(&mut fixture.get("/", &[]), Response::default());
    assert_eq!(values(response.headers(), "ratelimit"), "\"hourly\";r=1;t=0");
}

#[test]
fn the_client_is_told_on_allowed_and_refused_answers() {
    let second = Bucket { window: Duration::from_millis(1500), burst: Some(5), ..bucket("burst", "ann", 3) };
    let fixture = Fixture::new([limiting("limit", vec![bucket("hourly", "ann", 2), second])]);
    let policy = "\"hourly\";q=2;w=3600, \"burst\";q=3";
    for (status, limit, retry) in [
        (200, "\"hourly\";r=1;t=1800, \"burst\";r=4;t=1", ""),
        (200, "\"hourly\";r=0;t=3600, \"burst\";r=3;t=1", ""),
        (429, "\"hourly\";r=0;t=3600, \"burst\";r=3;t=1", "1800"),
    ] {
        let response = through(&mut fixture.get("/", &[]), Response::default());
        assert_eq!(response.status(), status);
        assert_eq!(values(response.headers(), "ratelimit-policy"), policy);
        assert_eq!(values(response.headers(), "ratelimit"), limit);
        assert_eq!(values(response.headers(), "retry-after"), retry);
    }
}

#[test]
fn a_refusal_names_its_policies_to_the_client_and_their_bindings_to_the_log() {
    let fixture = Fixture::new([
        limiting("per-user", vec![bucket("hourly", "ann", 1), bucket("daily", "ann", 9)]),
        limiting("per-plan", vec![bucket("plan", "free", 1)]),
    ]);
    assert!(admitted(&fixture));
    let mut exchange = fixture.get("/", &[]);
    let response = through(&mut exchange, Response::default());
    assert_eq!(response.status(), 429);
    let document: serde_json::Value =
        serde_json::from_slice(&read(response.into_body()).unwrap().0).expect("a problem document");
    assert_eq!(document["detail"], "the limit of the policy `hourly`, `plan` is used up");
    assert!(!document.to_string().contains("per-"), "bindings are for the log");
    let (kind, cause) = exchange.facts.record.fault.clone().expect("a fault");
    assert_eq!(kind, FaultKind::RateLimited);
    let expected = "policy `hourly` of binding `per-user`, policy `plan` of binding `per-plan`";
    assert_eq!(cause.as_deref(), Some(expected));
}

#[test]
fn answers_that_break_a_rule_are_failed_calls() {
    let broken = [
        bucket("", "ann", 1),
        bucket("two words", "ann", 1),
        bucket(&"p".repeat(65), "ann", 1),
        bucket("hourly", &"k".repeat(257), 1),
        bucket("hourly", "ann", 0),
        Bucket { window: Duration::ZERO, ..bucket("hourly", "ann", 1) },
        Bucket { window: Duration::from_millis(u64::MAX), ..bucket("hourly", "ann", 1) },
    ];
    for bucket in broken {
        let fixture = Fixture::new([limiting("limit", vec![bucket.clone()])]);
        assert_eq!(
            refused(&mut fixture.get("/", &[]), Body::Empty).kind,
            FaultKind::PluginFailed,
            "{bucket:?}"
        );
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
    }
    let fixture = Fixture::new([limiting("limit", vec![bucket("hourly", "ann", 1); 33])]);
    assert_eq!(refused(&mut fixture.get("/", &[]), Body::Empty).kind, FaultKind::PluginFailed);
}

/// A shared counter that cannot be reached.
struct Gone;

impl Counter for Gone {
    fn charge<'a>(&'a self, _: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
        MaybeReady::waiting(std::future::ready(Err(Unavailable)))
    }

    fn settle(&self, _: Vec<Settlement>) {}
}

#[test]
fn where_nothing_can_be_counted_the_bindings_have_failed() {
    let limit = || limiting("limit", vec![bucket("hourly", "ann", 1)]);
    let mut fixture = Fixture::new([limit()]);
    fixture.counter = Arc::new(Gone);
    assert_eq!(refused(&mut fixture.get("/", &[]), Body::Empty).kind, FaultKind::PluginFailed);
    let mut fixture = Fixture::new([limit().skip()]);
    fixture.counter = Arc::new(Gone);
    assert!(admitted(&fixture));
}
