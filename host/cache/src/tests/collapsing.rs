//! Requests that wait for the same request of another client.

use futures_util::future::join_all;
use witgate_exchange::fault::FaultKind;
use witgate_exchange::testing::{self, run};

use super::*;

const SOON: Duration = Duration::from_millis(30);
const FRESH: [(&str, &str); 1] = [("cache-control", "max-age=60")];

#[test]
fn a_thousand_misses_at_once_are_one_request() {
    run(async {
        let scene = Scene::slow(&settings(), SOON, always(&FRESH));
        let all: Vec<_> = (0..1000).map(|_| get("/")).collect();
        let got = join_all(all.iter().map(|asked| scene.ask(asked))).await;
        assert_eq!(scene.asked(), 1);
        assert!(got.iter().all(|got| got.body == "answer 0"));
        let collapsed = got.iter().filter(|got| got.told().contains("collapsed")).count();
        assert_eq!(collapsed, 999);
    });
}

#[test]
fn misses_on_several_cores_are_one_request() {
    let scene = Scene::slow(&settings(), SOON, always(&FRESH));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                run(async {
                    let all: Vec<_> = (0..50).map(|_| get("/")).collect();
                    let got = join_all(all.iter().map(|asked| scene.ask(asked))).await;
                    assert!(got.iter().all(|got| got.body == "answer 0"));
                });
            });
        }
    });
    assert_eq!(scene.asked(), 1);
}

#[test]
fn what_cannot_be_stored_makes_nobody_wait_for_another() {
    run(async {
        let scene = Scene::slow(&settings(), SOON, always(&[("cache-control", "private")]));
        let all: Vec<_> = (0..50).map(|_| get("/")).collect();
        let begun = std::time::Instant::now();
        let got = join_all(all.iter().map(|asked| scene.ask(asked))).await;
        assert_eq!(scene.asked(), 50);
        let bodies: std::collections::BTreeSet<_> = got.iter().map(|got| &got.body).collect();
        assert_eq!(bodies.len(), 50, "each has its own");
        assert!(begun.elapsed() < SOON * 25, "{:?}", begun.elapsed());
        let next = join_all(all.iter().map(|asked| scene.ask(asked))).await;
        assert!(next.len() == 50 && scene.asked() == 100, "now nobody waits even once");
    });
}

#[test]
fn another_one_is_sent_if_the_first_vanishes() {
    run(async {
        let scene = Scene::slow(&settings(), SOON, always(&FRESH));
        let asked = get("/");
        let mut first = Box::pin(scene.ask(&asked));
        let rest = join_all((0..10).map(|_| scene.ask(&asked)));
        tokio::select! {
            biased;
            _ = &mut first => panic!("it takes a while"),
            _ = tokio::time::sleep(SOON / 3) => {}
        }
        let mut rest = Box::pin(rest);
        tokio::select! {
            biased;
            _ = &mut rest => panic!("they wait"),
            _ = tokio::time::sleep(SOON / 3) => {}
        }
        drop(first);
        let got = rest.await;
        assert!(got.iter().all(|got| got.body == "answer 0"), "{got:?}");
        assert_eq!(scene.asked(), 2);
    });
}

#[test]
fn the_failure_of_the_upstream_is_that_of_all_who_wait() {
    run(async {
        let scene = Scene::slow(&settings(), SOON, fails(FaultKind::UpstreamUnreachable));
        let asked = get("/");
        let got = join_all((0..100).map(|_| scene.send(&asked))).await;
        assert_eq!(scene.asked(), 1);
        assert!(
            got.iter()
                .all(|got| got.as_ref().is_err_and(|fault| fault.kind == FaultKind::UpstreamUnreachable))
        );
    });
}

#[test]
fn the_deadline_of_the_first_is_not_that_of_the_others() {
    run(async {
        let timeout: Script = fails(FaultKind::RequestTimeout);
        let scene = Scene::slow(&settings(), SOON, in_order(vec![timeout, always(&FRESH)]));
        let asked = get("/");
        let (first, second) = tokio::join!(scene.send(&asked), scene.ask(&asked));
        assert_eq!(first.expect_err("its own deadline").kind, FaultKind::RequestTimeout);
        assert_eq!((second.body.as_str(), scene.asked()), ("answer 0", 2));
    });
}

#[test]
fn each_keeps_its_own_deadline() {
    run(async {
        let scene = Scene::slow(&settings(), SOON * 10, always(&FRESH));
        let patient = get("/");
        let hasty = TestRequest { timeout: Some(SOON), ..get("/") };
        let begun = std::time::Instant::now();
        let (first, second) = tokio::join!(scene.ask(&patient), async {
            let fault = scene.send(&hasty).await.expect_err("it gives up");
            (fault.kind, begun.elapsed())
        });
        assert_eq!((first.body.as_str(), second.0), ("answer 0", FaultKind::RequestTimeout));
        assert!(second.1 < SOON * 8, "{second:?}");
    });
}

#[test]
fn nobody_waits_longer_than_the_settings_say() {
    run(async {
        let mut settings = settings();
        settings.wait = SOON;
        let scene = Scene::slow(&settings, SOON * 4, always(&FRESH));
        let asked = get("/");
        let (first, second) = tokio::join!(scene.ask(&asked), scene.ask(&asked));
        assert_eq!((first.is_hit(), second.is_hit(), scene.asked()), (false, false, 2));
    });
}

/// An origin whose body comes in pieces, `pause` apart.
fn pieces(pieces: &'static [&'static str], pause: Duration, known: bool, breaks: bool) -> Script {
    Box::new(move |_| {
        let stream = futures_util::stream::unfold(0, move |next| async move {
            if next > 0 {
                tokio::time::sleep(pause).await;
            }
            let frame = match pieces.get(next) {
                Some(piece) => Ok(http_body::Frame::data(bytes::Bytes::from_static(piece.as_bytes()))),
                None if breaks && next == pieces.len() => Err("reset".into()),
                None => return None,
            };
            Some((frame, next + 1))
        });
        let body = http_body_util::StreamBody::new(stream);
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let body = match known {
            true => Body::wrap(Sized { body: Body::wrap(body), left: length + usize::from(breaks) }),
            false => Body::wrap(body),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert("cache-control", "max-age=60".parse().unwrap());
        Ok(response)
    })
}

/// A body whose length is known.
struct Sized {
    body: Body,
    left: usize,
}

impl http_body::Body for Sized {
    type Data = bytes::Bytes;
    type Error = witgate_exchange::body::BodyError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let polled = std::pin::Pin::new(&mut self.body).poll_frame(context);
        if let std::task::Poll::Ready(Some(Ok(frame))) = &polled {
            self.left -= frame.data_ref().map_or(0, bytes::Bytes::len);
        }
        polled
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.left as u64)
    }
}

#[test]
fn those_who_wait_read_along_while_the_response_is_stored() {
    run(async {
        let scene = Scene::new(&settings(), pieces(&["one ", "two ", "three"], SOON, true, false));
        let asked = get("/");
        let mut first = asked.facts();
        let response = scene.destination.serve(&mut first, Body::Empty).await.unwrap();
        // The first client does not read, and keeps nobody waiting.
        let got = join_all((0..20).map(|_| scene.ask(&asked))).await;
        assert!(got.iter().all(|got| got.body == "one two three"), "{got:?}");
        assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "one two three");
        assert!(scene.ask(&asked).await.is_hit() && scene.asked() == 1);
    });
}

#[test]
fn a_response_is_stored_although_its_client_leaves() {
    run(async {
        let scene = Scene::new(&settings(), pieces(&["one ", "two"], SOON / 3, true, false));
        let asked = get("/");
        let mut first = asked.facts();
        drop(scene.destination.serve(&mut first, Body::Empty).await.unwrap());
        assert_eq!(scene.ask(&asked).await.body, "one two");
        assert_eq!(scene.asked(), 1);
    });
}

#[test]
fn what_breaks_off_is_discarded() {
    for known in [true, false] {
        run(async {
            let broken = pieces(&["one ", "two"], Duration::from_millis(1), known, true);
            let scene = Scene::new(&settings(), in_order(vec![broken, always(&FRESH)]));
            let asked = get("/");
            assert!(scene.ask(&asked).await.body.starts_with("broken"));
            let next = scene.ask(&asked).await;
            assert_eq!((next.is_hit(), next.body.as_str()), (false, "answer 0"), "known length: {known}");
            assert!(scene.ask(&asked).await.is_hit());
            let freed = async {
                while scene.cache.usage().filling_bytes > 0 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(SOON * 100, freed).await.expect("the memory is free");
        });
    }
}

#[test]
fn a_body_of_unknown_length_is_stored_when_it_has_ended() {
    run(async {
        let scene = Scene::new(&settings(), pieces(&["one ", "two"], Duration::from_millis(1), false, false));
        let asked = get("/");
        let got = join_all((0..20).map(|_| scene.ask(&asked))).await;
        assert!(got.iter().all(|got| got.body == "one two") && scene.asked() == 1, "{got:?}");
        assert!(scene.ask(&asked).await.is_hit());
    });
}

#[test]
fn a_slow_client_keeps_nobody_waiting() {
    for known in [true, false] {
        run(async {
            let scene =
                Scene::new(&settings(), pieces(&["one ", "two"], Duration::from_millis(1), known, false));
            let asked = get("/");
            let mut slow = asked.facts();
            // Its body is not read.
            let response = scene.destination.serve(&mut slow, Body::Empty).await.unwrap();
            let begun = std::time::Instant::now();
            assert_eq!(scene.ask(&asked).await.body, "one two");
            assert!(begun.elapsed() < settings().wait / 2 && scene.asked() == 1, "known length: {known}");
            assert_eq!(testing::bytes(response.into_body()).await.unwrap(), "one two");
        });
    }
}

#[test]
fn trailers_reach_the_client_and_keep_the_response_from_being_stored() {
    run(async {
        let script: Script = Box::new(|_| {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "1".parse().unwrap());
            let frames = [
                http_body::Frame::data(bytes::Bytes::from_static(b"data")),
                http_body::Frame::trailers(trailers),
            ];
            let stream = futures_util::stream::iter(frames.map(Ok));
            let mut response = Response::new(Body::wrap(http_body_util::StreamBody::new(stream)));
            response.headers_mut().insert("cache-control", "max-age=60".parse().unwrap());
            Ok(response)
        });
        let scene = Scene::new(&settings(), script);
        for _ in 0..2 {
            let mut facts = get("/").facts();
            let response = scene.destination.serve(&mut facts, Body::Empty).await.unwrap();
            let collected = http_body_util::BodyExt::collect(response.into_body()).await.unwrap();
            assert_eq!(collected.trailers().unwrap()["x-sum"], "1");
            assert_eq!(collected.to_bytes(), "data");
        }
        assert_eq!(scene.asked(), 2);
    });
}

#[test]
fn large_bodies_pass_without_being_stored() {
    run(async {
        let large: Script = Box::new(|_| Ok(testing::response(&FRESH, vec![b'x'; 200 << 10])));
        let scene = Scene::new(&settings(), large);
        assert_eq!(scene.ask(&get("/")).await.body.len(), 200 << 10);
        assert!(!scene.ask(&get("/")).await.is_hit());
        let chunk: &'static str = Box::leak("x".repeat(50 << 10).into_boxed_str());
        let streamed: &'static [&'static str] = Box::leak(vec![chunk; 4].into_boxed_slice());
        let scene = Scene::new(&settings(), pieces(streamed, Duration::ZERO, false, false));
        assert_eq!(scene.ask(&get("/")).await.body.len(), 200 << 10);
        assert!(!scene.ask(&get("/")).await.is_hit());
        tokio::task::yield_now().await;
        assert_eq!(scene.cache.usage().filling_bytes, 0);
    });
}
