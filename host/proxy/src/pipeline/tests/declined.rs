//! Bodies that a binding declines although it declares them, and exchanges that end within the body of their request.

use bytes::Bytes;
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::fake::Fake;
use super::*;

use BodyAccess::{Buffered, None as Unseen, Streamed};

/// A binding that shouts, except where it declines.
fn shouting(access: BodyAccess, on_request: bool, on_response: bool) -> Fake {
    Fake::new("shout")
        .request(move |_| {
            Ok(RequestOutcome::Proceed(RequestChanges { declines_body: on_request, ..Default::default() }))
        })
        .response(move |_| {
            Ok(ResponseOutcome::Proceed(ResponseChanges { declines_body: on_response, ..Default::default() }))
        })
        .body(Unseen, access, |given| {
            let output = Some(Bytes::from(given.content.to_ascii_uppercase()));
            Ok(BodyResult { output, ..BodyResult::default() })
        })
}

const DESCRIBED: [(&str, &str); 5] = [
    ("content-length", "11"),
    ("etag", "\"one\""),
    ("accept-ranges", "bytes"),
    ("content-encoding", "unknown"),
    ("content-digest", "x"),
];

#[test]
fn a_body_that_is_declined_passes_with_everything_that_describes_it() {
    for access in [Buffered, Streamed] {
        for (on_request, on_response) in [(true, false), (false, true), (true, true)] {
            let fixture = Fixture::new([shouting(access, on_request, on_response)]);
            let response = through(&mut fixture.get("/", &[]), testing::response(&DESCRIBED, "hello world"));
            assert_eq!(response.status(), 200);
            for (name, value) in DESCRIBED {
                assert_eq!(values(response.headers(), name), value, "{name}");
            }
            assert_eq!(&read(response.into_body()).unwrap().0[..], b"hello world");
        }
        let fixture = Fixture::new([shouting(access, false, false)]);
        let response =
            through(&mut fixture.get("/", &[]), testing::response(&[("etag", "\"one\"")], "hello"));
        assert_eq!(values(response.headers(), "etag"), "W/\"one\"");
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"HELLO");
    }
}

#[test]
fn a_part_is_no_failure_where_the_body_is_declined_and_ranges_are_asked_for_only_if_it_is_in_time() {
    for (on_request, range) in [(true, "bytes=0-1"), (false, "")] {
        let fixture = Fixture::new([shouting(Streamed, on_request, true)]);
        let mut exchange = fixture.get("/", &[("range", "bytes=0-1"), ("accept-encoding", "zz")]);
        let mut part = testing::response(&[("content-range", "bytes 0-1/11")], "he");
        *part.status_mut() = http::StatusCode::PARTIAL_CONTENT;
        let response = through(&mut exchange, part);
        assert_eq!(response.status(), 206);
        assert_eq!(values(&exchange.facts.head.headers, "range"), range);
        let coding = if on_request { "zz" } else { "identity" };
        assert_eq!(values(&exchange.facts.head.headers, "accept-encoding"), coding);
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"he");
    }
}

#[test]
fn one_binding_declines_for_itself_only_and_a_remembered_result_declines_as_well() {
    let other = shouting(Streamed, false, false);
    let fixture = Fixture::new([other, shouting(Streamed, true, true)]);
    let response = through(&mut fixture.get("/", &[]), testing::response(&[("etag", "\"one\"")], "hello"));
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"HELLO");
    let fixture = Fixture::new([shouting(Streamed, false, true)
        .pure(Function::OnResponse, &[])
        .pure(Function::OnRequest, &[])]);
    for _ in 0..4 {
        let response = through(&mut fixture.get("/", &[]), testing::response(&DESCRIBED, "hello world"));
        assert_eq!(values(response.headers(), "etag"), "\"one\"");
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"hello world");
    }
    assert!(fixture.plugins[0].again() > 0, "results were remembered");
}

/// A binding that ends the exchange at the word `stop`.
fn stopping(access: BodyAccess, status: u16) -> Fake {
    Fake::new("stop").body(access, Unseen, move |given| {
        let stops = given.content.windows(4).any(|bytes| bytes == b"stop");
        let response = stops.then(|| LocalResponse {
            status,
            headers: vec![Header { name: "x-ended".into(), value: Bytes::from_static(b"yes") }],
            body: Bytes::from_static(b"no more"),
        });
        Ok(BodyResult { response, ..BodyResult::default() })
    })
}

#[test]
fn a_binding_ends_the_exchange_within_the_body_of_the_request() {
    for access in [Buffered, Streamed] {
        let fixture = Fixture::new([stopping(access, 422)]);
        let mut exchange = fixture.exchange(Method::POST, "/", &[]);
        let chunks = testing::chunks(vec![Ok(b"go on, "), Ok(b"now stop"), Ok(b"never seen")]);
        let fault = match access {
            Buffered => refused(&mut exchange, chunks),
            _ => *read(forwarded(&mut exchange, chunks)).unwrap_err().downcast::<Fault>().unwrap(),
        };
        let response = exchange.facts.fault(fault);
        assert_eq!((response.status().as_u16(), values(response.headers(), "x-ended")), (422, "yes".into()));
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"no more");
        assert!(exchange.facts.local_response && exchange.facts.record.fault.is_none());
        let step = exchange.facts.record.plugins.take().pop().expect("a call");
        assert_eq!((step.decision, step.failure), ("responded", None));
    }
}

#[test]
fn a_response_that_cannot_be_sent_is_a_failed_call() {
    for access in [Buffered, Streamed] {
        let fixture = Fixture::new([stopping(access, 99)]);
        let mut exchange = fixture.exchange(Method::POST, "/", &[]);
        let fault = match access {
            Buffered => refused(&mut exchange, Bytes::from("stop")),
            _ => {
                *read(forwarded(&mut exchange, Bytes::from("stop"))).unwrap_err().downcast::<Fault>().unwrap()
            }
        };
        assert_eq!(fault.kind, FaultKind::PluginFailed);
        assert!(fault.instead.is_none());
    }
}
