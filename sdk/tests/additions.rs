//! Gates and decisions on a body: what the attributes declare, and how they are called in tests.

use witgate_sdk::{
    AuthenticationByBody, Body, Decision, Destination, Gate, Input, Interest, Reading, RefusalByBody,
    Request, Response, RoutingByBody, authentication_by_body, gate, refusal_by_body, routing_by_body,
    settings, test,
};

#[settings]
struct Closed {
    status: u16,
}

#[gate(headers = ["x-open"], pure = [Input::header("x-open")])]
fn admit(request: &Request, settings: &Closed) -> Option<Response> {
    request.header("x-open").is_none().then(|| Response::new(settings.status))
}

#[settings]
struct Secret {
    secret: String,
}

#[authentication_by_body(headers = ["x-name"], whole = 4096)]
fn authenticate(body: &Body, request: &Request, settings: &Secret) -> Decision {
    match body.text() {
        Some(text) if text == settings.secret => {
            Decision::accept(request.header("x-name").unwrap_or("nobody"))
        }
        Some("") => Decision::not_mine("Body"),
        _ => Decision::unauthorized("Body"),
    }
}

#[settings]
struct Longest {
    bytes: u32,
}

#[refusal_by_body]
impl RefusalByBody for Longest {
    fn reads(&self) -> Reading {
        Reading::peek(self.bytes).decoded()
    }

    fn refuse_by_body(&self, body: &Body, _request: &Request) -> Option<Response> {
        (!body.complete).then(|| Response::new(413))
    }
}

#[settings]
struct ByFirst {}

#[routing_by_body(headers = ["accept"], peek = 1, decoded)]
fn route(body: &Body, _request: &Request, _settings: &ByFirst) -> Option<Destination> {
    (body.bytes == b"{").then(|| Destination::to("json"))
}

fn plugin<P: witgate_sdk::Plugin>(settings: &str) -> P {
    test::configure(settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn a_gate_declares_its_headers_and_what_it_answers_by() {
    let gate: Closed = plugin(r#"{ "status": 503 }"#);
    assert_eq!(Gate::interest(&gate), Interest::none().request_headers(["x-open"]));
    assert_eq!(gate.admits_by(), Some(vec![Input::header("x-open")]));
    assert_eq!(gate.admit(&test::request().build()).map(|response| response.status), Some(503));
    assert_eq!(gate.admit(&test::request().header("x-open", "1").build()), None);
}

#[test]
fn a_decision_on_a_body_declares_what_it_reads() {
    let signed: Secret = plugin(r#"{ "secret": "geheim" }"#);
    assert_eq!(signed.reads(), Reading::whole(4096));
    assert_eq!(AuthenticationByBody::interest(&signed).request_headers, ["x-name"]);
    let request = test::request().header("x-name", "ann").build();
    for (body, decision) in [
        ("geheim", Decision::accept("ann")),
        ("", Decision::not_mine("Body")),
        ("other", Decision::unauthorized("Body")),
    ] {
        assert_eq!(signed.authenticate_by_body(&Body::whole(body), &request), decision);
    }
    let route: ByFirst = plugin("{}");
    assert_eq!(route.reads(), Reading::peek(1).decoded());
    assert_eq!(route.route_by_body(&Body::beginning("{"), &request), Some(Destination::to("json")));
    assert_eq!(route.route_by_body(&Body::whole(""), &request), None);
}

#[test]
fn what_is_read_may_depend_on_the_settings() {
    let longest: Longest = plugin(r#"{ "bytes": 5 }"#);
    assert_eq!(longest.reads(), Reading::peek(5).decoded());
    let request = test::request().build();
    assert_eq!(longest.refuse_by_body(&Body::whole("12345"), &request), None);
    let refusal = longest.refuse_by_body(&Body::beginning("12345"), &request);
    assert_eq!(refusal.map(|response| response.status), Some(413));
}
