//! Programs in Python, which use client libraries that are not ours.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use witgate_tests::repository;

/// The Python that has this package. None where it is not installed.
pub(super) fn python(package: &str) -> Option<PathBuf> {
    let made = repository().join("target/python/bin/python");
    let python = std::env::var_os("PYTHON").map_or(made, PathBuf::from);
    let import = ["-c", &format!("import {package}")];
    let has_it = || Command::new(&python).args(import).stderr(Stdio::null()).status();
    if python.is_file() && has_it().is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "{package} is not installed, and in CI nothing is skipped");
    eprintln!("skipped: {package} is not installed for {}", python.display());
    None
}

/// Runs a program with one argument, and returns what it prints.
pub(super) fn run(python: &Path, program: &str, argument: &str) -> String {
    let mut command = Command::new(python);
    let output =
        command.args(["-c", program, argument]).stdin(Stdio::null()).output().expect("Python can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("the program prints text")
}
