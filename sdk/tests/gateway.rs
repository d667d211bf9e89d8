//! Tests of the mocks: every import behaves as the contracts say.

use std::time::Duration;

use witgate_sdk::crypto::{self, Hash};
use witgate_sdk::fetch::InboundResponse;
use witgate_sdk::log::Level;
use witgate_sdk::test::Gateway;
use witgate_sdk::{clock, fetch, log, metrics, random, store};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn values_live_as_long_as_they_were_given() {
    let gateway = Gateway::new();
    let space = store::space("s");
    assert_eq!(space.get("k"), Ok(None));
    space.set("k", "v", Some(2 * SECOND)).unwrap();
    space.set("for ever", "v", None).unwrap();
    gateway.advance(SECOND);
    assert_eq!(space.get("k").unwrap().as_deref(), Some(&b"v"[..]));
    assert_eq!(store::space("other").get("k"), Ok(None), "spaces do not see each other");
    gateway.advance(SECOND);
    assert_eq!(space.get("k"), Ok(None));
    assert_eq!(space.remove("k"), Ok(false));
    assert_eq!(space.remove("for ever"), Ok(true));
}

#[test]
fn counters_count_and_only_they_do() {
    let gateway = Gateway::new();
    let space = store::space("s");
    assert_eq!(space.increment("n", 2, Some(SECOND)), Ok(2));
    assert_eq!(space.increment("n", -5, None), Ok(-3));
    assert_eq!(space.increment("n", i64::MIN, None), Err(store::Error::NotANumber), "it would overflow");
    gateway.advance(SECOND);
    assert_eq!(space.increment("n", 1, None), Ok(1), "the first use set its end");
    space.set("text", "v", None).unwrap();
    assert_eq!(space.increment("text", 1, None), Err(store::Error::NotANumber));
}

#[test]
fn a_value_is_swapped_only_if_it_is_the_expected_one() {
    let gateway = Gateway::new();
    let space = store::space("s");
    assert_eq!(space.compare_and_swap("k", None, Some(b"1"), None), Ok(true));
    assert_eq!(space.compare_and_swap("k", None, Some(b"2"), None), Ok(false));
    assert_eq!(space.compare_and_swap("k", Some(b"1"), Some(b"2"), None), Ok(true));
    assert_eq!(space.compare_and_swap("k", Some(b"2"), None, None), Ok(true));
    assert_eq!(space.get("k"), Ok(None));
    gateway.fail_store(Some(store::Error::Unavailable));
    assert_eq!(space.get("k"), Err(store::Error::Unavailable));
    gateway.fail_store(None);
    assert_eq!(space.set(&"k".repeat(1025), "v", None), Err(store::Error::Full));
    assert_eq!(space.set("k", vec![0; 1024 * 1024 + 1], None), Err(store::Error::Full));
}

#[test]
fn upstreams_answer_what_is_fetched() {
    let gateway = Gateway::new();
    gateway.upstream("idp", |request| {
        log::info("asked");
        Ok(InboundResponse::new(200, request.body.clone()).with_header("x-path", &*request.path))
    });
    let response = fetch::post("idp", "/token", "body").with_timeout(SECOND).send().unwrap();
    assert_eq!(
        (response.status, &*response.body, response.header("X-Path")),
        (200, &b"body"[..], Some("/token"))
    );
    assert_eq!(fetch::get("other", "/").send(), Err(fetch::Error::Denied));
    let sent: Vec<_> =
        gateway.fetched().into_iter().map(|request| (request.upstream, request.timeout)).collect();
    assert_eq!(sent, [("idp".to_owned(), Some(1000)), ("other".to_owned(), None)]);
    assert_eq!(gateway.logged(), [(Level::Info, "asked".to_owned())]);
}

#[test]
fn what_is_measured_can_be_looked_at() {
    let gateway = Gateway::new();
    metrics::count("a", 2);
    metrics::count("a", 3);
    metrics::gauge("g", 1.5);
    metrics::observe("h", 0.1);
    metrics::observe("h", 0.2);
    assert_eq!((gateway.counted("a"), gateway.counted("b"), gateway.gauge("g")), (5, 0, Some(1.5)));
    assert_eq!(gateway.observed("h"), [0.1, 0.2]);
}

#[test]
fn time_stands_still_until_it_is_moved_and_chance_repeats_itself() {
    let gateway = Gateway::new();
    assert_eq!(clock::unix_seconds(), 1_767_225_600);
    gateway.set_unix_seconds(7);
    gateway.advance(Duration::from_millis(1500));
    assert_eq!(clock::now(), Duration::from_millis(8500));
    let first: Vec<u32> = (0..100).map(|_| random::below(10)).collect();
    let _again = Gateway::new();
    assert_eq!((0..100).map(|_| random::below(10)).collect::<Vec<_>>(), first);
    assert!((0..10).all(|number| first.contains(&number)), "every number comes: {first:?}");
    assert_eq!(random::below(0), 0);
}

#[test]
fn cryptography_computes() {
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // FIPS 180-2 appendix B.1
    assert_eq!(
        hex(crypto::digest(Hash::Sha256, "abc")),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    // RFC 4231, test cases 2 and 6 (a key longer than the block)
    let tag = crypto::hmac(Hash::Sha256, "Jefe", "what do ya want for nothing?");
    assert_eq!(hex(tag.clone()), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    let long =
        crypto::hmac(Hash::Sha512, [0xaa; 131], "Test Using Larger Than Block-Size Key - Hash Key First");
    assert!(hex(long).starts_with("80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"));
    assert!(crypto::hmac_verify(Hash::Sha256, "Jefe", "what do ya want for nothing?", &tag));
    assert!(!crypto::hmac_verify(Hash::Sha256, "Jefe", "what do ya want for something?", &tag));
    assert!(crypto::equal("a", "a") && !crypto::equal("a", "b") && !crypto::equal("a", "aa"));
}
