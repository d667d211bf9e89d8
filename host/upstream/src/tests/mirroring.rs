//! Mirrored requests.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use witgate_config::model::Mirror;
use witgate_exchange::body::Body;

use super::origin::{Origin, Visitor};
use super::{Forwarding, HELLO, eventually, exchange, forward, settings};
use crate::status;
use crate::testing::Snapshot;
use crate::testing::{self, run};

pub(crate) fn mirrored(origin: &Origin, shadow: &Origin) -> Arc<Snapshot> {
    let mut config = testing::config();
    config.upstreams.insert("origin".into(), settings(&[origin.address]));
    config.upstreams.insert("shadow".into(), settings(&[shadow.address]));
    let built = Snapshot::build(config, None);
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")))
}

/// A request of a route that mirrors every request, at most three at the same time, with bodies of at most eight
/// bytes.
pub(crate) fn copied(snapshot: &Arc<Snapshot>, method: Method) -> Forwarding {
    let mirror = Mirror {
        upstream: "shadow".into(),
        share: 1.0,
        timeout: Duration::from_secs(3),
        max_concurrent: 3,
        body_bytes: 8,
    };
    let mut request = exchange(snapshot, method, &[]);
    request.settings.mirror = Some(mirror);
    request
}

fn outcome(snapshot: &Snapshot, outcome: &str) -> u64 {
    let counts = snapshot.upstreams["shadow"].tries();
    counts.copies().find(|(known, _)| *known == outcome).map_or(0, |(_, count)| count)
}

#[test]
fn a_copy_is_marked_and_its_answer_thrown_away() {
    run(async {
        let (origin, shadow) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let snapshot = mirrored(&origin, &shadow);
        for body in [Body::Empty, Body::Full("data".into())] {
            let answer = forward(&mut copied(&snapshot, Method::POST), body).await.unwrap();
            assert_eq!(testing::bytes(answer.into_body()).await.unwrap(), "hello");
        }
        // The origin cannot read chunks. By the time of the copy the length is known.
        let chunks = testing::chunks(vec![Ok(b"some"), Ok(b"data")]);
        let _ = forward(&mut copied(&snapshot, Method::POST), chunks).await;
        eventually("all copies are answered", || outcome(&snapshot, "answered") == 3).await;
        let copies = shadow.requests();
        assert!(copies.iter().all(|copy| copy.contains("\r\nx-shadow: 1\r\n")), "{copies:?}");
        assert!(copies.iter().any(|copy| copy.ends_with("\r\n\r\nsomedata")), "{copies:?}");
        assert!(origin.requests().iter().all(|request| !request.contains("x-shadow")));
        assert_eq!(status(&snapshot.upstreams)[1].tries.mirrored, 3);
    });
}

#[test]
fn a_shadow_that_hangs_delays_nobody_and_has_only_so_many() {
    run(async {
        let origin = Origin::answering(HELLO);
        let hung = Origin::start(async |mut visitor: Visitor| {
            visitor.request().await;
            visitor.closed().await;
        });
        let snapshot = mirrored(&origin, &hung);
        for _ in 0..10 {
            let answer = forward(&mut copied(&snapshot, Method::GET), Body::Empty).await.unwrap();
            assert_eq!(testing::bytes(answer.into_body()).await.unwrap(), "hello");
        }
        assert_eq!(outcome(&snapshot, "failed"), 0, "nobody waited until a copy was given up");
        assert_eq!(outcome(&snapshot, "too-many"), 7);
        eventually("three copies", || hung.requests().len() == 3).await;
        eventually("they are given up", || outcome(&snapshot, "failed") == 3).await;
    });
}

#[test]
fn a_body_that_is_too_long_or_breaks_off_is_not_copied() {
    run(async {
        let (origin, shadow) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let snapshot = mirrored(&origin, &shadow);
        let long = Body::Full("more than eight bytes".into());
        assert!(forward(&mut copied(&snapshot, Method::POST), long).await.is_ok());
        let streamed = testing::chunks(vec![Ok(b"12345678"), Ok(b"9")]);
        let _ = forward(&mut copied(&snapshot, Method::POST), streamed).await;
        assert_eq!(outcome(&snapshot, "body-too-long"), 2);
        let broken = testing::chunks(vec![Ok(b"1234"), Err("reset")]);
        assert!(forward(&mut copied(&snapshot, Method::POST), broken).await.is_err());
        eventually("it is let go", || outcome(&snapshot, "body-cut") == 1).await;
        assert!(shadow.requests().is_empty());
        assert_eq!(status(&snapshot.upstreams)[1].tries.mirrored_dropped, 3);
    });
}

#[test]
fn a_body_for_which_there_is_no_memory_is_not_copied_and_is_forwarded() {
    run(async {
        let (origin, shadow) = (Origin::answering(HELLO), Origin::answering(HELLO));
        let mut config = testing::config();
        config.gateway.body_memory = 7;
        for (name, address) in [("origin", origin.address), ("shadow", shadow.address)] {
            config.upstreams.insert(name.into(), settings(&[address]));
        }
        let built = Snapshot::build(config, None);
        let snapshot = Arc::new(built.unwrap_or_else(|problems| panic!("{problems:?}")));
        for (pieces, answered) in [(vec![Ok(&b"1234567"[..])], 1), (vec![Ok(&b"1234"[..]), Ok(b"5678")], 0)] {
            let _ = forward(&mut copied(&snapshot, Method::POST), testing::chunks(pieces)).await;
            eventually("a small body is copied", || outcome(&snapshot, "answered") >= answered).await;
        }
        assert_eq!((outcome(&snapshot, "no-memory"), shadow.requests().len()), (1, 1));
        assert_eq!(status(&snapshot.upstreams)[1].tries.mirrored_dropped, 1);
        eventually("all is given back", || snapshot.upstreams.body_memory().used() == 0).await;
    });
}
