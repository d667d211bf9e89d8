//! Builds what the quick start runs.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const PLUGINS: [&str; 4] = ["jwt", "rate-limit", "canary", "headers"];

/// Builds the gateway and says where its binary is.
pub(crate) fn gateway(repository: &Path) -> Result<PathBuf> {
    run(Command::new(cargo()).args(["build", "-p", "witgate"]).current_dir(repository))?;
    // This program lies beside it: same profile, same target folder.
    let own = std::env::current_exe().context("the path of this program")?;
    Ok(own.with_file_name("witgate"))
}

/// Builds the four plugins with `witgate plugin build` and puts them into the gateway's plugin folder.
pub(crate) fn plugins(repository: &Path, witgate: &Path) -> Result<()> {
    let folder = repository.join("target/quickstart/plugins");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for plugin in PLUGINS {
        run(Command::new(witgate)
            .args(["plugin", "build", "--out"])
            .arg(&folder)
            .current_dir(repository.join("plugins").join(plugin)))?;
    }
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
