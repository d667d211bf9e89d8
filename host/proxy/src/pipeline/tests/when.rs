//! Bindings with `when` and `unless`: which of them are called, and what being left out means.

use std::net::IpAddr;
use std::time::Duration;

use witgate_exchange::contracts::counter::{BucketStates, Draw, Unavailable};
use witgate_exchange::contracts::*;
use witgate_exchange::fault::FaultKind;

use super::fake::Fake;
use super::*;

/// Reads a body of at most 1000 bytes, as received.
const WHOLE: Reading = Reading { form: BodyForm::Raw, extent: Extent::Whole(1000) };

/// Adds conditions, written as in the configuration, to a binding of the fixture.
fn condition(fixture: &mut Fixture, binding: &str, written: &str) {
    let when = compile(binding, written).unwrap_or_else(|problems| panic!("{problems:?}"));
    fixture.conditions.insert(binding.to_owned(), Arc::new(when));
}

fn compile(binding: &str, written: &str) -> Result<When, witgate_config::Problems> {
    let text = format!("[plugins.{binding}]\n[bindings.{binding}]\n{written}\n");
    let loaded = witgate_config::parse_str(&(text + "[[routes]]\nrespond = { status = 200 }\n"));
    let config = loaded.unwrap_or_else(|failure| panic!("{}", failure.render(false))).config;
    When::compile(binding, &config.bindings[binding]).map(|when| when.expect("it has conditions"))
}

fn accepts(binding: &str, claims: &[(&str, &str)]) -> Fake {
    let claims: Vec<(String, String)> =
        claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Fake::new(binding).authenticate(move |_| {
        Ok(Decision::Accepted(Acceptance {
            subject: "ann".to_owned(),
            claims: claims.clone(),
            response_headers: Vec::new(),
            cacheable_for: Duration::ZERO,
            inputs: Vec::new(),
        }))
    })
}

fn marks(binding: &'static str) -> Fake {
    Fake::new(binding).request(move |_| {
        Ok(RequestOutcome::Proceed(RequestChanges {
            headers: vec![HeaderChange::Append(Header { name: "x-mark".to_owned(), value: binding.into() })],
            ..RequestChanges::default()
        }))
    })
}

fn marked(routed: &mut Routed) -> String {
    drop(forwarded(routed, Body::Empty));
    values(&routed.facts.head.headers, "x-mark")
}

#[test]
fn each_condition_decides_whether_the_call_is_made() {
    let cases = [
        ("when = { path = \"/api/*\" }", "/api/x", "/web"),
        ("when = { host = \"a.example\" }", "/", ""),
        ("when = { query = { beta = \"1\" } }", "/?beta=1", "/?beta=2"),
        ("unless = { query = { beta = { present = true } } }", "/", "/?beta"),
        ("when = [{ path = \"/a\" }, { path = \"/b\" }]", "/b", "/c"),
        ("when = { prefix = \"/a\" }\nunless = [{ path = \"/a/b\" }, { path = \"/a/c\" }]", "/a/d", "/a/c"),
    ];
    for (written, called, left_out) in cases {
        let mut fixture = Fixture::new([marks("mark")]);
        condition(&mut fixture, "mark", written);
        assert_eq!(marked(&mut fixture.get(called, &[])), "mark", "{written}: {called}");
        if !left_out.is_empty() {
            let mut routed = fixture.get(left_out, &[]);
            assert_eq!(marked(&mut routed), "", "{written}: {left_out}");
            assert_eq!(routed.facts.record.plugins.take().len(), 0, "no call was made");
        }
    }
    let mut fixture = Fixture::new([marks("mark")]);
    condition(&mut fixture, "mark", "when = { methods = [\"GET\"], headers = { x-a = { prefix = \"v\" } } }");
    for (method, header, expected) in [
        (Method::GET, "v1", "mark"),
        (Method::HEAD, "v1", "mark"),
        (Method::POST, "v1", ""),
        (Method::GET, "w", ""),
    ] {
        assert_eq!(marked(&mut fixture.exchange(method, "/", &[("x-a", header)])), expected);
    }
}

#[test]
fn no_spelling_of_a_path_leads_around_a_binding() {
    let mut fixture = Fixture::new([marks("mark")]);
    fixture.route.merge_slashes = false;
    condition(&mut fixture, "mark", "when = { prefix = \"/admin\" }");
    for path in ["/admin/x", "//admin/x", "///admin//x", "/x/..//admin/y"] {
        assert_eq!(marked(&mut fixture.get(path, &[])), "mark", "{path}");
    }
    assert_eq!(marked(&mut fixture.get("//other/admin", &[])), "");
}

#[test]
fn parameters_of_segments_lead_around_no_binding() {
    // Some servers remove `;` and what follows it in a segment before they choose what serves the request.
    let mut fixture = Fixture::new([marks("mark")]);
    condition(&mut fixture, "mark", "when = { prefix = \"/admin\" }");
    for path in ["/admin;x=1/y", "/;x/admin/y", "/admin;", "/admin/;a;b", "/;/admin;x"] {
        assert_eq!(marked(&mut fixture.get(path, &[])), "mark", "{path}");
    }
    for path in ["/administration;x", "/other;/admin/x", "/x;admin"] {
        assert_eq!(marked(&mut fixture.get(path, &[])), "", "{path}");
    }
    let mut fixture = Fixture::new([marks("mark")]);
    condition(&mut fixture, "mark", "unless = { path = \"/files/{name}/{*rest}\" }");
    for (path, expected) in
        [("/files/a/b", ""), ("/files/a;v=1/b", ""), ("/files;x/a/b", "mark"), ("/files/;x/b", "mark")]
    {
        assert_eq!(marked(&mut fixture.get(path, &[])), expected, "{path}");
    }
}

#[test]
fn a_method_that_a_preflight_announces_leaves_no_binding_out() {
    let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
    let mut fixture = Fixture::new([marks("mark")]);
    condition(&mut fixture, "mark", "unless = { method = \"GET\" }");
    assert_eq!(marked(&mut fixture.exchange(Method::OPTIONS, "/", &preflight)), "mark");
    assert_eq!(marked(&mut fixture.exchange(Method::GET, "/", &preflight)), "");
    condition(&mut fixture, "mark", "when = { method = \"GET\" }");
    assert_eq!(marked(&mut fixture.exchange(Method::OPTIONS, "/", &preflight)), "mark");
}

#[test]
fn the_address_of_the_client_decides_also_in_its_mapped_form() {
    let mut fixture = Fixture::new([marks("mark")]);
    condition(&mut fixture, "mark", "when = { client = [\"192.0.2.0/24\", \"2001:db8::/32\"] }");
    for (address, expected) in
        [("192.0.2.9", "mark"), ("::ffff:192.0.2.9", "mark"), ("2001:db8::1", "mark"), ("192.0.3.1", "")]
    {
        let mut routed = fixture.get("/", &[]);
        let address: IpAddr = address.parse().expect("an address");
        Arc::make_mut(&mut routed.facts.head).client.address = address;
        assert_eq!(marked(&mut routed), expected, "{address}");
    }
}

#[test]
fn an_authentication_that_is_left_out_recognises_nobody() {
    for (auth, expected) in [
        (Auth::Required, Some(FaultKind::Unauthenticated)),
        (Auth::All, Some(FaultKind::Unauthenticated)),
        (Auth::Optional, None),
    ] {
        let mut fixture = Fixture::new([accepts("who", &[])]);
        fixture.route.auth = auth;
        condition(&mut fixture, "who", "unless = { path = \"/open\" }");
        drop(forwarded(&mut fixture.get("/", &[]), Body::Empty));
        let found = testing::run(descend(&mut fixture.get("/open", &[]), Body::Empty));
        assert_eq!(found.err().map(|fault| fault.kind), expected, "{auth:?}");
    }
    // Under `all`, one that recognises the caller does not make up for one that is left out.
    let mut fixture = Fixture::new([accepts("one", &[]), accepts("two", &[])]);
    fixture.route.auth = Auth::All;
    condition(&mut fixture, "two", "when = { path = \"/two\" }");
    drop(forwarded(&mut fixture.get("/two", &[]), Body::Empty));
    assert_eq!(refused(&mut fixture.get("/", &[]), Body::Empty).kind, FaultKind::Unauthenticated);
}

#[test]
fn conditions_apply_to_gates_and_to_decisions_on_a_body_too() {
    let answer = || LocalResponse { status: 418, headers: Vec::new(), body: Bytes::new() };
    let gate = Fake::new("p").admit(move |_| Ok(Some(answer())));
    let refusing = Fake::new("p").refuse_by_body(WHOLE, move |_| Ok(Some(answer())));
    for binding in [gate, refusing] {
        let mut fixture = Fixture::new([binding]);
        condition(&mut fixture, "p", "unless = { path = \"/open\" }");
        drop(forwarded(&mut fixture.get("/open", &[]), Body::Empty));
        let Ok(Descent::Answered(response)) = testing::run(descend(&mut fixture.get("/", &[]), Body::Empty))
        else {
            panic!("it is answered")
        };
        assert_eq!(response.status(), 418);
    }
    let mut by_body = Fixture::new([Fake::new("who").authenticate_by_body(WHOLE, |_| {
        Ok(Decision::Accepted(Acceptance {
            subject: "ann".to_owned(),
            claims: Vec::new(),
            response_headers: Vec::new(),
            cacheable_for: Duration::ZERO,
            inputs: Vec::new(),
        }))
    })]);
    condition(&mut by_body, "who", "when = { path = \"/signed\" }");
    drop(forwarded(&mut by_body.get("/signed", &[]), Body::Empty));
    let fault = refused(&mut by_body.get("/", &[]), Body::Empty);
    assert_eq!(fault.kind, FaultKind::Unauthenticated, "left out is not admitted");
}

#[test]
fn the_identity_decides_once_authentication_is_through() {
    let cases = [
        ("when = { claims = { role = \"admin\" } }", "admin", "guest"),
        ("unless = { claims = { role = \"guest\" } }", "admin", "guest"),
        ("when = { subject = \"ann\", claims = { role = { present = true } } }", "guest", ""),
        ("when = [{ path = \"/other\" }, { claims = { role = { prefix = \"ad\" } } }]", "admin", "guest"),
        (
            "when = { path = \"/*\" }\nunless = { path = \"/\", claims = { role = \"guest\" } }",
            "admin",
            "guest",
        ),
    ];
    for (written, called, left_out) in cases {
        for (role, expected) in [(called, "mark"), (left_out, "")] {
            let claims = [("role", role)];
            let claims = if role.is_empty() { &[][..] } else { &claims };
            let mut fixture = Fixture::new([accepts("who", claims), marks("mark")]);
            condition(&mut fixture, "mark", written);
            assert_eq!(marked(&mut fixture.get("/", &[])), expected, "{written}: {role:?}");
        }
    }
    let mut nobody =
        Fixture::new([Fake::new("who").authenticate(|_| Ok(Decision::NotMine(Vec::new()))), marks("mark")]);
    nobody.route.auth = Auth::Optional;
    condition(&mut nobody, "mark", "when = { subject = { present = true } }");
    assert_eq!(marked(&mut nobody.get("/", &[])), "", "there is no identity");
}

#[test]
fn what_earlier_stages_changed_does_not_matter() {
    let mut fixture = Fixture::new([marks("first"), marks("second"), accepts("who", &[("role", "admin")])]);
    condition(&mut fixture, "second", "unless = { headers = { x-mark = { present = true } } }");
    assert_eq!(marked(&mut fixture.get("/", &[])), "first | second");
    condition(
        &mut fixture,
        "second",
        "unless = { headers = { x-mark = \"first\" }, claims = { role = \"admin\" } }",
    );
    assert_eq!(marked(&mut fixture.get("/", &[])), "first | second");
    assert_eq!(marked(&mut fixture.get("/", &[("x-mark", "first")])), "first | first");
}

#[test]
fn a_binding_that_is_left_out_draws_nothing_and_does_not_see_the_response() {
    struct Unreachable;

    impl Counter for Unreachable {
        fn charge<'a>(&'a self, _: &'a [Draw]) -> MaybeReady<'a, Result<BucketStates, Unavailable>> {
            MaybeReady::over(Err(Unavailable))
        }
    }

    let bucket = || Bucket {
        policy: "p".to_owned(),
        key: String::new(),
        cost: 1,
        limit: 1,
        window: Duration::from_secs(3600),
        burst: None,
    };
    let strict = Fake::new("strict").draw(move |_| Ok(vec![bucket()]));
    let lenient = Fake::new("lenient").draw(move |_| Ok(vec![bucket()])).skip();
    let late = Fake::new("late").response(|_| panic!("it is left out"));
    let mut fixture = Fixture::new([strict, lenient, late]);
    fixture.counter = Arc::new(Unreachable);
    condition(&mut fixture, "strict", "when = { path = \"/strict\" }");
    condition(&mut fixture, "late", "when = { path = \"/late\" }");
    let failed = refused(&mut fixture.get("/strict", &[]), Body::Empty);
    assert_eq!(failed.kind, FaultKind::PluginFailed, "the one with `deny` was called");
    let response = through(&mut fixture.get("/", &[]), Response::new(Body::Empty));
    assert_eq!(response.status(), 200, "only the one with `skip` was called");
}

#[test]
fn remembered_results_are_used_only_for_requests_that_the_binding_is_for() {
    let inputs = || Box::from([Input::Header(http::HeaderName::from_static("x-a"))]);
    let mut mark = marks("mark");
    mark.interest.pure[Function::OnRequest as usize] = Some(inputs());
    let mut fixture = Fixture::new([mark]);
    condition(&mut fixture, "mark", "when = { path = \"/a\" }");
    for _ in 0..4 {
        assert_eq!(marked(&mut fixture.get("/a", &[("x-a", "1")])), "mark");
        assert_eq!(marked(&mut fixture.get("/b", &[("x-a", "1")])), "");
    }
}

#[test]
fn conditions_that_can_never_hold_are_refused() {
    for (written, key) in [
        ("when = { path = \"/a/b\" }\nunless = { path = \"/a/*\" }", "bindings.b.when"),
        (
            "when = [{ path = \"/x\" }, { method = \"GET\", path = \"/a\" }]\nunless = { method = \"GET\" }",
            "bindings.b.when[1]",
        ),
        ("when = { client = \"10.1.0.0/16\" }\nunless = { client = \"10.0.0.0/8\" }", "bindings.b.when"),
    ] {
        let problems = compile("b", written).err().unwrap_or_default();
        let found: Vec<_> =
            problems.iter().map(|problem| (&*problem.key, problem.message.contains("never hold"))).collect();
        assert_eq!(found, [(key, true)], "{written}");
    }
    let problems = compile("b", "when = { headers = { x = { regex = \"(\" } } }").err().unwrap_or_default();
    assert!(problems.len() == 1 && problems[0].key == "bindings.b.when.headers.x", "{problems:?}");
}
