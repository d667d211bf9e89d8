//! Gates: they come first, answer or let go on, and are remembered.

use http::{Method, StatusCode};
use witgate_exchange::contracts::*;

use super::fake::{Fake, local};
use super::*;

/// A gate that answers requests with the header `x-closed`.
fn closing() -> Fake {
    Fake::new("gate").admit(|head| {
        Ok(head
            .headers
            .contains_key("x-closed")
            .then(|| local(503, vec![fake::header("x-a", "1")], "closed")))
    })
}

const CLOSED: [(&str, &str); 1] = [("x-closed", "1")];

fn by_closed() -> [Input; 1] {
    [Input::Header("x-closed".parse().unwrap())]
}

#[test]
fn a_gate_answers_before_authentication_and_rate_limiting() {
    let later = Fake::new("later")
        .authenticate(|_| panic!("no later phase sees the request"))
        .request(|_| panic!("no later phase sees the request"));
    let fixture = Fixture::new([later, closing()]);
    let mut exchange = fixture.get("/", &CLOSED);
    let response = through(&mut exchange, Response::new(Body::Empty));
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(values(response.headers(), "x-a"), "1");
    assert!(exchange.facts.local_response);
    assert_eq!(&read(response.into_body()).unwrap().0[..], b"closed");
    let calls = exchange.facts.record.plugins.take();
    assert_eq!(calls.iter().map(|call| call.phase).collect::<Vec<_>>(), ["gate"]);
}

#[test]
fn the_first_gate_that_answers_ends_the_request_and_all_others_let_it_go_on() {
    let open = Fake::new("open").admit(|_| Ok(None));
    let fixture = Fixture::new([open, closing()]);
    forwarded(&mut fixture.get("/", &[]), Body::Empty);
    assert_eq!(fixture.plugins.iter().map(|gate| gate.calls()).collect::<Vec<_>>(), [1, 1]);
    through(&mut fixture.get("/", &CLOSED), Response::new(Body::Empty));
    assert_eq!(fixture.plugins.iter().map(|gate| gate.calls()).collect::<Vec<_>>(), [2, 2]);
}

#[test]
fn a_pure_gate_is_remembered_with_its_responses() {
    let fixture = Fixture::new([closing().pure(Function::Admit, &by_closed())]);
    let gate = &fixture.plugins[0];
    for _ in 0..5 {
        forwarded(&mut fixture.get("/", &[]), Body::Empty);
        let response = through(&mut fixture.get("/", &CLOSED), Response::new(Body::Empty));
        assert_eq!((response.status().as_u16(), values(response.headers(), "x-a")), (503, "1".to_owned()));
        assert_eq!(&read(response.into_body()).unwrap().0[..], b"closed");
    }
    assert_eq!((gate.calls(), gate.again()), (2, 8));
}

#[test]
fn a_gate_that_depends_on_credentials_or_breaks_its_promise_is_asked_each_time() {
    let by_cookie = [Input::Header("cookie".parse().unwrap())];
    let mut unfaithful = closing().pure(Function::Admit, &by_closed());
    unfaithful.keeps_promises = false;
    for gate in [closing().pure(Function::Admit, &by_cookie), unfaithful, closing()] {
        let fixture = Fixture::new([gate]);
        for _ in 0..3 {
            forwarded(&mut fixture.get("/", &[("cookie", "a=b")]), Body::Empty);
        }
        assert_eq!((fixture.plugins[0].calls(), fixture.plugins[0].again()), (3, 0));
    }
}

#[test]
fn a_failing_gate_denies_or_is_skipped_and_its_answers_are_validated() {
    let broken = || Fake::new("gate").admit(|_| Err(CallFailure::Trap));
    let mut exchange = Fixture::new([broken()]).get("/", &[]);
    assert_eq!(refused(&mut exchange, Body::Empty).kind, witgate_exchange::fault::FaultKind::PluginFailed);
    forwarded(&mut Fixture::new([broken().skip()]).get("/", &[]), Body::Empty);
    for answer in [
        local(101, Vec::new(), ""),
        local(200, vec![fake::header("transfer-encoding", "chunked")], ""),
        local(200, vec![fake::header("x-a", "a\r\nb: c")], ""),
    ] {
        let fixture = Fixture::new([Fake::new("gate").admit(move |_| Ok(Some(answer.clone())))]);
        let mut exchange = fixture.exchange(Method::GET, "/", &[]);
        assert_eq!(
            refused(&mut exchange, Body::Empty).kind,
            witgate_exchange::fault::FaultKind::PluginFailed
        );
        assert_eq!(fixture.plugins[0].rejected().len(), 1);
    }
}
