//! One test for each promise of the README.

use super::*;
use witgate_sdk::test;

fn plugin(settings: &str) -> Maintenance {
    test::configure(settings).expect("the settings are good")
}

fn admitted(plugin: &Maintenance, client: &str, path: &str) -> bool {
    plugin.admit(&test::request().client_address(client).path(path).build()).is_none()
}

#[test]
fn every_request_gets_the_response() {
    let plugin = plugin("{}");
    let response = plugin.admit(&test::request().build()).expect("it answers");
    assert_eq!((response.status, response.header("content-type")), (503, Some("application/problem+json")));
    assert_eq!(response.header("retry-after"), None);
    assert!(String::from_utf8_lossy(&response.body).contains("Under maintenance"));
    assert_eq!(plugin.admits_by(), Some(Vec::new()), "the answer is always the same");
}

#[test]
fn the_response_is_configured() {
    let plugin = plugin(r#"{ "status": 500, "title": "Back at ten", "retry_after": "10m" }"#);
    let response = plugin.admit(&test::request().build()).expect("it answers");
    assert_eq!((response.status, response.header("retry-after")), (500, Some("600")));
    assert!(String::from_utf8_lossy(&response.body).contains("Back at ten"));
}

#[test]
fn clients_in_allow_are_let_through() {
    let plugin = plugin(r#"{ "allow": ["192.0.2.0/24", "198.51.100.7", "2001:db8::/32"] }"#);
    for (client, passes) in [
        ("192.0.2.0", true),
        ("192.0.2.255", true),
        ("192.0.3.0", false),
        ("::ffff:192.0.2.9", true),
        ("198.51.100.7", true),
        ("198.51.100.8", false),
        ("2001:db8:ffff::1", true),
        ("2001:db9::1", false),
        ("::c000:0201", false),
    ] {
        assert_eq!(admitted(&plugin, client, "/"), passes, "{client}");
    }
    assert_eq!(plugin.admits_by(), Some(vec![Input::ClientAddress]));
    let everybody: Maintenance =
        test::configure(r#"{ "allow": ["0.0.0.0/0"] }"#).expect("the settings are good");
    assert!(admitted(&everybody, "203.0.113.1", "/"));
}

#[test]
fn paths_in_except_are_let_through_with_everything_below_them() {
    let plugin = plugin(r#"{ "except": ["/healthz", "/api/"] }"#);
    for (path, passes) in [
        ("/healthz", true),
        ("/healthz/deep", true),
        ("/healthzz", false),
        ("/api", true),
        ("/api/a", true),
        ("/apis", false),
        ("/", false),
    ] {
        assert_eq!(admitted(&plugin, "192.0.2.1", path), passes, "{path}");
    }
    assert_eq!(plugin.admits_by(), Some(vec![Input::Path]));
}

#[test]
fn wrong_settings_are_told_with_their_place() {
    for (settings, pointer) in [
        (r#"{ "allow": ["192.0.2.0/33"] }"#, "/allow/0"),
        (r#"{ "allow": ["192.0.2.1", "example.com"] }"#, "/allow/1"),
        (r#"{ "allow": ["192.0.2.0/+8"] }"#, "/allow/0"),
        (r#"{ "except": ["healthz"] }"#, "/except/0"),
        (r#"{ "status": 200 }"#, "/status"),
    ] {
        let problems = test::configure::<Maintenance>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
