//! Builds the programs that the quick start runs, and prepares its folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const PLUGINS: [&str; 4] = ["jwt", "rate-limit", "canary", "headers"];

/// Builds the gateway and returns the path of its binary.
pub(crate) fn gateway(repository: &Path) -> Result<PathBuf> {
    run(Command::new(cargo()).args(["build", "--workspace", "--bin", "witgate"]).current_dir(repository))?;
    // The binary is in the same folder as this program: both have the same profile and target folder.
    let own = std::env::current_exe().context("the path of this program")?;
    Ok(own.with_file_name("witgate"))
}

/// Makes `target/quickstart`: the configuration, which may be edited there while the gateway runs, and four
/// plugins, built with `witgate plugin build`.
pub(crate) fn folder(repository: &Path, witgate: &Path) -> Result<PathBuf> {
    let folder = repository.join("target/quickstart");
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).with_context(|| format!("cannot make {}", plugins.display()))?;
    copy(&repository.join("examples/quickstart/witgate.toml"), &folder.join("witgate.toml"))?;
    for plugin in PLUGINS {
        let source = repository.join("plugins").join(plugin);
        run(Command::new(witgate).args(["plugin", "build", "--path"]).arg(&source))?;
        let component = format!("{}.wasm", plugin.replace('-', "_"));
        copy(&source.join("target").join(&component), &plugins.join(&component))?;
    }
    Ok(folder)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}

fn cargo() -> std::ffi::OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}
