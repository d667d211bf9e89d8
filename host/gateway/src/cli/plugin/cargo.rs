//! How the plugin commands build: cargo for `wasm32-wasip2`, which is added where it is missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::{Exit, Failure};

/// The target whose output is a component.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// Builds the crate in a folder and puts the component where its author looks for it: `target/NAME.wasm` in that
/// folder.
///
/// # Errors
/// There is no crate, no target, or the build fails; cargo has said why by then.
pub(super) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = folder.join("Cargo.toml");
    if !manifest.is_file() {
        let message = format!(
            "{} is not there: run this in a plugin's folder, or say which by --path",
            manifest.display()
        );
        return Err(Failure::new(Exit::Failure, message));
    }
    ensure_target(folder)?;
    let output = cargo()
        .args(["build", "--release", "--target", TARGET, "--message-format", "json-render-diagnostics"])
        // What only a debugger reads is many times the size of the code, and a gateway would load it with every swap.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(Exit::Failure, format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(Exit::Failure, "the plugin does not build"));
    }
    let component = component_in(&String::from_utf8_lossy(&output.stdout), &manifest).ok_or_else(|| {
        let hint = "is `crate-type = [\"cdylib\"]` set under [lib] in Cargo.toml?";
        Failure::new(Exit::Failure, format!("the build made no component: {hint}"))
    })?;
    keep(&component, folder)
}

/// The cargo that runs this process, if one does; otherwise the one in the search path.
pub(super) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Makes sure that the WebAssembly target is installed for the toolchain that a folder uses.
///
/// # Errors
/// It is not and cannot be added. The message says what to do.
pub(super) fn ensure_target(folder: &Path) -> Result<(), Failure> {
    if target_is_installed(folder)? {
        return Ok(());
    }
    eprintln!("adding the Rust target {TARGET} …");
    let added = Command::new("rustup").args(["target", "add", TARGET]).current_dir(folder).status();
    if added.is_ok_and(|status| status.success()) {
        return Ok(());
    }
    let message = format!(
        "the Rust target {TARGET} is missing and could not be added.\n\
         With rustup:        rustup target add {TARGET}\n\
         Without rustup:     install the package of your system that holds the Rust standard library for {TARGET}"
    );
    Err(Failure::new(Exit::Failure, message))
}

fn target_is_installed(folder: &Path) -> Result<bool, Failure> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(folder)
        .output()
        .map_err(|error| Failure::new(Exit::Failure, format!("rustc cannot be run: {error}")))?;
    Ok(output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}

/// Finds the component in what cargo tells about its artifacts, one JSON object a line.
fn component_in(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let manifest = manifest.canonicalize().ok()?;
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let ours = artifacts.filter(|message| {
        message["reason"] == "compiler-artifact" && message["manifest_path"].as_str() == manifest.to_str()
    });
    let files: Vec<PathBuf> = ours
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| Some(PathBuf::from(name.as_str()?)))
        .collect();
    files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// Copies beside and renames, so that a gateway that watches never sees half of it.
fn keep(component: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let target = folder.join("target");
    let place = target.join(component.file_name().unwrap_or_default());
    let aside = place.with_extension("wasm.new");
    std::fs::create_dir_all(&target)
        .and_then(|()| std::fs::copy(component, &aside))
        .and_then(|_| std::fs::rename(&aside, &place))
        .map_err(|error| {
            Failure::new(Exit::Failure, format!("{} cannot be written: {error}", place.display()))
        })?;
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_found_among_the_artifacts_of_this_crate_only() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("Cargo.toml");
        std::fs::write(&manifest, "").unwrap();
        let artifact = |manifest: &Path, file: &str| {
            serde_json::json!({"reason": "compiler-artifact", "manifest_path": manifest, "filenames": [file]})
                .to_string()
        };
        let ours = manifest.canonicalize().unwrap();
        let messages = [
            artifact(Path::new("/elsewhere/Cargo.toml"), "/t/other.wasm"),
            "not JSON".to_owned(),
            artifact(&ours, "/t/libours.rlib"),
            artifact(&ours, "/t/ours.wasm"),
        ];
        assert_eq!(component_in(&messages.join("\n"), &manifest), Some(PathBuf::from("/t/ours.wasm")));
        assert_eq!(component_in(&messages[..3].join("\n"), &manifest), None);
    }
}
