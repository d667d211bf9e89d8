//! One test for each promise of the README.

use super::*;
use witgate_sdk::{Identity, test};

fn plugin(settings: &str) -> Settings {
    test::configure(settings).expect("the settings are good")
}

fn upstream(plugin: &Settings, request: test::RequestBuilder) -> Option<String> {
    plugin.route(&request.build()).and_then(|destination| destination.upstream)
}

/// The share of requests that go to the new version, in percent.
fn share(plugin: &Settings, request: impl Fn(u32) -> test::RequestBuilder) -> f64 {
    let request = |number: u32| request(number).request_id(&number.to_string());
    let moved = (0..4000).filter(|number| upstream(plugin, request(*number)).is_some()).count();
    moved as f64 / 40.0
}

#[test]
fn a_header_decides_before_all_else() {
    let none = plugin(r#"{ "upstream": "v2", "header": { "name": "X-Canary" } }"#);
    assert_eq!(upstream(&none, test::request().header("x-canary", "always")).as_deref(), Some("v2"));
    assert_eq!(upstream(&none, test::request().header("x-canary", "maybe")), None);
    let all =
        plugin(r#"{ "upstream": "v2", "header": { "name": "x-canary", "never": "off" }, "percent": 100 }"#);
    assert_eq!(upstream(&all, test::request().header("x-canary", "off")), None);
    assert_eq!(upstream(&all, test::request()).as_deref(), Some("v2"));
}

#[test]
fn a_cookie_decides_where_the_header_does_not() {
    let both =
        plugin(r#"{ "upstream": "v2", "header": { "name": "x-canary" }, "cookie": { "name": "canary" } }"#);
    let cookie = || test::request().header("cookie", "a=b; canary=always");
    assert_eq!(upstream(&both, cookie()).as_deref(), Some("v2"));
    assert_eq!(upstream(&both, cookie().header("x-canary", "never")), None);
}

#[test]
fn a_percentage_moves_that_share() {
    let diced = plugin(r#"{ "upstream": "v2", "percent": 12.5 }"#);
    let moved = share(&diced, |_| test::request());
    assert!((10.0..15.0).contains(&moved), "{moved} %");
    assert_eq!(share(&plugin(r#"{ "upstream": "v2" }"#), |_| test::request()), 0.0);
}

#[test]
fn a_caller_without_a_place_gets_one_in_a_cookie() {
    let sticky = plugin(r#"{ "upstream": "v2", "percent": 50, "sticky": { "cookie": {} } }"#);
    for number in 0..100 {
        let request = test::request().scheme("https").request_id(&number.to_string());
        let first = sticky.route(&request.build()).expect("a cookie is set");
        let set_cookie =
            String::from_utf8(first.response_headers[0].value.clone()).expect("a cookie is text");
        let (cookie, attributes) = set_cookie.split_once("; ").expect("a cookie has attributes");
        assert_eq!(attributes, "Path=/; Max-Age=604800; HttpOnly; SameSite=Lax; Secure");
        let again = sticky.route(&test::request().header("cookie", cookie).build());
        assert_eq!(again.as_ref().and_then(|destination| destination.upstream.clone()), first.upstream);
        assert!(
            again.is_none_or(|destination| destination.response_headers.is_empty()),
            "a place is given once"
        );
    }
}

#[test]
fn raising_the_percentage_never_moves_a_caller_back() {
    let at = |percent: u32| {
        plugin(&format!(r#"{{ "upstream": "v2", "percent": {percent}, "sticky": {{ "cookie": {{}} }} }}"#))
    };
    let with_place = |place: u32| test::request().header("cookie", format!("witgate-canary={place}"));
    assert_eq!(upstream(&at(10), with_place(999)).as_deref(), Some("v2"));
    assert_eq!(upstream(&at(10), with_place(1000)), None);
    assert_eq!(upstream(&at(20), with_place(999)).as_deref(), Some("v2"));
    assert_eq!(upstream(&at(20), with_place(1000)).as_deref(), Some("v2"));
    assert_eq!(upstream(&at(100), with_place(9999)).as_deref(), Some("v2"));
}

#[test]
fn a_forged_place_is_replaced() {
    let sticky = plugin(r#"{ "upstream": "v2", "sticky": { "cookie": {} } }"#);
    for forged in ["10000", "-1", "many"] {
        let request = test::request().header("cookie", format!("witgate-canary={forged}")).build();
        let destination = sticky.route(&request).expect("a cookie is set");
        assert_eq!(destination.response_headers.len(), 1, "{forged}");
    }
}

#[test]
fn a_caller_may_be_found_again_without_a_cookie() {
    let by = |sticky: &str| plugin(&format!(r#"{{ "upstream": "v2", "percent": 25, "sticky": {sticky} }}"#));
    let subject = by(r#""subject""#);
    let caller = |number: u32| test::request().identity(Identity::new(format!("caller-{number}")));
    let moved = share(&subject, caller);
    assert!((22.0..28.0).contains(&moved), "{moved} %");
    for number in 0..100 {
        assert_eq!(upstream(&subject, caller(number)), upstream(&subject, caller(number)));
    }
    let tenant = by(r#"{ "header": "x-tenant" }"#);
    assert_eq!(tenant.interest().request_headers, ["x-tenant"]);
    let moved = share(&tenant, |number| test::request().header("x-tenant", number.to_string()));
    assert!((22.0..28.0).contains(&moved), "{moved} %");
    let moved =
        share(&by(r#""client""#), |number| test::request().client_address(&format!("2001:db8::{number:x}")));
    assert!((22.0..28.0).contains(&moved), "{moved} %");
}

#[test]
fn every_bad_setting_is_reported_at_its_place() {
    let settings = r#"{ "upstream": "", "percent": 101, "header": { "name": "a", "value": "1", "never": "1" },
        "cookie": { "name": "b c" }, "sticky": { "cookie": { "name": "" } } }"#;
    let problems = test::configure::<Settings>(settings).err().expect("it is full of problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(pointers, ["/upstream", "/percent", "/header", "/cookie/name", "/sticky/cookie/name"]);
}

#[test]
fn choices_say_what_they_go_by() {
    let inputs = |settings: &str| {
        let settings = settings.replace("{ ", "{ \"upstream\": \"v2\", ");
        plugin(&settings).interest().pure.pop().map(|pure| pure.inputs)
    };
    assert_eq!(inputs("{ \"percent\": 0 }"), Some(vec![]), "the route's own, always");
    assert_eq!(inputs("{ \"percent\": 5 }"), None);
    assert_eq!(
        inputs(r#"{ "header": {"name": "X-Canary"}, "percent": 5, "sticky": "subject" }"#),
        Some(vec![Input::header("X-Canary"), Input::Identity])
    );
    assert_eq!(inputs(r#"{ "sticky": {"cookie": {}} }"#), Some(vec![Input::header("cookie")]));
    assert_eq!(inputs(r#"{ "sticky": {"header": "x-tenant"} }"#), Some(vec![Input::header("x-tenant")]));
    assert_eq!(inputs(r#"{ "sticky": "client" }"#), Some(vec![Input::ClientAddress]));
}
