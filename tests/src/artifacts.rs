//! The gateway and the components that the tests run, built from source during the test run.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// The root of the checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The gateway's binary, built once per test run, or the one that `WITGATE_BINARY` names.
///
/// It gets a second name, because the quick start, which a test runs, too, builds the gateway with its default
/// features at the path where cargo puts this one.
pub fn witgate() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(binary) = std::env::var_os("WITGATE_BINARY") {
            return keep(Path::new(&binary));
        }
        // The build selects the whole workspace, so that features are the same as in the tests and nothing is
        // built twice.
        let mut arguments = vec!["build", "--quiet", "--workspace", "--bin", "witgate"];
        if cfg!(feature = "full") {
            arguments.extend(["--features", "full"]);
        }
        cargo(&arguments, repository());
        keep(&target().join("debug").join("witgate"))
    })
}

/// Links a file atomically under a second name in a folder of the tests.
fn keep(file: &Path) -> PathBuf {
    let folder = target().join("tests");
    std::fs::create_dir_all(&folder).expect("the target folder can be written");
    let kept = folder.join(file.file_name().expect("a file has a name"));
    let aside = kept.with_extension(std::process::id().to_string());
    let linked = std::fs::hard_link(file, &aside).or_else(|_| std::fs::copy(file, &aside).map(drop));
    linked.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    std::fs::rename(&aside, &kept).expect("a file can be renamed in its folder");
    // If both names are the same file already, renaming leaves both of them.
    let _ = std::fs::remove_file(&aside);
    kept
}

/// Environment variables that let builds of components share compiled code: one target folder with one profile.
/// Without them the SDK and its dependencies would be compiled for each of the guests, the examples, the quick
/// start and the README's plugin.
///
/// Link-time optimisation is off, because with it the compilation of a dependency depends on the crate types of
/// its users, so guests and plugins could not share. The tests check what components do, not how fast they are.
pub fn shared_build() -> [(&'static str, String); 10] {
    let target = target().into_os_string().into_string().expect("the path of the target folder is UTF-8");
    [
        ("CARGO_TARGET_DIR", target),
        ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3".into()),
        ("CARGO_PROFILE_RELEASE_LTO", "false".into()),
        ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "4".into()),
        ("CARGO_PROFILE_RELEASE_DEBUG", "false".into()),
        ("CARGO_PROFILE_RELEASE_PANIC", "unwind".into()),
        ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo".into()),
        ("CARGO_PROFILE_DEV_OPT_LEVEL", "1".into()),
        ("CARGO_PROFILE_DEV_DEBUG", "false".into()),
        ("CARGO_PROFILE_DEV_BUILD_OVERRIDE_DEBUG", "false".into()),
    ]
}

/// A first-party plugin by the name of its folder, e.g. `jwt`, built as `witgate plugin build` does.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: OnceLock<Mutex<HashSet<String>>> = OnceLock::new();
    let mut built = BUILT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if built.insert(name.to_owned()) {
        ensure_wasm_target();
        build_components(&repository().join("plugins").join(name));
    }
    component(name)
}

/// A guest of the tests by the name of its folder in `tests/guests`, which is a workspace of its own.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        ensure_wasm_target();
        build_components(&repository().join("tests/guests"));
    });
    component(name)
}

/// Builds the components of the package or workspace in a folder.
fn build_components(folder: &Path) {
    cargo(&["build", "--quiet", "--release", "--target", "wasm32-wasip2"], folder);
}

/// The path at which cargo writes a component.
fn component(name: &str) -> PathBuf {
    target().join("wasm32-wasip2").join("release").join(file_name(name))
}

fn file_name(name: &str) -> String {
    format!("{}.wasm", name.replace('-', "_"))
}

/// Adds the WebAssembly target if rustup has not done so already.
fn ensure_wasm_target() {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", "wasm32-wasip2"])
        .current_dir(repository())
        .output()
        .expect("rustc can be run");
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    if folder.is_dir() {
        return;
    }
    let added = Command::new("rustup")
        .args(["target", "add", "wasm32-wasip2"])
        .current_dir(repository())
        .status()
        .is_ok_and(|status| status.success());
    assert!(
        added,
        "the Rust target wasm32-wasip2 is missing and `rustup target add wasm32-wasip2` failed: \
         install it by hand, then run the tests again"
    );
}

fn cargo(arguments: &[&str], folder: &Path) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(folder);
    if folder != repository() {
        command.envs(shared_build());
    }
    let status = command.status().expect("cargo can be run");
    assert!(status.success(), "cargo could not build what the tests run");
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
