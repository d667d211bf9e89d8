//! Runs cargo for the plugin commands, with the target `wasm32-wasip2`, which is installed if it is missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::exit::{Exit, Failure};

/// The target whose output is a component.
pub(super) const TARGET: &str = "wasm32-wasip2";

/// Builds the crate in a folder and copies the component to `target/NAME.wasm` in that folder.
///
/// # Errors
/// There is no crate, no target, or the build fails; cargo has printed the reason by then.
pub(super) fn build(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = manifest(folder)?;
    let messages = messages(folder, &["build", "--release"], "the plugin does not build")?;
    let component = component_in(&messages, &manifest).ok_or_else(|| {
        let hint = "is `crate-type = [\"cdylib\"]` set under [lib] in Cargo.toml?";
        Failure::new(Exit::Failure, format!("the build made no component: {hint}"))
    })?;
    keep(&component, folder)
}

/// Builds the tests of the crate in a folder as components, with the SDK's mocks in them. One component for each of
/// Cargo's test binaries: the library's unit tests, and every file in `tests`.
///
/// # Errors
/// As [`build`].
pub(super) fn build_tests(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    manifest(folder)?;
    let arguments = ["test", "--no-run", "--features", "witgate-sdk/test"];
    Ok(test_binaries_in(&messages(folder, &arguments, "the tests do not build")?))
}

fn manifest(folder: &Path) -> Result<PathBuf, Failure> {
    let manifest = folder.join("Cargo.toml");
    if manifest.is_file() {
        return Ok(manifest);
    }
    let hint = "run this in a plugin's folder, or give the folder with --path";
    Err(Failure::new(Exit::Failure, format!("{} does not exist: {hint}", manifest.display())))
}

/// Runs cargo for [`TARGET`] and returns its messages about artifacts. Errors are printed by cargo itself.
fn messages(folder: &Path, arguments: &[&str], failed: &str) -> Result<String, Failure> {
    ensure_target(folder)?;
    let output = cargo()
        .args(arguments)
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
        // Debug information is many times the size of the code, and a gateway would load it with every swap.
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
        .current_dir(folder)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| Failure::new(Exit::Failure, format!("cargo cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(Failure::new(Exit::Failure, failed));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs this process, if one does; otherwise the one in the search path.
pub(super) fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Makes sure that the WebAssembly target is installed for the toolchain of a folder.
///
/// # Errors
/// It is missing and cannot be installed. The message says what to do.
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

/// Finds the component in cargo's messages about artifacts, one JSON object per line.
fn component_in(messages: &str, manifest: &Path) -> Option<PathBuf> {
    let manifest = manifest.canonicalize().ok()?;
    let ours = artifacts(messages).filter(|message| message["manifest_path"].as_str() == manifest.to_str());
    let files: Vec<PathBuf> = ours
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
        .filter_map(|name| Some(PathBuf::from(name.as_str()?)))
        .collect();
    files.into_iter().find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
}

/// The test executables among the artifacts.
fn test_binaries_in(messages: &str) -> Vec<PathBuf> {
    artifacts(messages)
        .filter(|message| message["profile"]["test"] == true)
        .filter_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
        .collect()
}

fn artifacts(messages: &str) -> impl Iterator<Item = serde_json::Value> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    messages.filter(|message| message["reason"] == "compiler-artifact")
}

/// Copies to a temporary name and renames, so that a gateway that watches the file never reads half of it.
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

    #[test]
    fn the_test_binaries_are_those_that_were_built_to_test() {
        let artifact = |test: bool, executable: Option<&str>| {
            let profile = serde_json::json!({ "test": test });
            serde_json::json!({"reason": "compiler-artifact", "profile": profile, "executable": executable})
                .to_string()
        };
        let messages = [
            artifact(false, Some("/t/tool.wasm")),
            artifact(true, None),
            artifact(true, Some("/t/a-1.wasm")),
        ];
        assert_eq!(test_binaries_in(&messages.join("\n")), [PathBuf::from("/t/a-1.wasm")]);
    }
}
