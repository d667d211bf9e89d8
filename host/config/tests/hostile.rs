//! Whatever is in a file: an answer, never a panic.

use proptest::prelude::*;
use witgate_config::parse_str;

const REFERENCE: &str = include_str!("reference.toml");

/// What configurations are made of, and what they should not have in them.
const PIECES: &[&str] = &[
    "[",
    "]",
    "{",
    "}",
    "=",
    "\"",
    "'",
    "\"\"\"",
    "\n",
    ".",
    ",",
    "#",
    "${",
    "}",
    "$${",
    "${file:",
    "${X:-",
    "-1",
    "0",
    "1e999",
    "nan",
    "9223372036854775808",
    "true",
    "1979-05-27",
    "\u{0}",
    "\u{e9}",
    "\u{1f980}",
    "\\u0000",
    "*",
    "/*",
    "{*rest}",
    "%",
    "[[routes]]\n",
    "[upstreams.a]\n",
    "[gateway]\n",
    "routes = 1\n",
    "upstreams = []\n",
    "99999999999s",
];

fn told(text: &str) {
    if let Err(failure) = parse_str(text) {
        assert!(!failure.problems.is_empty(), "a failure says what is wrong");
        assert!(failure.render(false).contains("problem"));
        assert!(failure.render(true).contains("problem"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_is_answered(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0usize..40, prop::sample::select(PIECES)), 1..6),
    ) {
        let mut text: Vec<char> = REFERENCE.chars().collect();
        for (at, length, piece) in edits {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        told(&text.into_iter().collect::<String>());
    }

    #[test]
    fn a_heap_of_pieces_is_answered(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        told(&pieces.concat());
    }

    #[test]
    fn any_value_is_answered_at_any_key(line in any::<prop::sample::Index>(), value in prop::sample::select(&[
        "1", "-1", "1.5", "\"\"", "\"x\"", "true", "[]", "[[]]", "{}", "{ a = 1 }", "[1, \"a\"]", "\"off\"", "\"${\"",
        "1979-05-27", "\"/\"", "99999999999999", "[{}]", "\"\\u0000\"",
    ][..])) {
        let mut lines: Vec<String> = REFERENCE.lines().map(str::to_owned).collect();
        let at = line.index(lines.len());
        if let Some((key, _)) = lines[at].split_once(" = ") {
            lines[at] = format!("{key} = {value}");
        }
        told(&lines.join("\n"));
    }
}

#[test]
fn deep_nesting_is_answered() {
    told(&format!("[gateway]\nfilters = {}", "[".repeat(100_000)));
    told(&format!("{}=1", "a.".repeat(10_000)));
}

#[test]
fn many_routes_are_no_reason_to_refuse() {
    let mut text = String::from("[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:1\"\n");
    text.push_str("[upstreams.origin]\nendpoints = [\"127.0.0.1:2\"]\n");
    for route in 0..15_000 {
        text.push_str(&format!(
            "[[routes]]\nname = \"{route}\"\nhosts = [\"{route}.example\"]\npath = \"/*\"\nmethods = [\"GET\", \"POST\"]\n\
             headers = {{ x-tenant = \"a\" }}\ntimeout = \"3s\"\nupstream = \"origin\"\n"
        ));
    }
    let loaded = parse_str(&text).expect("it is as good as one of ten routes");
    assert_eq!(loaded.config.routes.len(), 15_000);
    let wrong = text.replace("\"14999.example\"", "14999");
    let failure = parse_str(&wrong).expect_err("a host is no number");
    let places: Vec<_> = failure.problems.iter().map(|problem| &*problem.key).collect();
    assert_eq!(places, ["routes[14999].hosts[0]"]);
}
