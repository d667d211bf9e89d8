use witgate_sdk::test::{self, Gateway};

use super::*;

const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuHASHOFALICE";

/// The plugin with a file of these contents.
fn plugin(file: &str) -> Result<BasicAuth, Vec<SettingsProblem>> {
    let gateway = Gateway::new();
    gateway.data("users", file);
    gateway.password(HASH, "wonder:land");
    test::configure::<BasicAuth>("{}")
}

fn decide(plugin: &BasicAuth, values: &[&str]) -> Decision {
    let mut request = test::request();
    for value in values {
        request = request.header("authorization", *value);
    }
    plugin.authenticate(&request.build())
}

fn credentials(text: &str) -> String {
    format!("Basic {}", STANDARD.encode(text))
}

fn is_refused(decision: &Decision) -> bool {
    let challenge = "Basic realm=\"restricted\", charset=\"UTF-8\"";
    matches!(decision, Decision::Refused(response)
        if response.status == 401 && response.header("www-authenticate") == Some(challenge))
}

#[test]
fn the_right_password_is_accepted_and_remembered() {
    let plugin = plugin(&format!("# users\n\nalice:{HASH}\n")).unwrap();
    let decision = decide(&plugin, &[&credentials("alice:wonder:land")]);
    let Decision::Accepted(accepted) = decision else { panic!("{decision:?}") };
    assert_eq!((accepted.identity.subject.as_str(), accepted.cacheable_for), ("alice", 60_000));
    let lower = credentials("alice:wonder:land").replace("Basic", "bAsIc");
    assert!(matches!(decide(&plugin, &[&lower]), Decision::Accepted(_)));
}

#[test]
fn wrong_unknown_and_malformed_credentials_are_refused_alike() {
    let plugin = plugin(&format!("alice:{HASH}:0:0\n")).unwrap();
    let good = credentials("alice:wonder:land");
    for values in [
        &[&*credentials("alice:wonder")][..],
        &[&credentials("bob:wonder:land")],
        &[&credentials(":wonder:land")],
        &[&credentials("alice")],
        &["Basic !"],
        &["Basic "],
        &[&good, &good],
    ] {
        let decision = decide(&plugin, values);
        assert!(is_refused(&decision), "{values:?}: {decision:?}");
    }
}

#[test]
fn other_credentials_are_not_mine() {
    let plugin = plugin(&format!("alice:{HASH}\n")).unwrap();
    for values in [&[][..], &["Bearer abc"], &["Basic"], &["Basicx abc"]] {
        assert!(matches!(decide(&plugin, values), Decision::NotMine(_)), "{values:?}");
    }
}

#[test]
fn a_mistake_in_the_file_is_told_with_its_line_and_without_the_hash() {
    for (file, expected) in [
        ("alice", "line 1 of the file has no colon"),
        ("\n:hash", "line 2 of the file has no name"),
        ("a:plain-secret", "line 1 of the file has a hash of an unknown form"),
        ("a:$apr1$x$y\na:$apr1$x$y", "line 2 of the file repeats a name"),
    ] {
        let problems = plugin(file).map(drop).unwrap_err();
        assert!(problems[0].message.contains(expected), "{file}: {problems:?}");
        assert!(!problems[0].message.contains("secret"), "{problems:?}");
    }
    let _without_files = Gateway::new();
    let problems = test::configure::<BasicAuth>("{}").map(drop).unwrap_err();
    assert!(problems[0].message.contains("not granted"), "{problems:?}");
}

#[test]
fn a_hash_that_cannot_be_verified_lets_nobody_in() {
    let plugin = plugin("bob:$apr1$x$y\n").unwrap();
    assert!(is_refused(&decide(&plugin, &[&credentials("bob:x")])));
}
