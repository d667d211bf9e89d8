//! Compiling in a child process: the result, and the message if there is none.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use witgate_config::model::CompileLimits;
use witgate_tests::{guest, hostile, witgate};
use witgate_wasm::{Compiling, Reason};

use crate::scene::{Scene, config, tell};

fn scene(program: &Path) -> Scene {
    Scene::compiling(Compiling::Child { program: program.to_owned() }, None)
}

fn limits(wall: u64) -> CompileLimits {
    CompileLimits { wall: Duration::from_secs(wall), ..CompileLimits::default() }
}

/// A program with this shell script, in place of the one that compiles.
fn program(folder: &Path, script: &str) -> std::path::PathBuf {
    let path = folder.join("program");
    // Written by another process, because a file that this process has open for writing, in any thread, cannot be
    // executed.
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" > \"$1\" && chmod 700 \"$1\"";
    let written = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(script).status();
    assert!(written.unwrap().success());
    path
}

#[test]
fn what_a_child_compiles_runs_here_and_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Some(folder.path().join("code"));
    let bytes = std::fs::read(guest("probe")).unwrap();
    let config = config("grants.store = [\"space\"]", "");
    let child = Compiling::Child { program: witgate().to_owned() };
    let loaded = Scene::compiling(child, cache.clone()).prepare(&bytes, &config).expect("it loads");
    assert_eq!(tell(&loaded, "keep", "mine"), Ok("kept".into()));
    // If the cache has an entry, no child is started; the program of this one does not exist.
    let nobody = Compiling::Child { program: "/nonexistent".into() };
    assert!(Scene::compiling(nobody, cache).prepare(&bytes, &config).is_ok());
}

#[test]
fn a_child_tells_what_is_wrong_with_a_component() {
    let scene = scene(witgate());
    let mut damaged = hostile::hollow();
    let body = damaged.windows(4).position(|bytes| bytes == [4, 1, 2, 0]).expect("the code section");
    damaged[body + 4] = 0x0f;
    let refusal = scene.runtime.compile(&damaged).err().expect("it is refused");
    assert_eq!(refusal.reason, Reason::Malformed, "{refusal}");
    assert!(refusal.to_string().contains("damaged at byte"), "{refusal}");
    assert!(scene.runtime.compile(&hostile::hollow()).is_ok(), "it is valid, and of no use to a binding");
}

#[test]
fn a_child_that_does_not_answer_is_told_from_one_that_cannot_be_started() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("exit 0", "sent no reply"),
        ("echo a word >&2; exit 7", "exit status: 7): a word"),
        ("head -c 100 /dev/zero", "sent no reply"),
        ("kill -9 $$", "ended from outside"),
        ("kill -11 $$", "the compiler crashed on it"),
        ("echo 'memory allocation of 8 bytes failed' >&2; kill -6 $$", "more than 4096 MiB of memory"),
    ];
    for (script, expected) in cases {
        let scene = scene(&program(folder.path(), script));
        let refusal = scene.runtime.compile(&hostile::hollow()).err().expect("it is refused");
        assert_eq!(refusal.reason, Reason::Compile);
        assert!(refusal.to_string().contains(expected), "{script}: {refusal}");
    }
    let refusal = scene(Path::new("/nonexistent")).runtime.compile(&hostile::hollow()).err().unwrap();
    assert!(refusal.to_string().contains("no process can be started"), "{refusal}");
}

#[test]
fn a_child_that_takes_too_long_is_ended_and_collected() {
    let folder = tempfile::tempdir().unwrap();
    // The child neither reads nor writes nor ends, and the component does not fit into a pipe.
    let scene = scene(&program(folder.path(), "echo $$ > \"$0.pid\"; exec sleep 1000"));
    scene.runtime.set_limits(limits(2));
    let begun = Instant::now();
    let refusal = scene.runtime.compile(&hostile::loops(100, 20_000)).err().expect("it is refused");
    assert!(refusal.to_string().contains("more than 2 s and was ended"), "{refusal}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let child = std::fs::read_to_string(folder.path().join("program.pid")).unwrap();
    assert!(!Path::new(&format!("/proc/{}", child.trim())).exists(), "neither running nor a zombie");
}

#[test]
fn a_child_that_takes_too_much_is_ended_by_the_system_and_says_why() {
    let scene = scene(witgate());
    let much = hostile::loops(20_000, 20_000);
    // The allocator reserves this much at its start; allocations beyond that fail.
    scene.runtime.set_limits(CompileLimits { memory: 1 << 30, ..limits(600) });
    let refusal = scene.runtime.compile(&much).err().expect("it is refused");
    assert!(refusal.to_string().contains("more than 1024 MiB of memory"), "{refusal}");
    scene.runtime.set_limits(CompileLimits { cpu: Duration::from_secs(1), ..limits(600) });
    let refusal = scene.runtime.compile(&much).err().expect("it is refused");
    assert!(refusal.to_string().contains("more than 1 s of CPU time"), "{refusal}");
}

#[test]
fn a_refusal_is_remembered_until_it_is_asked_for_again_or_the_limits_change() {
    let folder = tempfile::tempdir().unwrap();
    let scene = scene(&program(folder.path(), "echo >> \"$0.runs\"; kill -11 $$"));
    let runs =
        || std::fs::read_to_string(folder.path().join("program.runs")).unwrap_or_default().lines().count();
    let compile = || scene.runtime.compile(&hostile::hollow()).err().expect("it is refused").to_string();
    let first = compile();
    assert_eq!((compile(), runs()), (first.clone(), 1), "the same words, without another child");
    scene.runtime.forget_refused();
    assert_eq!((compile(), runs()), (first.clone(), 2));
    scene.runtime.set_limits(CompileLimits::default());
    assert_eq!((compile(), runs()), (first.clone(), 2), "they are what they were");
    scene.runtime.set_limits(limits(10));
    assert_eq!((compile(), runs()), (first, 3));
    // A failure that the component did not cause is tried again without a request.
    let scene = self::scene(Path::new("/nonexistent"));
    for _ in 0..2 {
        assert!(scene.runtime.compile(&hostile::hollow()).is_err());
    }
    let scene = self::scene(&program(folder.path(), "echo >> \"$0.other\"; exit 1"));
    for _ in 0..2 {
        assert!(scene.runtime.compile(&hostile::hollow()).is_err());
    }
    assert_eq!(std::fs::read_to_string(folder.path().join("program.other")).unwrap().lines().count(), 2);
}
