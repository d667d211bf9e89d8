//! One test for each promise of the README.

use super::*;
use witgate_sdk::{Identity, test};

/// The clock of tests begins on 2026-01-01, midnight in UTC.
const DAY: Duration = Duration::from_secs(24 * 3600);

fn plugin(quotas: &str) -> Quotas {
    test::configure(format!(r#"{{ "quotas": [{quotas}] }}"#)).expect("the settings are good")
}

fn status(plugin: &Quotas, request: &Request) -> u16 {
    match plugin.on_request(request) {
        RequestOutcome::Proceed(_) => 200,
        RequestOutcome::Respond(response) => response.status,
    }
}

fn of(subject: &str) -> Request<'static> {
    test::request().identity(Identity::new(subject).with_claim("tenant", "acme")).build()
}

#[test]
fn each_caller_has_the_limit_until_the_day_ends() {
    let gateway = test::Gateway::new();
    let plugin = plugin(r#"{ "name": "free", "limit": 2, "per": "day" }"#);
    gateway.advance(DAY - Duration::from_secs(10));
    assert_eq!([0; 3].map(|_| status(&plugin, &of("ada"))), [200, 200, 429]);
    assert_eq!(status(&plugin, &of("eve")), 200, "another caller");
    assert_eq!(status(&plugin, &test::request().build()), 200, "a caller without a name counts by address");
    let RequestOutcome::Respond(response) = plugin.on_request(&of("ada")) else { panic!("it is used up") };
    assert_eq!(
        (response.header("retry-after"), response.header("ratelimit")),
        (Some("10"), Some("\"free\";r=0;t=10"))
    );
    let body = String::from_utf8(response.body).expect("text");
    assert!(body.contains("\"code\":\"rate-limited\"") && body.contains("\"quota\":\"free\""), "{body}");
    gateway.advance(Duration::from_secs(10));
    assert_eq!(status(&plugin, &of("ada")), 200, "a new day");
}

#[test]
fn a_request_counts_in_all_quotas_or_in_none() {
    let gateway = test::Gateway::new();
    let quotas =
        r#"{ "name": "month", "limit": 4, "per": "month" }, { "name": "day", "limit": 3, "per": "day" }"#;
    let plugin = plugin(quotas);
    assert_eq!([0; 6].map(|_| status(&plugin, &of("ada"))), [200, 200, 200, 429, 429, 429]);
    gateway.advance(DAY);
    assert_eq!([0; 2].map(|_| status(&plugin, &of("ada"))), [200, 429], "refused requests were not counted");
    gateway.advance(30 * DAY);
    assert_eq!(status(&plugin, &of("ada")), 200, "February");
}

#[test]
fn who_shares_a_counter_is_said() {
    let _gateway = test::Gateway::new();
    let at = |address: &str, tenant: &str| {
        test::request().client_address(address).header("x-tenant", tenant).build()
    };
    let quota = |by: &str| plugin(&format!(r#"{{ "name": "q", "limit": 1, "per": "day", "by": {by} }}"#));
    let by_client = quota("\"client\"");
    assert_eq!(status(&by_client, &at("192.0.2.8", "a")), 200);
    assert_eq!(status(&by_client, &at("192.0.2.8", "b")), 429);
    let by_header = quota(r#"{ "header": "X-Tenant" }"#);
    assert_eq!(by_header.interest().request_headers, ["x-tenant"]);
    assert_eq!(
        [at("192.0.2.1", "a"), at("192.0.2.2", "a")].map(|request| status(&by_header, &request)),
        [200, 429]
    );
    let by_claim = quota(r#"{ "claim": "tenant" }"#);
    assert_eq!([of("ada"), of("eve")].map(|request| status(&by_claim, &request)), [200, 429]);
    let by_all = quota("\"all\"");
    assert_eq!([of("ada"), at("192.0.2.1", "a")].map(|request| status(&by_all, &request)), [200, 429]);
}

#[test]
fn the_store_holds_no_names_and_may_be_away() {
    let gateway = test::Gateway::new();
    let denying = plugin(r#"{ "name": "q", "limit": 1, "per": "day" }"#);
    let window = Span::Day.window(clock::unix_seconds(), Offset::default());
    assert!(!key(&denying.0.quotas[0], &of("ada"), &window.name).contains("ada"));
    gateway.fail_store(Some(store::Error::Unavailable));
    assert_eq!(status(&denying, &of("ada")), 503);
    let allowing: Quotas = test::configure(
        r#"{ "quotas": [{ "name": "q", "limit": 1, "per": "day" }], "on_unavailable": "allow" }"#,
    )
    .expect("the settings are good");
    assert_eq!([0; 3].map(|_| status(&allowing, &of("ada"))), [200; 3]);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let quota = r#"{ "name": "q", "limit": 1, "per": "day" }"#;
    for (settings, pointer) in [
        (r#"{ "quotas": [] }"#.to_owned(), "/quotas"),
        (format!(r#"{{ "quotas": [{quota}, {quota}] }}"#), "/quotas/1/name"),
        (r#"{ "quotas": [{ "name": "Q", "limit": 1, "per": "day" }] }"#.to_owned(), "/quotas/0/name"),
        (r#"{ "quotas": [{ "name": "q", "limit": 0, "per": "day" }] }"#.to_owned(), "/quotas/0/limit"),
        (r#"{ "quotas": [{ "name": "q", "limit": 1, "per": "week" }] }"#.to_owned(), "/quotas/0/per"),
        (format!(r#"{{ "quotas": [{quota}], "offset": "Berlin" }}"#), "/offset"),
    ] {
        let problems = test::configure::<Quotas>(&settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
