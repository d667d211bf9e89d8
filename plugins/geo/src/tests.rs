//! One test for each promise of the README, with small databases that these tests write.

mod writer;

use super::*;
use witgate_sdk::test;
use writer::database;

const TABLE: &str = "192.0.2.0/24,DE\n198.51.100.0/24,FR\n2001:db8::/32,SE\n";

fn plugin(settings: &str) -> Geo {
    test::configure(settings).expect("the settings are good")
}

fn status(plugin: &Geo, address: &str) -> u16 {
    plugin.admit(&test::request().client_address(address).build()).map_or(200, |response| response.status)
}

const NETWORKS: [(&str, u32, &str); 4] = [
    ("192.0.2.0", 24, "DE"),
    ("198.51.100.128", 25, "FR"),
    ("2001:db8::", 32, "SE"),
    ("203.0.113.7", 32, "IT"),
];

/// An address in a network of the list.
fn first(network: &str) -> IpAddr {
    network.parse().expect("an address")
}

#[test]
fn countries_are_allowed_or_denied() {
    let gateway = test::Gateway::new();
    gateway.data("countries", TABLE);
    let denying = plugin(r#"{ "deny": ["fr"] }"#);
    assert_eq!(denying.admits_by(), Some(vec![Input::ClientAddress]));
    for (address, expected) in
        [("192.0.2.1", 200), ("198.51.100.1", 403), ("2001:db8::1", 200), ("10.0.0.1", 200), ("odd", 200)]
    {
        assert_eq!(status(&denying, address), expected, "{address}");
    }
    let allowing =
        plugin(r#"{ "allow": ["DE"], "unknown": "deny", "except": ["10.0.0.0/8"], "status": 451 }"#);
    for (address, expected) in [
        ("192.0.2.1", 200),
        ("::ffff:192.0.2.1", 200),
        ("198.51.100.1", 451),
        ("2001:db8::1", 451),
        ("172.16.0.1", 451),
        ("10.0.0.1", 200),
        ("odd", 451),
    ] {
        assert_eq!(status(&allowing, address), expected, "{address}");
    }
    assert_eq!(status(&plugin(r#"{ "allow": [] }"#), "192.0.2.1"), 403, "nobody is allowed");
}

#[test]
fn the_upstream_is_told_and_cannot_be_told_otherwise() {
    let gateway = test::Gateway::new();
    gateway.data("countries", TABLE);
    let plugin = plugin(r#"{ "header": "X-Country" }"#);
    assert_eq!(plugin.admits_by(), Some(Vec::new()), "nobody is refused");
    for (address, expected) in [
        ("192.0.2.1", RequestChanges::none().set("x-country", "DE")),
        ("10.0.0.1", RequestChanges::none().remove("x-country")),
    ] {
        let request = test::request().client_address(address).header("x-country", "XX").build();
        assert_eq!(plugin.on_request(&request), RequestOutcome::Proceed(expected), "{address}");
    }
}

#[test]
fn databases_of_every_record_size_are_searched() {
    let gateway = test::Gateway::new();
    for bits in [24, 28, 32] {
        gateway.data("countries", database(bits, &NETWORKS));
        let plugin = plugin(r#"{ "deny": ["XX"] }"#);
        let country = |address: &str| plugin.country(address.parse().expect("an address"));
        for (address, expected) in [
            ("192.0.2.0", Some(*b"DE")),
            ("192.0.2.255", Some(*b"DE")),
            ("192.0.3.0", None),
            ("198.51.100.127", None),
            ("198.51.100.128", Some(*b"FR")),
            ("::ffff:192.0.2.1", Some(*b"DE")),
            ("2001:db8:ffff::", Some(*b"SE")),
            ("2001:db9::", None),
            ("203.0.113.7", Some(*b"IT")),
            ("203.0.113.6", None),
        ] {
            assert_eq!(country(address), expected, "{bits} bits: {address}");
        }
    }
}

#[test]
fn a_damaged_database_is_refused_or_says_nothing() {
    let gateway = test::Gateway::new();
    let good = database(24, &NETWORKS);
    let open = |bytes: &[u8]| {
        gateway.data("countries", bytes);
        test::configure::<Geo>(r#"{ "deny": ["XX"] }"#)
    };
    assert!(open(&good).is_ok());
    // Cut off anywhere: the metadata are at the end, and what comes before them has moved or is gone.
    for length in 0..good.len() {
        if let Ok(plugin) = open(&good[..length]) {
            panic!(
                "{length} of {} bytes: {:?}",
                good.len(),
                plugin.country("192.0.2.1".parse().expect("one"))
            );
        }
        let cut = &good[good.len() - length..];
        if length < good.len() - 1 {
            // What is lost at the beginning shifts the tree against the data.
            let damaged = open(cut).map_or(true, |plugin| {
                NETWORKS
                    .iter()
                    .any(|(network, _, country)| plugin.country(first(network)) != super::country(country))
            });
            assert!(damaged, "{length} bytes of the end");
        }
    }
    // Any byte changed: whatever happens, it ends, and nothing panics.
    for at in 0..good.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[at] ^= change;
            if let Ok(plugin) = open(&bytes) {
                for (network, _, _) in NETWORKS {
                    let _any = plugin.country(first(network));
                }
            }
        }
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let gateway = test::Gateway::new();
    gateway.data("countries", TABLE);
    gateway.data("broken", "192.0.2.0/24\n");
    gateway.data("binary", vec![0xff; 100]);
    for (settings, pointer) in [
        (r#"{ "table": "other" }"#, "/table"),
        (r#"{ "table": "broken" }"#, "/table"),
        (r#"{ "table": "binary" }"#, "/table"),
        (r#"{ "deny": ["Germany"] }"#, "/deny/0"),
        (r#"{ "allow": ["DE", "1"] }"#, "/allow/1"),
        (r#"{ "allow": ["DE"], "deny": ["de"] }"#, "/deny"),
        (r#"{ "status": 200 }"#, "/status"),
        (r#"{ "except": ["10.0.0.0/33"] }"#, "/except/0"),
    ] {
        let problems = test::configure::<Geo>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
