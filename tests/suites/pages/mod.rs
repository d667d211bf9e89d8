//! Checks that the generated pages of the book match the code.
//!
//! Each page in `docs/src/reference` is generated from the one source of its facts (the published schema, a table,
//! the metrics of a gateway), and its test compares it with the file. After an intended change,
//! `WITGATE_BLESS=1 cargo test -p witgate-tests --test suites pages` writes the pages again.

mod access_log;
mod brokers;
mod configuration;
mod faults;
mod kinds;
mod markdown;
mod metrics;

use witgate_tests::repository;

/// Compares a page with its file in `docs/src/reference`, or writes the file if `WITGATE_BLESS` is set.
fn hold(page: &str, text: &str) {
    let path = repository().join("docs/src/reference").join(page);
    if std::env::var_os("WITGATE_BLESS").is_some() {
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let line = committed.lines().zip(text.lines()).position(|(left, right)| left != right);
    assert!(
        committed == text,
        "docs/src/reference/{page} is out of date from line {}; if the change is meant, run\n\
         WITGATE_BLESS=1 cargo test -p witgate-tests --test suites pages",
        line.map_or_else(|| committed.lines().count().min(text.lines().count()) + 1, |line| line + 1)
    );
}

/// The first lines of a generated page.
fn head(title: &str, source: &str) -> String {
    format!("<!-- Generated from {source} by tests/suites/pages. Do not edit by hand. -->\n\n# {title}\n\n")
}
