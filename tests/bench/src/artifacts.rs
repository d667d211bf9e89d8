//! Builds the programs that are measured from source, in the release profile.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::process::printed;

/// The Rust target of components.
const COMPONENTS: &str = "wasm32-wasip2";

/// The root of the checkout.
fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/bench lies in the repository")
}

/// The gateway and the components that the measurements need.
pub(crate) struct Artifacts {
    pub(crate) gateway: PathBuf,
    /// The folder of the first-party plugins.
    pub(crate) components: PathBuf,
    /// A plugin that does nothing.
    pub(crate) idle: PathBuf,
}

/// The target folder of cargo.
pub(crate) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}

/// Builds the gateway in the release profile and returns its path.
pub(crate) fn release() -> Result<PathBuf> {
    cargo(&["build", "--release", "--workspace", "--bin", "witgate"])?;
    Ok(target().join("release/witgate"))
}

/// Adds the Rust target of components if rustup has not done so already.
pub(crate) fn ensure_component_target() -> Result<()> {
    if Path::new(&printed_by_rustc(&["target-libdir", "--target", COMPONENTS])?).is_dir() {
        return Ok(());
    }
    let added = tool("rustup").args(["target", "add", COMPONENTS]).status();
    ensure!(
        added.is_ok_and(|status| status.success()),
        "the Rust target {COMPONENTS} is missing and `rustup target add {COMPONENTS}` failed: add it by hand"
    );
    Ok(())
}

/// Builds the components for a gateway.
pub(crate) fn build(gateway: PathBuf) -> Result<Artifacts> {
    let target = target();
    let mut components = vec!["build", "--profile", "plugin", "--target", COMPONENTS];
    for package in
        ["witgate-plugin-jwt", "witgate-plugin-rate-limit", "witgate-plugin-canary", "witgate-plugin-headers"]
    {
        components.extend(["-p", package]);
    }
    cargo(&components)?;
    let guests = target.join("guests");
    let guests_folder = guests.to_str().context("the target folder's path is not UTF-8")?;
    let manifest = ["--manifest-path", "tests/guests/Cargo.toml", "--target-dir", guests_folder];
    cargo(
        &[&["build", "--release", "--target", COMPONENTS, "-p", "witgate-guest-idle"], &manifest[..]]
            .concat(),
    )?;
    Ok(Artifacts {
        gateway,
        components: target.join(COMPONENTS).join("plugin"),
        idle: guests.join(COMPONENTS).join("release/idle.wasm"),
    })
}

fn cargo(arguments: &[&str]) -> Result<()> {
    cargo_with(arguments, &[])
}

/// Runs cargo, with flags for the compiler if there are any.
pub(crate) fn cargo_with(arguments: &[&str], flags: &[String]) -> Result<()> {
    let mut command = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments);
    if !flags.is_empty() {
        // Flags in this variable may contain spaces, unlike those in `RUSTFLAGS`, because another character
        // separates them.
        command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    }
    let status = command.status().context("cargo")?;
    ensure!(status.success(), "cargo {} failed", arguments.join(" "));
    Ok(())
}

/// What `rustc --print` prints, for the default target unless another one is given.
pub(crate) fn printed_by_rustc(what: &[&str]) -> Result<String> {
    Ok(printed(tool("rustc").arg("--print").args(what))?.trim().into())
}

/// A command of the toolchain, run in the checkout, which selects the toolchain.
pub(crate) fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(repository());
    command
}
