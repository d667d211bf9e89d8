//! Bodies that bindings read piece by piece.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use witgate_exchange::body::BodyError;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::bodies::codings;
use super::fake::{Fake, RecordedCall};
use super::*;

use BodyAccess::{None as Unseen, Streamed};

/// Numbers the pieces, with the number in its context, and replaces each by `n:piece`.
fn numbering() -> Fake {
    Fake::new("number").body(Streamed, Streamed, |given: RecordedCall| {
        let number = given.context.first().copied().unwrap_or(b'0');
        let output = match given.end {
            true => Bytes::from(vec![number, b'.']),
            false => [&[number, b':'][..], &given.content[..]].concat().into(),
        };
        Ok(BodyResult {
            output: Some(output),
            context: Some(Bytes::from(vec![number + 1])),
            ..BodyResult::default()
        })
    })
}

/// Fails at the piece `!`. Changes the other pieces if told to.
fn failing(changes: bool) -> Fake {
    Fake::new("fail").body(Streamed, Streamed, move |given: RecordedCall| match &given.content[..] {
        b"!" => Err(CallFailure::Trap),
        other => {
            let output = changes.then(|| Bytes::from(other.to_ascii_uppercase()));
            Ok(BodyResult { output, ..BodyResult::default() })
        }
    })
}

/// The same binding without interest in the bodies of requests, not even in the empty body of a GET.
fn of_responses(mut fake: Fake) -> Fake {
    fake.interest.request_body = Unseen;
    fake
}

fn up(fixture: &Fixture, body: Body) -> Response<Body> {
    through(&mut fixture.get("/", &[]), Response::new(body))
}

#[test]
fn pieces_pass_one_by_one_and_state_lives_in_the_context() {
    let fixture = Fixture::new([numbering()]);
    let mut exchange = fixture.exchange(Method::POST, "/", &[("content-length", "4")]);
    let body = forwarded(&mut exchange, testing::chunks(vec![Ok(b"ab"), Ok(b""), Ok(b"cd")]));
    assert!(!exchange.facts.head.headers.contains_key("content-length"));
    assert_eq!(&read(body).unwrap().0[..], b"0:ab1:cd2.");
    // The context goes on from the calls of the request to those of the response.
    let response = testing::run(ascended(&mut exchange, testing::response(&[], "x")));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"3:x4.");
    let calls = exchange.facts.record.plugins.take();
    let phases: Vec<_> = calls.iter().map(|call| call.phase).collect();
    assert_eq!(phases, ["request", "request-body", "response-body"], "pieces are noted as one");
}

#[test]
fn several_bindings_chain() {
    let fixture = Fixture::new([of_responses(numbering()), of_responses(numbering())]);
    let response = up(&fixture, testing::chunks(vec![Ok(b"a")]));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"0:0:a1:1.2.");
}

#[test]
fn coded_bodies_are_decoded_as_they_pass() {
    for (coding, body) in codings(b"hello") {
        let fixture = Fixture::new([of_responses(numbering())]);
        let response =
            through(&mut fixture.get("/", &[]), testing::response(&[("content-encoding", coding)], body));
        assert!(response.headers().is_empty());
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"0:hello1.");
    }
}

#[test]
fn a_piece_is_asked_for_only_when_the_one_before_has_gone_on() {
    let asked = Rc::new(Cell::new(0));
    let counter = Rc::clone(&asked);
    let endless = futures_util::stream::repeat_with(move || {
        counter.set(counter.get() + 1);
        Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"x")))
    });
    let fixture = Fixture::new([numbering()]);
    let mut body = up(&fixture, Body::wrap(StreamBody::new(endless))).into_body();
    assert_eq!(asked.get(), 0);
    for expected in 1..=3 {
        testing::run(body.frame()).unwrap().unwrap();
        assert_eq!(asked.get(), expected);
    }
}

#[test]
fn a_failure_cuts_the_body_off() {
    for fake in [failing(false), failing(true), failing(true).skip()] {
        let fixture = Fixture::new([fake]);
        let response = up(&fixture, testing::chunks(vec![Ok(b"a"), Ok(b"!"), Ok(b"b")]));
        assert_eq!(response.status(), 200);
        let error = read(response.into_body()).unwrap_err();
        let fault = error.downcast::<Fault>().unwrap();
        assert_eq!(fault.kind, FaultKind::PluginFailed);
    }
}

#[test]
fn skip_passes_the_rest_as_long_as_nothing_was_changed() {
    let fixture = Fixture::new([of_responses(failing(false).skip())]);
    let response = up(&fixture, testing::chunks(vec![Ok(b"a"), Ok(b"!"), Ok(b"b"), Ok(b"!")]));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"a!b!");
    assert_eq!(fixture.plugins[0].calls(), 3, "the head and two pieces");
}

#[test]
fn a_body_that_breaks_off_never_ends_cleanly() {
    let fixture = Fixture::new([numbering()]);
    let response = up(&fixture, testing::chunks(vec![Ok(b"a"), Err("reset")]));
    assert_eq!(read(response.into_body()).unwrap_err().to_string(), "reset");
    let [_, (_, gzip), ..] = codings(&[b'a'; 100]);
    let broken = testing::response(&[("content-encoding", "gzip")], gzip.slice(..gzip.len() - 4));
    assert!(read(through(&mut fixture.get("/", &[]), broken).into_body()).is_err());
}

#[test]
fn a_decompression_bomb_is_cut_off() {
    let fixture = Fixture::new([Fake::new("watch").body(Unseen, Streamed, |_| Ok(BodyResult::default()))]);
    for (coding, body) in codings(&vec![0; 8 << 20]).into_iter().skip(1) {
        let length = body.len();
        let mut body =
            through(&mut fixture.get("/", &[]), testing::response(&[("content-encoding", coding)], body))
                .into_body();
        let mut passed = 0;
        let error = testing::run(async {
            loop {
                match body.frame().await.expect("it must not end cleanly") {
                    Ok(frame) => passed += frame.data_ref().map_or(0, Bytes::len),
                    Err(error) => return error,
                }
            }
        });
        assert!(error.to_string().contains("proportion"), "{coding}: {error}");
        assert!(passed <= (256 << 10) + 200 * length + (64 << 10), "{coding}: {passed} from {length}");
    }
}
