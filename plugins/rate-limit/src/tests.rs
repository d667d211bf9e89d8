//! One test for each promise of the README.

use std::time::Duration;

use super::*;
use witgate_sdk::{Identity, Input, test};

fn plugin(settings: &str) -> Settings {
    test::configure(settings).expect("the settings are good")
}

/// The key of a policy's bucket; `None` if the policy does not apply.
fn key(by: &str, missing: &str, request: test::RequestBuilder) -> Option<String> {
    let settings =
        format!(r#"{{ "policies": [{{ "name": "p", "by": {by}, "limit": 1, "missing": "{missing}" }}] }}"#);
    let mut buckets = plugin(&settings).draw(&request.build()).0;
    assert!(buckets.len() < 2);
    buckets.pop().map(|bucket| bucket.key)
}

#[test]
fn each_policy_names_its_bucket() {
    let plugin = plugin(
        r#"{ "policies": [
            { "name": "burst", "by": ["client"], "limit": 10, "window": "1s", "burst": 20, "cost": 2 },
            { "name": "daily", "by": [], "limit": 100000, "window": "1d" }
        ] }"#,
    );
    let buckets = plugin.draw(&test::request().client_address("192.0.2.9").build());
    let second = Duration::from_secs(1);
    assert_eq!(
        buckets.0,
        [
            Bucket::new(10, second, "9:192.0.2.9").named("burst").with_burst(20).with_cost(2),
            Bucket::new(100_000, 86_400 * second, "").named("daily"),
        ]
    );
}

#[test]
fn buckets_are_told_apart_by_what_the_policy_says() {
    let alice = || Identity::new("alice").with_claim("plan", "gold");
    let request = || test::request().route("orders").identity(alice()).header("X-Tenant", "acme");
    assert_eq!(key(r#"["route"]"#, "share", request()).as_deref(), Some("6:orders"));
    assert_eq!(key(r#""route""#, "share", request()).as_deref(), Some("6:orders"), "one part needs no list");
    assert_eq!(key(r#"{ "claim": "plan" }"#, "share", request()).as_deref(), Some("4:gold"));
    assert_eq!(key(r#"["subject"]"#, "share", request()).as_deref(), Some("5:alice"));
    assert_eq!(key(r#"[{ "claim": "plan" }]"#, "share", request()).as_deref(), Some("4:gold"));
    assert_eq!(key(r#"[{ "header": "x-tenant" }]"#, "share", request()).as_deref(), Some("4:acme"));
    let two = request().header("x-tenant", "evil");
    assert_eq!(
        key(r#"[{ "header": "x-tenant" }, "route"]"#, "share", two).as_deref(),
        Some("9:acme,evil6:orders")
    );
}

#[test]
fn no_choice_of_values_makes_two_keys_equal() {
    let by = r#"[{ "header": "a" }, { "header": "b" }]"#;
    let one = key(by, "share", test::request().header("a", "1").header("b", "2:34"));
    let other = key(by, "share", test::request().header("a", "1:12").header("b", "34"));
    assert_ne!(one, other);
}

#[test]
fn what_is_missing_shares_a_bucket_or_takes_the_policy_out() {
    assert_eq!(key(r#"[{ "header": "x-tenant" }]"#, "share", test::request()).as_deref(), Some("-"));
    assert_eq!(key(r#"[{ "header": "x-tenant" }]"#, "skip", test::request()), None);
    assert_eq!(key(r#"["subject"]"#, "skip", test::request()), None);
}

#[test]
fn an_ipv6_client_is_its_prefix_and_a_mapped_address_is_ipv4() {
    let client = |address: &str| key(r#"["client"]"#, "share", test::request().client_address(address));
    assert_eq!(client("2001:db8:1:2:3:4:5:6"), client("2001:db8:1:2::1"));
    assert_ne!(client("2001:db8:1:2::1"), client("2001:db8:1:3::1"));
    assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
}

#[test]
fn a_key_too_long_or_not_text_is_shortened() {
    let long = "x".repeat(4096);
    let by_long = |value: &str| {
        key(r#"[{ "header": "a" }]"#, "share", test::request().header("a", value)).expect("a key")
    };
    assert!(by_long(&long).len() <= 256);
    assert_ne!(by_long(&long), by_long(&format!("{long}y")));
    let bytes = key(r#"[{ "header": "a" }]"#, "share", test::request().header("a", [0xff, 0xfe]));
    assert!(bytes.expect("a key").starts_with("sha256:"));
}

#[test]
fn headers_that_are_looked_at_are_declared() {
    let plugin = plugin(
        r#"{ "policies": [{ "name": "p", "by": [{ "header": "X-Tenant" }, "client"], "limit": 1 }] }"#,
    );
    assert_eq!(plugin.interest().request_headers, ["x-tenant"]);
}

#[test]
fn every_bad_setting_is_reported_at_its_place() {
    let problems = test::configure::<Settings>(
        r#"{ "ipv6_prefix": 1, "policies": [
            { "name": "a b", "by": [], "limit": 0, "window": "0s" },
            { "name": "p", "by": [], "limit": 5, "cost": 6 },
            { "name": "p", "by": [], "limit": 5 }
        ] }"#,
    )
    .err()
    .expect("it is full of problems");
    let pointers: Vec<&str> = problems.iter().map(|problem| problem.pointer.as_str()).collect();
    assert_eq!(
        pointers,
        [
            "/ipv6_prefix",
            "/policies/0/name",
            "/policies/0/window",
            "/policies/0/limit",
            "/policies/0/cost",
            "/policies/1/cost",
            "/policies/2/name",
        ]
    );
    let unknown = r#"{ "policies": [{ "name": "p", "by": { "cookie": "c" }, "limit": 1 }] }"#;
    let problem = &test::configure::<Settings>(unknown).err().expect("no such part")[0];
    assert!(problem.pointer.starts_with("/policies/0/by"), "{problem:?}");
    let unknown = r#"{ "policies": [{ "name": "p", "by": [{ "cookie": "c" }], "limit": 1 }] }"#;
    assert!(
        test::configure::<Settings>(unknown).err().expect("no such part")[0]
            .pointer
            .starts_with("/policies/0/by/0")
    );
}

#[test]
fn buckets_say_what_they_go_by() {
    let plugin = plugin(
        r#"{ "policies": [
            { "name": "a", "by": ["client", { "header": "X-Tenant" }], "limit": 1 },
            { "name": "b", "by": ["subject", { "claim": "plan" }, "route", "client"], "limit": 1 }
        ] }"#,
    );
    let pure = plugin.interest().pure.pop().expect("draws are pure");
    let inputs = [Input::ClientAddress, Input::header("x-tenant"), Input::Identity, Input::Route];
    assert_eq!((pure.function, &pure.inputs[..]), (Function::Draw, &inputs[..]));
}
