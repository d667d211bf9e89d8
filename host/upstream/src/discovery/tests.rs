//! What a sink accepts and refuses, and the resulting sets.

use std::time::Duration;

use tokio::time::Instant;

use super::sink::PendingSet;
use super::*;
use crate::observe::events::{EventKind, Events};

const SECOND: Duration = Duration::from_secs(1);

fn sink(limits: Limits) -> (Sink, Arc<Events>) {
    let events = Arc::<Events>::default();
    let sink = Sink::new(events.clone()).begin(Some("scripted"), limits, false, None);
    (sink, events)
}

fn spec(last: u8) -> EndpointSpec {
    EndpointSpec::at(&format!("10.0.0.{last}"), 80)
}

fn several(last: impl IntoIterator<Item = u8>) -> Vec<EndpointSpec> {
    last.into_iter().map(spec).collect()
}

/// The last bytes of the addresses of the last good set.
fn good(sink: &Sink) -> Vec<u8> {
    let good = sink.good().map(|(good, _)| good);
    good.iter().flat_map(|good| good.iter()).map(|spec| spec.host[7..].parse().unwrap()).collect()
}

fn error(sink: &Sink) -> String {
    sink.status().and_then(|status| status.error).unwrap_or_default()
}

#[test]
fn a_difference_goes_on_from_what_was_told() {
    let (sink, _) = sink(Limits::default());
    assert_eq!((sink.status().map(|status| status.endpoints), good(&sink)), (Some(0), vec![]));
    sink.whole(several([1, 2, 3])).unwrap();
    let changed = vec![EndpointSpec { weight: 7, ..spec(2) }, spec(4)];
    sink.difference(Difference { changed, gone: vec![spec(1).key(), spec(9).key()] }).unwrap();
    assert_eq!(good(&sink), [2, 3, 4]);
    let (set, version) = sink.good().unwrap();
    assert_eq!((set[0].weight, version), (7, 2));
    sink.whole(several([4, 3])).unwrap();
    assert_eq!(good(&sink), [3, 4]);
}

#[test]
fn what_is_told_again_is_no_change() {
    let (sink, _) = sink(Limits::default());
    sink.whole(several([1, 2])).unwrap();
    let (before, version) = sink.good().unwrap();
    sink.whole(several([2, 1])).unwrap();
    sink.difference(Difference { changed: several([2]), gone: vec![spec(7).key()] }).unwrap();
    assert_eq!(sink.good().unwrap().1, version);
    sink.difference(Difference { changed: several([3]), gone: vec![] }).unwrap();
    let (after, _) = sink.good().unwrap();
    assert!(Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
}

#[test]
fn an_endpoint_that_is_told_twice_is_one_and_the_readier_counts() {
    let (sink, _) = sink(Limits::default());
    let ending = |last| EndpointSpec { readiness: Readiness::Serving, ..spec(last) };
    sink.whole([spec(1), ending(1), ending(2), spec(2)]).unwrap();
    let (set, _) = sink.good().unwrap();
    assert_eq!(set.iter().map(|spec| spec.readiness).collect::<Vec<_>>(), [Readiness::Ready; 2]);
    // Another instance at the same address is another endpoint.
    sink.whole([
        EndpointSpec { name: Some("a".into()), ..spec(1) },
        EndpointSpec { name: Some("b".into()), ..spec(1) },
    ])
    .unwrap();
    assert_eq!(good(&sink), [1, 1]);
}

#[test]
fn what_is_malformed_or_not_allowed_is_left_out_and_said() {
    let (sink, events) = sink(Limits::default());
    let bad = [
        EndpointSpec { host: "169.254.169.254".into(), ..spec(2) },
        EndpointSpec { host: "127.0.0.1".into(), ..spec(2) },
        EndpointSpec { host: "evil.example".into(), ..spec(2) },
        EndpointSpec { host: "10.0.0.1\r\nx: y".into(), ..spec(2) },
        EndpointSpec { host: String::new(), ..spec(2) },
        EndpointSpec { port: 0, ..spec(2) },
        EndpointSpec { weight: 1_000_001, ..spec(2) },
        EndpointSpec { priority: 128, ..spec(2) },
        EndpointSpec { zone: Some(String::new()), ..spec(2) },
        EndpointSpec { name: Some("x".repeat(254)), ..spec(2) },
        EndpointSpec { name: Some("a\nb".into()), ..spec(2) },
    ];
    for bad in bad {
        sink.whole([spec(1), bad.clone()]).unwrap();
        assert_eq!(good(&sink), [1], "{bad:?}");
        let status = sink.status().unwrap();
        assert!(status.left_out == 1 && status.error.is_some(), "{bad:?}: {status:?}");
        assert!(!status.error.unwrap().contains(['\r', '\n']), "{bad:?}");
        sink.difference(Difference { changed: vec![bad.clone()], gone: vec![] }).unwrap();
        assert_eq!(good(&sink), [1], "{bad:?}");
        // The endpoint was allowed before and is malformed now: what was known about it no longer applies.
        sink.whole([spec(1), spec(2)]).unwrap();
        sink.difference(Difference {
            changed: vec![EndpointSpec { port: 80, ..bad }],
            gone: vec![spec(2).key()],
        })
        .unwrap();
    }
    sink.whole(several([1])).unwrap();
    assert_eq!(error(&sink), "");
    assert!(events.recent().is_empty(), "the source has not failed");
}

#[test]
fn a_set_that_is_too_small_or_too_large_leaves_the_last_good_one() {
    let limits = Limits { min_endpoints: 2, max_endpoints: 4, ..Limits::default() };
    let (sink, events) = sink(limits);
    let first = sink.whole(several([1]));
    assert_eq!((first, sink.good()), (Err(Refused::TooFew { serving: 1, least: 2 }), None));
    sink.whole(several([1, 2, 3])).unwrap();
    let kinds = || events.recent().iter().map(|event| event.kind).collect::<Vec<_>>();
    assert_eq!(kinds(), [EventKind::SourceFailed, EventKind::SourceRecovered]);
    for (set, refused) in [
        (several([]), Refused::TooFew { serving: 0, least: 2 }),
        (several([1, 127]), Refused::TooFew { serving: 1, least: 2 }),
        (several(1..=5), Refused::TooMany { endpoints: 5, most: 4 }),
    ] {
        let set = set.into_iter().map(|spec| match &*spec.host {
            "10.0.0.127" => EndpointSpec { readiness: Readiness::NotServing, ..spec },
            _ => spec,
        });
        assert_eq!(sink.whole(set), Err(refused.clone()));
        assert_eq!((good(&sink), error(&sink)), (vec![1, 2, 3], refused.to_string()));
    }
    // An endless set is counted but not kept.
    assert_eq!(
        sink.whole((0..1_000_000).map(|_| spec(1))),
        Err(Refused::TooMany { endpoints: 1_000_000, most: 4 })
    );
    let changed = several([3, 4, 5]);
    let refused = sink.difference(Difference { changed, gone: vec![] });
    assert_eq!(refused, Err(Refused::TooMany { endpoints: 5, most: 4 }));
    // A difference applies to the last reported set, even if that set was refused because it was too small.
    sink.whole(several([7])).unwrap_err();
    assert_eq!(good(&sink), [1, 2, 3]);
    sink.difference(Difference { changed: several([8]), gone: vec![] }).unwrap();
    assert_eq!((good(&sink), error(&sink)), (vec![7, 8], String::new()));
}

#[test]
fn an_empty_set_is_believed_where_that_is_allowed() {
    let (sink, _) = sink(Limits { min_endpoints: 0, ..Limits::default() });
    sink.whole(several([1])).unwrap();
    sink.difference(Difference { changed: vec![], gone: vec![spec(1).key()] }).unwrap();
    assert_eq!(sink.good().unwrap().0.len(), 0);
}

#[test]
fn a_source_that_fails_leaves_the_last_good_set_and_is_told_of_once() {
    let (sink, events) = sink(Limits::default());
    sink.whole(several([1, 2])).unwrap();
    (0..5).for_each(|_| sink.failed("the registry does not answer"));
    let status = sink.status().unwrap();
    assert_eq!((status.endpoints, status.error.as_deref()), (2, Some("the registry does not answer")));
    sink.confirm();
    assert_eq!(error(&sink), "");
    let events: Vec<_> = events.recent().into_iter().map(|event| (event.kind, event.why)).collect();
    let expected = [
        (EventKind::SourceFailed, "the registry does not answer".to_owned()),
        (EventKind::SourceRecovered, "the source supplies endpoints again".to_owned()),
    ];
    assert_eq!(events, expected);
}

#[test]
fn the_first_change_is_served_at_once_and_of_many_one_in_a_second() {
    let (sink, _) = sink(Limits::default());
    let begun = Instant::now();
    let (mut in_service, mut served) = (0, Vec::new());
    // A change every 10 ms for three seconds, then none.
    for millis in (0..6000).step_by(10) {
        if millis < 3000 {
            sink.whole(several([1, (millis / 10 % 100) as u8 + 2])).unwrap();
        }
        let now = begun + Duration::from_millis(millis);
        match sink.pending(in_service, now) {
            PendingSet::Set(set, version) => {
                in_service = version;
                served.push((millis, set));
            }
            PendingSet::At(due) => assert!(due > now && due <= now + SECOND),
            PendingSet::None => assert!(millis >= 3000),
        }
    }
    let times: Vec<u64> = served.iter().map(|(millis, _)| *millis).collect();
    assert_eq!(times, [0, 1000, 2000, 3000]);
    assert_eq!(served[3].1, sink.good().unwrap().0, "the last one is in service in the end");
}

#[test]
fn another_source_begins_anew_and_the_last_good_set_stays_until_it_has_told_one() {
    let (first, events) = sink(Limits::default());
    first.whole(several([1, 2])).unwrap();
    let second = first.begin(Some("scripted"), Limits::default(), false, None);
    assert_eq!(good(&second), [1, 2]);
    // The first source may have been blocked, and does not know yet that another has begun.
    first.whole(several([7])).unwrap();
    first.difference(Difference { changed: several([8]), gone: vec![] }).unwrap();
    first.failed("late");
    assert_eq!((good(&second), error(&second), events.recent().len()), (vec![1, 2], String::new(), 0));
    second.difference(Difference { changed: several([3]), gone: vec![] }).unwrap();
    assert_eq!((good(&second), second.good().unwrap().1), (vec![3], 2));
    let third = second.begin(None, Limits::default(), true, None);
    assert!(third.good().is_none(), "the fixed list is known from the start");
}

#[test]
fn the_first_set_is_awaited_until_it_is_in_service() {
    let (sink, _) = sink(Limits::default());
    assert!(sink.is_awaited(0), "nothing is known yet");
    sink.whole(several([1])).unwrap();
    let (_, version) = sink.good().unwrap();
    assert!(sink.is_awaited(version - 1), "it is known, but no request can use it");
    assert!(!sink.is_awaited(version));

    let (failing, _) = self::sink(Limits::default());
    failing.failed("the registry does not answer".to_owned());
    assert!(!failing.is_awaited(0), "a source that fails does not hold up the start");
    failing.whole(several([1])).unwrap();
    let (_, version) = failing.good().unwrap();
    assert!(failing.is_awaited(version - 1) && !failing.is_awaited(version));
}
