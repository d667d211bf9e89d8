//! `wit/REFERENCE.md` is what `witgate plugin reference` prints.
//!
//! `WITGATE_WRITE_REFERENCE=1 cargo test -p witgate --test reference` brings it up to date.

use std::path::Path;
use std::process::Command;

#[test]
fn the_reference_manual_says_what_the_wit_says() {
    let output = Command::new(env!("CARGO_BIN_EXE_witgate")).args(["plugin", "reference"]).output();
    let output = output.expect("the binary can be run");
    assert!(output.status.success());
    let manual = String::from_utf8(output.stdout).expect("text");
    let place = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit/REFERENCE.md");
    if std::env::var_os("WITGATE_WRITE_REFERENCE").is_some() {
        std::fs::write(&place, &manual).expect("the manual can be written");
    }
    let committed = std::fs::read_to_string(&place).unwrap_or_default();
    assert!(
        committed == manual,
        "wit/REFERENCE.md is out of date: run WITGATE_WRITE_REFERENCE=1 cargo test -p witgate --test reference"
    );
}
