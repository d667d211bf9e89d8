//! Decisions on the body: what they read, in which order they come, and what goes on to the upstream.

use std::sync::Mutex;
use std::time::Duration;

use http::{HeaderValue, Method};
use http_body::Body as _;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use crate::pipeline::BodyReader;

use super::authentication::acceptance;
use super::bodies::codings;
use super::fake::{Fake, header, local};
use super::*;

const fn raw(extent: Extent) -> Reading {
    Reading { form: BodyForm::Raw, extent }
}

const fn decoded(extent: Extent) -> Reading {
    Reading { form: BodyForm::Decoded, extent }
}

const WHOLE: Reading = raw(Extent::Whole(1000));

/// A plugin that refuses by the body, and what it has read.
fn noting(reading: Reading) -> (Fake, Arc<Mutex<Vec<BodyContent>>>) {
    let read = Arc::<Mutex<Vec<BodyContent>>>::default();
    let log = read.clone();
    let plugin = Fake::new("check").refuse_by_body(reading, move |content| {
        log.lock().unwrap().push(content);
        Ok(None)
    });
    (plugin, read)
}

/// What a plugin with this reading reads of a body, and the body that goes on.
fn seen(reading: Reading, headers: &[(&str, &str)], body: Body) -> Result<(Bytes, bool, Body), Fault> {
    let (plugin, read) = noting(reading);
    let mut exchange = Fixture::new([plugin]).exchange(Method::POST, "/", headers);
    match testing::run(descend(&mut exchange, body))? {
        Descent::Passed(body) => {
            let BodyContent { bytes, complete } = read.lock().unwrap().pop().expect("it was called");
            Ok((bytes, complete, body))
        }
        Descent::Answered(_) => panic!("nobody refuses"),
    }
}

fn kind(outcome: Result<(Bytes, bool, Body), Fault>) -> FaultKind {
    match outcome {
        Ok(_) => panic!("it is not refused"),
        Err(fault) => fault.kind,
    }
}

fn text(content: &'static str) -> Bytes {
    Bytes::from_static(content.as_bytes())
}

fn pieces() -> Body {
    testing::chunks(vec![Ok(b"one "), Ok(b"two "), Ok(b"three")])
}

#[test]
fn a_whole_body_is_read_up_to_its_limit_and_a_longer_one_is_refused() {
    for limit in [13, 14, 1000] {
        let (bytes, complete, body) = seen(raw(Extent::Whole(limit)), &[], pieces()).unwrap();
        assert_eq!((&bytes[..], complete), (&b"one two three"[..], true));
        assert_eq!(&read(body).unwrap().0[..], b"one two three");
    }
    for limit in [0, 1, 12] {
        assert_eq!(kind(seen(raw(Extent::Whole(limit)), &[], pieces())), FaultKind::BodyTooLarge);
        let known = Body::from(Bytes::from_static(b"one two three"));
        assert_eq!(kind(seen(raw(Extent::Whole(limit)), &[], known)), FaultKind::BodyTooLarge);
    }
}

#[test]
fn a_peek_reads_the_beginning_says_whether_that_is_all_and_the_whole_body_goes_on() {
    for (first, expected, all) in [
        (0, "", false),
        (3, "one", false),
        (4, "one ", false),
        (12, "one two thre", false),
        (50, "one two three", true),
    ] {
        let (bytes, complete, body) = seen(raw(Extent::Peek(first)), &[], pieces()).unwrap();
        assert_eq!((&bytes[..], complete), (expected.as_bytes(), all), "{first}");
        assert_eq!(&read(body).unwrap().0[..], b"one two three");
    }
    let length = testing::chunks(vec![Ok(b"abc")]);
    assert_eq!(seen(raw(Extent::Peek(3)), &[], length).unwrap().0, "abc");
}

#[test]
fn a_peek_does_not_wait_for_more_than_it_reads() {
    let endless = futures_util::StreamExt::chain(
        futures_util::stream::iter([Ok::<_, witgate_exchange::body::BodyError>(http_body::Frame::data(
            Bytes::from_static(b"beginning"),
        ))]),
        futures_util::stream::pending(),
    );
    let body = Body::wrap(http_body_util::StreamBody::new(endless));
    let (bytes, complete, _) = seen(raw(Extent::Peek(5)), &[], body).unwrap();
    assert_eq!((&bytes[..], complete), (&b"begin"[..], false));
}

#[test]
fn no_body_is_a_complete_body_of_length_0_whatever_the_method_and_the_coding() {
    for reading in [WHOLE, raw(Extent::Peek(5)), decoded(Extent::Whole(5)), decoded(Extent::Peek(5))] {
        for body in [Body::Empty, testing::chunks(vec![Ok(b"")])] {
            let headers = [("content-encoding", "gzip")];
            let (bytes, complete, body) = seen(reading, &headers, body).unwrap();
            assert_eq!((&bytes[..], complete), (&b""[..], true), "{reading:?}");
            assert_eq!(&read(body).unwrap().0[..], b"");
        }
    }
}

#[test]
fn raw_bytes_are_as_received_and_decoded_ones_are_the_content_and_the_received_ones_go_on() {
    for (coding, body) in codings(b"hello world") {
        let headers = [("content-encoding", coding)];
        let received = || Body::from(body.clone());
        let (bytes, complete, on) = seen(WHOLE, &headers, received()).unwrap();
        assert_eq!((&bytes, complete), (&body, true), "{coding}");
        assert_eq!(read(on).unwrap().0, body);
        for (reading, expected) in [
            (decoded(Extent::Whole(1000)), ("hello world", true)),
            (decoded(Extent::Peek(5)), ("hello", false)),
            (decoded(Extent::Peek(1000)), ("hello world", true)),
        ] {
            let (bytes, complete, on) = seen(reading, &headers, received()).unwrap();
            assert_eq!((&bytes[..], complete), (expected.0.as_bytes(), expected.1), "{coding} {reading:?}");
            assert_eq!(read(on).unwrap().0, body, "{coding}");
        }
    }
}

/// Text that cannot be compressed well, so that its coded form is long.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 7_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

#[test]
fn a_peek_at_decoded_content_reads_no_more_than_it_takes_of_a_long_body() {
    let content = noise(100_000);
    for (coding, body) in codings(&content).into_iter().skip(1) {
        let parts: Vec<_> = body.chunks(1000).map(Bytes::copy_from_slice).collect();
        let frames = parts
            .into_iter()
            .map(|part| Ok::<_, witgate_exchange::body::BodyError>(http_body::Frame::data(part)));
        let stream = Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let headers = [("content-encoding", coding)];
        let (bytes, complete, on) = seen(decoded(Extent::Peek(600)), &headers, stream).unwrap();
        assert!(content.starts_with(&bytes) && !complete, "{coding}: {}", bytes.len());
        assert_eq!(bytes.len(), 600, "{coding}");
        assert_eq!(read(on).unwrap().0, body);
    }
}

#[test]
fn padding_past_a_cap_is_refused_however_it_is_coded() {
    // A few bytes that decode to more than the limit, and members that decode to nothing.
    let zeros = vec![0; 20_000];
    for (coding, body) in codings(&zeros).into_iter().skip(1) {
        let headers = [("content-encoding", coding)];
        let outcome = seen(decoded(Extent::Whole(10_000)), &headers, Body::from(body));
        assert_eq!(kind(outcome), FaultKind::BodyTooLarge, "{coding}");
    }
    let (_, empty) = codings(b"").into_iter().nth(1).unwrap();
    let padded = Body::from(Bytes::from(empty.repeat(1000)));
    let outcome = seen(decoded(Extent::Whole(10_000)), &[("content-encoding", "gzip")], padded);
    assert_eq!(kind(outcome), FaultKind::BodyTooLarge);
}

#[test]
fn what_cannot_be_decoded_is_the_clients_mistake_even_where_failures_are_skipped() {
    let (_, gzip) = codings(b"hello world").into_iter().nth(1).unwrap();
    let cut = gzip.slice(..gzip.len() - 6);
    for (headers, body, expected) in [
        (vec![("content-encoding", "compress")], gzip.clone(), FaultKind::UnsupportedEncoding),
        (vec![("content-encoding", "gzip, br")], gzip.clone(), FaultKind::UnsupportedEncoding),
        (
            vec![("content-encoding", "gzip"), ("content-encoding", "gzip")],
            gzip.clone(),
            FaultKind::UnsupportedEncoding,
        ),
        (vec![("content-encoding", "gzip")], "plain".into(), FaultKind::BadRequest),
        (vec![("content-encoding", "gzip")], cut, FaultKind::BadRequest),
        (vec![("content-encoding", "br")], gzip, FaultKind::BadRequest),
    ] {
        let (plugin, read) = noting(decoded(Extent::Whole(1000)));
        let mut exchange = Fixture::new([plugin.skip()]).exchange(Method::POST, "/", &headers);
        let fault = refused(&mut exchange, body);
        assert_eq!(fault.kind, expected, "{headers:?}");
        let response = exchange.facts.fault(fault);
        let known = values(response.headers(), "accept-encoding");
        assert_eq!(known.contains("zstd"), expected == FaultKind::UnsupportedEncoding);
        assert!(read.lock().unwrap().is_empty(), "it was not called");
    }
    assert!(seen(WHOLE, &[("content-encoding", "compress")], pieces()).is_ok(), "raw bytes are in no coding");
}

#[test]
fn the_phases_come_in_their_order_and_the_body_is_read_once_for_all() {
    let journal = Arc::<Mutex<Vec<String>>>::default();
    let noting = |name: &'static str| {
        let journal = journal.clone();
        move |content: &BodyContent| {
            journal.lock().unwrap().push(format!("{name} {} {}", content.bytes.len(), content.complete));
        }
    };
    let head = |name: &'static str| {
        let journal = journal.clone();
        move || journal.lock().unwrap().push(name.to_owned())
    };
    let (auth, check, route) = (noting("authentication"), noting("refusal"), noting("routing"));
    let (gate, draw, by_head, down) = (head("gate"), head("draw"), head("route"), head("transformation"));
    let (plain, reading) = (raw(Extent::Peek(4)), WHOLE);
    let mut fixture = Fixture::new([
        Fake::new("down").request(move |_| {
            down();
            Ok(RequestOutcome::Proceed(RequestChanges::default()))
        }),
        Fake::new("by-body")
            .authenticate_by_body(plain, move |content| {
                auth(&content);
                Ok(Decision::Accepted(acceptance("ann")))
            })
            .refuse_by_body(reading, move |content| {
                check(&content);
                Ok(None)
            })
            .route_by_body(raw(Extent::Peek(5)), move |content| {
                route(&content);
                Ok(Some(Destination { path: Some("/new".into()), ..Destination::default() }))
            }),
        Fake::new("route").route(move |_| {
            by_head();
            Ok(Some(Destination { path: Some("/old".into()), ..Destination::default() }))
        }),
        Fake::new("draw").draw(move |_| {
            draw();
            Ok(Vec::new())
        }),
        Fake::new("head").authenticate(|_| Ok(Decision::NotMine(vec!["Head".into()]))),
        Fake::new("gate").admit(move |_| {
            gate();
            Ok(None)
        }),
    ]);
    fixture.config.gateway.body_memory = 13;
    let mut exchange = fixture.exchange(Method::POST, "/", &[]);
    let body = forwarded(&mut exchange, pieces());
    let expected = [
        "gate",
        "authentication 4 false",
        "draw",
        "refusal 13 true",
        "route",
        "routing 5 false",
        "transformation",
    ];
    assert_eq!(*journal.lock().unwrap(), expected);
    assert_eq!(exchange.facts.head.upstream_target.as_ref().unwrap().as_str(), "/new");
    assert_eq!(exchange.facts.head.identity.as_ref().unwrap().subject, "ann");
    let memory = exchange.snapshot.upstreams.body_memory().clone();
    assert_eq!(memory.used(), 13);
    assert_eq!(&read(body).unwrap().0[..], b"one two three");
    assert_eq!(memory.used(), 0);
}

#[test]
fn a_caller_who_is_known_by_the_head_is_not_looked_for_in_the_body_except_in_mode_all() {
    let by_body = |subject: &'static str| {
        Fake::new("by-body").authenticate_by_body(WHOLE, move |content| {
            Ok(match &content.bytes[..] {
                b"signed" => Decision::Accepted(acceptance(subject)),
                b"forged" => Decision::Refused(local(403, vec![header("x-why", "forged")], "")),
                _ => Decision::NotMine(vec!["Signature".into()]),
            })
        })
    };
    let by_head = || Fake::new("head").authenticate(|_| Ok(Decision::Accepted(acceptance("head"))));
    let mut fixture = Fixture::new([by_body("body"), by_head()]);
    let mut exchange = fixture.exchange(Method::POST, "/", &[]);
    forwarded(&mut exchange, text("forged"));
    assert_eq!(fixture.plugins[0].calls(), 0);
    fixture.route.auth = Auth::All;
    let mut exchange = fixture.exchange(Method::POST, "/", &[]);
    forwarded(&mut exchange, text("signed"));
    assert_eq!(exchange.facts.head.identity.as_ref().unwrap().subject, "head", "the first gives the subject");
    let fault = refused(&mut fixture.exchange(Method::POST, "/", &[]), text("unsigned"));
    assert_eq!((fault.kind, fault.headers.len()), (FaultKind::Unauthenticated, 1));

    // The only one that authenticates, in the default mode.
    let fixture = Fixture::new([by_body("body")]);
    let fault = refused(&mut fixture.exchange(Method::POST, "/", &[]), text(""));
    assert_eq!(fault.kind, FaultKind::Unauthenticated);
    assert_eq!(fault.headers[0].1, "Signature");
    let mut exchange = fixture.exchange(Method::POST, "/", &[]);
    let Ok(Descent::Answered(response)) = testing::run(descend(&mut exchange, text("forged"))) else {
        panic!()
    };
    assert_eq!((response.status().as_u16(), values(response.headers(), "x-why")), (403, "forged".to_owned()));
    // A skipped failure counts as "not mine".
    let broken = Fake::new("broken").authenticate_by_body(WHOLE, |_| Err(CallFailure::Trap)).skip();
    let fault = refused(&mut Fixture::new([broken]).exchange(Method::POST, "/", &[]), text("signed"));
    assert_eq!(fault.kind, FaultKind::Unauthenticated);
}

#[test]
fn a_decision_is_made_for_each_body_and_never_remembered() {
    let fixture = Fixture::new([Fake::new("check").refuse_by_body(WHOLE, |content| {
        Ok(content.bytes.starts_with(b"bad").then(|| local(422, Vec::new(), "no")))
    })]);
    for (body, passes) in [("good", true), ("bad", false), ("good", true), ("bad, too", false)] {
        let mut exchange = fixture.exchange(Method::POST, "/", &[]);
        let outcome = testing::run(descend(&mut exchange, text(body))).unwrap();
        assert_eq!(matches!(outcome, Descent::Passed(_)), passes, "{body}");
    }
    assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (4, 0));
}

#[test]
fn answers_of_decisions_are_validated_and_routing_needs_its_grant() {
    let routing = |granted: Vec<&'static str>| {
        let mut plugin = Fake::new("route").route_by_body(WHOLE, |_| {
            Ok(Some(Destination { upstream: Some("orders".into()), ..Destination::default() }))
        });
        plugin.granted = granted;
        plugin
    };
    let mut exchange = Fixture::new([routing(vec!["orders"])]).exchange(Method::POST, "/", &[]);
    forwarded(&mut exchange, text("x"));
    assert_eq!(exchange.facts.upstream.as_deref(), Some("orders"));
    for plugin in [
        routing(Vec::new()),
        Fake::new("check").refuse_by_body(WHOLE, |_| Ok(Some(local(100, Vec::new(), "")))),
        Fake::new("auth").authenticate_by_body(WHOLE, |_| Ok(Decision::Accepted(acceptance("")))),
    ] {
        let fixture = Fixture::new([plugin]);
        assert_eq!(
            refused(&mut fixture.exchange(Method::POST, "/", &[]), text("x")).kind,
            FaultKind::PluginFailed
        );
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
    }
}

#[test]
fn memory_for_bodies_is_limited_for_received_and_for_decoded_bytes() {
    let content = noise(500);
    for (coding, fits) in [("identity", 500), ("gzip", 1023)] {
        let (_, body) = codings(&content).into_iter().find(|(known, _)| *known == coding).unwrap();
        for (limit, passes) in [(fits + 100, true), (499, false)] {
            let (plugin, _) = noting(decoded(Extent::Whole(1000)));
            let mut fixture = Fixture::new([plugin]);
            fixture.config.gateway.body_memory = limit;
            let mut exchange = fixture.exchange(Method::POST, "/", &[("content-encoding", coding)]);
            let memory = Arc::clone(exchange.snapshot.upstreams.body_memory());
            match testing::run(descend(&mut exchange, body.clone())) {
                Ok(Descent::Passed(_)) => assert!(passes, "{coding} {limit}"),
                Ok(Descent::Answered(_)) => panic!("nobody refuses"),
                Err(fault) => {
                    assert!(!passes && fault.kind == FaultKind::Overloaded, "{coding} {limit}: {fault}");
                    let response = exchange.facts.fault(fault);
                    assert_eq!(values(response.headers(), "retry-after"), "1");
                }
            }
            assert_eq!(memory.used(), 0, "{coding} {limit}");
        }
    }
}

#[test]
fn a_slow_body_ends_with_the_time_of_the_request_and_a_broken_one_with_its_own_fault() {
    let (plugin, read) = noting(WHOLE);
    let mut fixture = Fixture::new([plugin]);
    fixture.route.timeout = Some(Duration::from_millis(20));
    let stream = futures_util::stream::pending::<Result<_, witgate_exchange::body::BodyError>>();
    let never: Body = Body::wrap(http_body_util::StreamBody::new(futures_util::StreamExt::map(
        stream,
        |piece: Result<Bytes, _>| piece.map(http_body::Frame::data),
    )));
    assert!(!never.is_end_stream());
    assert_eq!(refused(&mut fixture.exchange(Method::POST, "/", &[]), never).kind, FaultKind::BodyTimeout);
    fixture.route.timeout = None;
    let broken = testing::chunks(vec![Ok(b"a"), Err("reset")]);
    assert_eq!(refused(&mut fixture.exchange(Method::POST, "/", &[]), broken).kind, FaultKind::ClientGone);
    assert!(read.lock().unwrap().is_empty());
}

#[test]
fn a_request_to_switch_protocols_is_refused_where_the_body_is_read_as_a_whole() {
    for (reading, passes) in [(WHOLE, false), (raw(Extent::Peek(4)), true)] {
        let mut exchange = Fixture::new([noting(reading).0]).get("/", &[]);
        exchange.facts.upgrade = Some(HeaderValue::from_static("websocket"));
        match testing::run(descend(&mut exchange, Body::Empty)) {
            Ok(_) => assert!(passes),
            Err(fault) => assert!(!passes && fault.kind == FaultKind::UpgradeRefused, "{fault}"),
        }
    }
}

/// A body whose client sends these pieces and then nothing, without ending it.
fn stalled(pieces: &[&'static [u8]]) -> Body {
    let pieces: Vec<_> = pieces
        .iter()
        .map(|piece| {
            Ok::<_, witgate_exchange::body::BodyError>(http_body::Frame::data(Bytes::from_static(piece)))
        })
        .collect();
    let stream =
        futures_util::StreamExt::chain(futures_util::stream::iter(pieces), futures_util::stream::pending());
    Body::wrap(http_body_util::StreamBody::new(stream))
}

#[test]
fn a_peek_decides_on_what_is_there_when_the_client_waits_for_the_response() {
    let cases: [(&[&[u8]], usize, &str); 3] =
        [(&[], 10, ""), (&[b"one"], 10, "one"), (&[b"one", b" two"], 7, "one two")];
    for (pieces, first, expected) in cases {
        let begun = std::time::Instant::now();
        let (bytes, complete, _) = seen(raw(Extent::Peek(first)), &[], stalled(pieces)).unwrap();
        assert_eq!((&bytes[..], complete), (expected.as_bytes(), false), "{first}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    for (coding, body) in codings(&noise(3000)).into_iter().skip(1) {
        let beginning: &'static [u8] = body[..2000].to_vec().leak();
        let headers = [("content-encoding", coding)];
        let (bytes, complete, _) =
            seen(decoded(Extent::Peek(100_000)), &headers, stalled(&[beginning])).unwrap();
        assert!(noise(3000).starts_with(&bytes) && !complete, "{coding}: {}", bytes.len());
    }
}

#[test]
fn a_peek_of_exactly_the_length_of_the_body_is_complete() {
    for (length, expected) in [(12, false), (13, true), (14, true)] {
        let (bytes, complete, _) = seen(raw(Extent::Peek(length)), &[], pieces()).unwrap();
        assert_eq!((bytes.len(), complete), (length.min(13), expected), "{length}");
        for (coding, body) in codings(b"one two three").into_iter().skip(1) {
            let parts: Vec<_> = body.chunks(5).map(Bytes::copy_from_slice).collect();
            let frames = parts
                .into_iter()
                .map(|part| Ok::<_, witgate_exchange::body::BodyError>(http_body::Frame::data(part)));
            let stream = Body::wrap(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
            let headers = [("content-encoding", coding)];
            let (bytes, complete, _) = seen(decoded(Extent::Peek(length)), &headers, stream).unwrap();
            assert_eq!((bytes.len(), complete), (length.min(13), expected), "{coding} {length}");
        }
    }
}

#[test]
fn all_members_of_a_coded_body_are_seen() {
    // RFC 1952 section 2.2 and RFC 8878 section 3.1 define a sequence of members and frames as one content. RFC 7932 does not, and a
    // decoder that goes on sees no less than one that stops.
    for ((coding, one), (_, two)) in codings(b"{\"a\":1").into_iter().zip(codings(b",\"b\":2}")).skip(1) {
        let headers = [("content-encoding", coding)];
        let both = Bytes::from([one.clone(), two.clone()].concat());
        for extent in [Extent::Whole(1000), Extent::Peek(1000)] {
            let (bytes, complete, on) = seen(decoded(extent), &headers, Body::from(both.clone())).unwrap();
            assert_eq!((&bytes[..], complete), (&b"{\"a\":1,\"b\":2}"[..], true), "{coding}");
            assert_eq!(read(on).unwrap().0, both);
        }
        // Whatever follows is part of the content or a mistake, and never left out.
        let garbage = Bytes::from([one.clone(), Bytes::from_static(b"tail")].concat());
        let outcome = seen(decoded(Extent::Whole(1000)), &headers, Body::from(garbage));
        assert_eq!(kind(outcome), FaultKind::BadRequest, "{coding}");
        let outcome = seen(decoded(Extent::Whole(10)), &headers, Body::from(both));
        assert_eq!(kind(outcome), FaultKind::BodyTooLarge, "{coding}");
    }
}

#[test]
fn two_bindings_that_read_alike_have_each_their_own_limit() {
    let content = noise(5000);
    for (coding, body) in codings(&content).into_iter().skip(1) {
        let reading = decoded(Extent::Peek(4000));
        let (mut small, little) = noting(reading);
        let (mut large, much) = noting(reading);
        (small.limits.body, large.limits.body) = (1000, 100_000);
        let mut exchange =
            Fixture::new([small, large]).exchange(Method::POST, "/", &[("content-encoding", coding)]);
        testing::run(descend(&mut exchange, Body::from(body))).map(drop).expect("nobody refuses");
        let little = little.lock().unwrap().pop().expect("it was called");
        let much = much.lock().unwrap().pop().expect("it was called");
        assert!(
            little.bytes.len() < 2000 && much.bytes.len() == 4000,
            "{coding}: {} {}",
            little.bytes.len(),
            much.bytes.len()
        );
    }
}

#[test]
fn what_a_decision_reads_arrives_within_the_time_for_bodies_however_steadily_it_comes() {
    // A byte every 20 ms never reaches the time between two pieces.
    let drips = futures_util::stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let drip = http_body::Frame::data(Bytes::from_static(b"x"));
        Some((Ok::<_, witgate_exchange::body::BodyError>(drip), ()))
    });
    let body = Body::wrap(http_body_util::StreamBody::new(Box::pin(drips)));
    let reading = Reading { form: BodyForm::Raw, extent: Extent::Whole(100_000) };
    let read = testing::run(async {
        let memory = witgate_exchange::replay::memory::BodyMemory::new(1 << 20, None);
        let facts = testing::facts(testing::head(Method::POST, "/", &[]));
        let mut reader = BodyReader::new(body);
        let patience = Duration::from_millis(200);
        let read = reader.read(&facts, &memory, (reading, 100_000), patience);
        tokio::time::timeout(Duration::from_secs(10), read).await.expect("in time")
    });
    assert_eq!(read.expect_err("a fault").kind, FaultKind::BodyTimeout);
}
