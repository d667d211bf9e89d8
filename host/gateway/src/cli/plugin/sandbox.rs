//! `witgate plugin test --sandbox`: tests as WebAssembly, in the engine of the gateway.
//!
//! A panic ends the instance, and with it all tests that would come after it. So the test executable first lists
//! its tests, and each of them runs in an instance of its own.

use std::fmt::Display;
use std::path::Path;

use witgate_config::file;
use witgate_wasm::{RunOutcome, Trial};

use super::cargo;
use crate::cli::output::say;
use crate::exit::{Exit, ExitResult, Failure};

/// The largest test executable, in bytes. It is not optimised and contains debug information for panics.
const TESTS: u64 = 4 * file::PLUGIN;

/// The results of the tests.
#[derive(Default)]
struct Tally {
    passed: usize,
    ignored: usize,
    /// Names and outputs of the failed tests.
    failed: Vec<(String, String)>,
}

/// Builds and runs the tests of the plugin in a folder.
///
/// # Errors
/// They do not build, or a test fails.
pub(super) fn run(folder: &Path) -> ExitResult {
    let mut tally = Tally::default();
    for binary in cargo::build_tests(folder)? {
        run_binary(&binary, &mut tally)?;
    }
    say(&summary(&tally))?;
    if tally.failed.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Exit::Failure, "the tests fail in the sandbox"))
}

fn run_binary(binary: &Path, tally: &mut Tally) -> ExitResult {
    let failure = |why: &dyn Display| Failure::new(Exit::Failure, format!("{}: {why}", binary.display()));
    let bytes = file::read(binary, TESTS).map_err(|error| failure(&error))?;
    let trial = Trial::new(&bytes).map_err(|error| failure(&error))?;
    let list = trial.run(&["--list", "--format", "terse"]).map_err(|error| failure(&error))?;
    if !list.succeeded {
        return Err(failure(&format!("it does not list its tests\n{}", told(&list))));
    }
    let names = tests_in(&list.output);
    let file = binary.file_name().unwrap_or_default().to_string_lossy();
    say(&format!("\nrunning {} tests in the sandbox ({file})\n", names.len()))?;
    for name in names {
        say(&format!("test {name} ... "))?;
        let arguments = ["--exact", name, "--nocapture", "--test-threads", "1"];
        let ending = trial.run(&arguments).map_err(|error| failure(&error))?;
        let word = if !ending.succeeded {
            tally.failed.push((name.to_owned(), told(&ending)));
            "FAILED"
        } else if is_ignored(&ending.output, name) {
            tally.ignored += 1;
            "ignored"
        } else {
            tally.passed += 1;
            "ok"
        };
        say(&format!("{word}\n"))?;
    }
    Ok(())
}

/// The names in the list that a test executable prints, one per line.
fn tests_in(list: &str) -> Vec<&str> {
    list.lines().filter_map(|line| line.strip_suffix(": test")).collect()
}

/// Whether a test was skipped: by its author, or because it expects a panic, which ends the instance.
fn is_ignored(output: &str, name: &str) -> bool {
    let begin = format!("test {name} ");
    output.lines().any(|line| line.starts_with(&begin) && line.contains("... ignored"))
}

/// The output of a failed run.
fn told(ending: &RunOutcome) -> String {
    let output = ending.output.trim();
    ending.trap.as_ref().map_or_else(|| output.to_owned(), |trap| format!("{output}\n{trap}"))
}

fn summary(tally: &Tally) -> String {
    let Tally { passed, ignored, failed } = tally;
    let outputs: String = failed.iter().map(|(name, told)| format!("\n---- {name} ----\n{told}\n")).collect();
    let names: String = failed.iter().map(|(name, _)| format!("    {name}\n")).collect();
    let (heading, result) = if failed.is_empty() { ("", "ok") } else { ("\nfailures:\n", "FAILED") };
    let count = failed.len();
    format!(
        "{outputs}{heading}{names}\ntest result: {result}. {passed} passed; {count} failed; {ignored} ignored, \
         in the sandbox\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_a_test_binary_is_names_and_kinds() {
        assert_eq!(tests_in("a::b: test\nslow: benchmark\n\nc: test\n"), ["a::b", "c"]);
    }

    #[test]
    fn what_was_passed_over_is_known_by_its_line() {
        assert!(is_ignored("running 1 test\ntest a - should panic ... ignored\n", "a"));
        assert!(is_ignored("running 1 test\ntest a ... ignored, too slow\n", "a"));
        assert!(!is_ignored("running 1 test\ntest ab ... ignored\ntest a ... ok\n", "a"));
    }
}
