//! The gateway as it is shipped: compiled twice, the second time with a profile of the first build under load
//! (profile-guided optimisation).
//!
//! The first build counts how often each part of the code runs. It is trained with the kinds of load that the rows
//! measure, and with others: new connections, many headers, plugins without remembered results. The second build
//! moves code that rarely runs aside and inlines code that runs often, across all crates. If `llvm-bolt` is
//! installed, the result is recorded under the same loads and then arranged, see [`crate::arranged`].

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

/// Seconds of each load. The instrumented program is slow, but some thousands of requests are enough.
const SECONDS: u32 = 2;

/// Builds and trains the gateway, unless that was done since the code last changed. Returns its path and a
/// description.
///
/// # Errors
/// A build fails, a tool is missing (nginx, wrk, h2load, `llvm-profdata`), or a load fails.
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
        // The profiles of earlier builds are of no use any more.
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

/// Records the gateway under the same loads and arranges it, unless that was done since it was built.
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

/// Builds the gateway in a folder of its own, so that the builds do not replace each other. The target is named,
/// so that the flags do not apply to the programs that cargo runs during the build.
fn compile(host: &str, folder: &Path, flags: &[String]) -> Result<PathBuf> {
    let target = folder.to_str().context("the target folder's path is not UTF-8")?;
    let mut arguments = vec!["build", "--profile", "trained", "--workspace", "--bin", "witgate"];
    arguments.extend(["--target", host, "--target-dir", target]);
    artifacts::cargo_with(&arguments, flags)?;
    Ok(folder.join(host).join("trained").join("witgate"))
}

/// When a program was built, in nanoseconds since 1970. It becomes part of the profile's name, because cargo
/// rebuilds only if the path of the profile changes.
fn built_at(program: &Path) -> Result<u128> {
    Ok(fs::metadata(program)?.modified()?.duration_since(SystemTime::UNIX_EPOCH)?.as_nanos())
}

/// Runs the instrumented program under load; it writes its counts when it ends.
fn train(counting: &Path, counts: &Path) -> Result<()> {
    empty(counts)?;
    lead(counting)
}

/// Makes an empty folder.
fn empty(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(fs::create_dir(folder)?),
    }
}

/// Runs a program through all training loads.
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

/// The scenes and loads of the training.
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

/// The tool of the compiler's own version; rustup adds it if it is missing.
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
