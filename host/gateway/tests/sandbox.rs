//! `witgate plugin test --sandbox`, with cargo and the built binary.

use std::path::Path;
use std::process::{Command, Output};

use witgate_tests::{Scratch, repository};

fn test_in_sandbox(plugin: &Path, target: &Path) -> (Output, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_witgate"))
        .args(["plugin", "test", "--sandbox", "--path"])
        .arg(plugin)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .expect("the binary can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    eprintln!("{text}{}", String::from_utf8_lossy(&output.stderr));
    (output, text)
}

#[test]
fn the_tests_of_a_plugin_pass_as_webassembly_too() {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), Into::into);
    let (output, text) = test_in_sandbox(&repository().join("plugins/headers"), &target);
    assert!(output.status.success());
    assert!(text.contains("tests in the sandbox (headers-"), "the test binary is named");
    let tests = include_str!("../../../plugins/headers/src/tests.rs").matches("#[test]").count();
    assert_eq!(text.matches(" ... ok\n").count(), tests, "each test is run, and passes");
    assert!(text.contains(&format!("test result: ok. {tests} passed; 0 failed; 0 ignored")));
}

/// Tests of every kind that a runner must tell apart. The loop and the file come before what must still run.
const TESTS: &str = r#"
#[test]
fn a_panics() {
    assert_eq!(1 + 1, 3, "arithmetic is as usual");
}

#[test]
fn b_never_ends_its_memory() {
    let mut kept = Vec::new();
    loop {
        kept.push(vec![1_u8; 1 << 20]);
    }
}

#[test]
fn c_returns_an_error() -> Result<(), String> {
    Err("it went wrong".to_owned())
}

#[test]
fn d_finds_no_files_and_no_environment() {
    assert!(std::fs::read("/etc/hostname").is_err());
    assert!(std::env::vars().next().is_none());
}

#[test]
#[ignore]
fn e_is_ignored() {
    panic!("it is not to be run");
}

#[test]
#[should_panic]
fn f_is_to_panic() {
    panic!("no instance outlives this");
}

#[test]
fn g_passes() {
    println!("what passes is not printed");
    assert!(cfg!(target_family = "wasm"));
}
"#;

/// A crate whose `witgate-sdk` is empty, so that it builds in a moment.
fn write_crate(scratch: &Scratch) {
    let manifest = |name: &str, rest: &str| {
        format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n{rest}")
    };
    for folder in ["src", "sdk/src"] {
        std::fs::create_dir_all(scratch.path().join(folder)).expect("the scratch folder can be written");
    }
    scratch.write("sdk/Cargo.toml", manifest("witgate-sdk", "[features]\ntest = []\n"));
    scratch.write("sdk/src/lib.rs", "");
    let dependency = "[dependencies]\nwitgate-sdk = { path = \"sdk\" }\n[workspace]\n";
    scratch.write("Cargo.toml", manifest("mixed", dependency));
    scratch.write("src/lib.rs", TESTS);
}

#[test]
fn a_test_that_fails_is_reported_and_the_others_still_run() {
    let scratch = Scratch::new();
    write_crate(&scratch);
    let (output, text) = test_in_sandbox(scratch.path(), &scratch.path().join("target"));
    assert_eq!(output.status.code(), Some(1));
    for line in [
        "test a_panics ... FAILED",
        "test b_never_ends_its_memory ... FAILED",
        "test c_returns_an_error ... FAILED",
        "test d_finds_no_files_and_no_environment ... ok",
        "test e_is_ignored ... ignored",
        "test f_is_to_panic ... ignored",
        "test g_passes ... ok",
        "---- a_panics ----",
        "arithmetic is as usual",
        "ended by the gateway: memory",
        "it went wrong",
        "test result: FAILED. 2 passed; 3 failed; 2 ignored",
    ] {
        assert!(text.contains(line), "`{line}` is missing");
    }
    assert!(!text.contains("what passes is not printed"));
}
