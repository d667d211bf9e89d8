//! The gateway as it is meant to be shipped: compiled twice, the second time by what the first one did under load
//! (profile-guided optimisation).
//!
//! The first build counts how often each part of the code runs. Loads of the kinds that the rows measure train it, and
//! others (new connections, many headers, plugins with nothing remembered) beside them. The second build moves what is
//! seldom run out of the way and inlines what is often run, over the borders of all crates. Where `llvm-bolt` is
//! installed, the program is watched under the same loads once more and then arranged, see [`crate::arranged`].

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};

use crate::arranged::{Bolt, LINKED};
use crate::artifacts;
use crate::bench::Bench;
use crate::load::{Load, Script};
use crate::origin;
use crate::peers::{OURS, on_path};
use crate::scene::{Inbound, Plugins, Scene};

/// Seconds of each load. A program that counts is slow, and some thousands of requests say enough.
const SECONDS: u32 = 2;

/// Builds it, and trains it unless that was done since the code changed. Gives its path, and what it is.
///
/// # Errors
/// A build fails, a tool is missing (nginx, wrk, h2load, `llvm-profdata`), or a load is not answered.
pub(crate) fn build() -> Result<(PathBuf, &'static str)> {
    eprintln!(
        "the gateway is compiled, trained, and compiled again where its code has changed, which takes a while; \
         --untrained measures what `cargo build --release` gives"
    );
    for program in ["nginx", "wrk", "h2load"] {
        ensure!(on_path(program).is_some(), "{program} is missing: the gateway is trained with it");
    }
    let folder = artifacts::target().join("trained");
    let counts = folder.join("counts");
    let tool = llvm_profdata()?;
    let host = artifacts::printed_by_rustc(&["host-tuple"])?;
    let bolt = Bolt::find();
    let counting =
        compile(&host, &folder.join("counting"), &[format!("-Cprofile-generate={}", counts.display())])?;
    let profiles = folder.join("profiles");
    let profile = profiles.join(format!("{}.profdata", built_at(&counting)?));
    if !profile.exists() {
        train(&counting, &counts)?;
        // The profile of a program that is gone is of no more use.
        empty(&profiles)?;
        let merged = Command::new(&tool).arg("merge").arg("-o").arg(&profile).arg(&counts).status();
        ensure!(merged.with_context(|| tool.display().to_string())?.success(), "{} failed", tool.display());
    }
    let mut flags = vec![format!("-Cprofile-use={}", profile.display())];
    flags.extend(bolt.is_some().then(|| LINKED.into()));
    let counted = compile(&host, &folder.join("counted"), &flags)?;
    let Some(bolt) = bolt else {
        eprintln!("llvm-bolt is missing: the code of the trained gateway stays where the linker has put it");
        return Ok((counted, "trained build"));
    };
    Ok((arrange(&bolt, &counted, &folder)?, "trained build, arranged by llvm-bolt"))
}

/// Watches the gateway under the same loads, and arranges it, unless that was done since it was built.
fn arrange(bolt: &Bolt, counted: &Path, folder: &Path) -> Result<PathBuf> {
    let place = folder.join("arranged");
    let (watched, arranged) = (place.join("watched"), place.join("witgate"));
    if !arranged.exists() || built_at(&arranged)? < built_at(counted)? {
        fs::create_dir_all(&place)?;
        let ways = place.join("ways");
        empty(&ways)?;
        bolt.watch(counted, &ways, &watched)?;
        lead(&watched)?;
        bolt.arrange(counted, &ways, &arranged)?;
    }
    Ok(arranged)
}

/// Builds the gateway in a folder of its own, so that neither build undoes the other. The target is named so that cargo
/// leaves the programs alone that it runs during the build.
fn compile(host: &str, folder: &Path, flags: &[String]) -> Result<PathBuf> {
    let target = folder.to_str().context("the target folder's path is not UTF-8")?;
    let mut arguments = vec!["build", "--profile", "trained", "--workspace", "--bin", "witgate"];
    arguments.extend(["--target", host, "--target-dir", target]);
    artifacts::cargo_with(&arguments, flags)?;
    Ok(folder.join(host).join("trained").join("witgate"))
}

/// When a program was built, in nanoseconds since 1970: cargo knows a profile by its path only, so that the profile of
/// another program has another name.
fn built_at(program: &Path) -> Result<u128> {
    Ok(fs::metadata(program)?.modified()?.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())
}

/// Loads the counting program; it writes its counts when it ends.
fn train(counting: &Path, counts: &Path) -> Result<()> {
    empty(counts)?;
    lead(counting)
}

/// A folder without files.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(fs::create_dir(folder)?),
    }
}

/// Leads a program through every lesson.
fn lead(program: &Path) -> Result<()> {
    let bench = Bench::prepare(1, SECONDS, None, (program.into(), "build in training"))?;
    for (scene, load) in lessons(&bench)? {
        eprintln!("training: {scene:?}");
        let running = bench.start(OURS, &scene)?.context("the program that counts is missing")?;
        let done = load.run(running.address, SECONDS)?;
        ensure!(done.requests > 0 && done.failed == 0, "{done:?} in {scene:?}");
    }
    Ok(())
}

/// What it is trained with.
fn lessons(bench: &Bench) -> Result<Vec<(Scene, Load)>> {
    let plain = Scene::plain(bench.origin.address);
    let with = |plugins| Scene { plugins, ..plain.clone() };
    let from = |inbound| Scene { inbound, ..plain.clone() };
    let keep_alive = |tls, path, headers| Load::KeepAlive { tls, path, script: Script::None, headers };
    let fresh = Load::scripted(Script::FreshTokens(bench.tokens.clone()));
    let seen = Load::scripted(Script::File(bench.tokens.seen.clone()));
    Ok(vec![
        (plain.clone(), Load::plain()),
        (plain.clone(), keep_alive(false, origin::LARGE, 0)),
        (plain.clone(), keep_alive(false, "/", 30)),
        (plain.clone(), Load::NewConnections { tls: None }),
        (from(Inbound::Tls), keep_alive(true, "/", 0)),
        (from(Inbound::Tls), Load::NewConnections { tls: Some(bench.certificate.client()?) }),
        (from(Inbound::Http2), Load::Http2),
        (Scene::grpc(bench.grpc), Load::grpc(bench.folder())?),
        (with(Plugins::Chain { remember: true }), fresh.clone()),
        (with(Plugins::Chain { remember: true }), seen),
        (with(Plugins::Chain { remember: false }), fresh),
    ])
}

/// The tool of the compiler's own version; rustup adds it where it is missing.
fn llvm_profdata() -> Result<PathBuf> {
    let tool = Path::new(&artifacts::printed_by_rustc(&["target-libdir"])?)
        .with_file_name("bin")
        .join("llvm-profdata");
    if !tool.exists() {
        let added = artifacts::tool("rustup").args(["component", "add", "llvm-tools"]).status();
        ensure!(
            added.is_ok_and(|status| status.success()) && tool.exists(),
            "llvm-profdata is missing and `rustup component add llvm-tools` failed: add that component by hand, or \
             measure what `cargo build --release` gives with --untrained"
        );
    }
    Ok(tool)
}
