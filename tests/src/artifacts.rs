//! What the tests run: the gateway and the components, built from source by the test run itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The root of the checkout.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ lies in the repository")
}

/// The gateway's binary, built once per test run.
pub fn witgate() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        // The whole workspace decides about features: what the tests have built is not built again.
        cargo(&["build", "--quiet", "--workspace", "--bin", "witgate"]);
        target().join("debug").join("witgate")
    })
}

/// A first-party plugin by its folder's name, e.g. `jwt`.
pub fn plugin(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let mut arguments: Vec<String> =
            ["build", "--quiet", "--profile", "plugin", "--target", "wasm32-wasip2"].map(String::from).into();
        for entry in std::fs::read_dir(repository().join("plugins")).expect("the plugins' folder") {
            let folder = entry.expect("the plugins' folder can be read").file_name();
            arguments.extend(["--package".into(), format!("witgate-plugin-{}", folder.to_string_lossy())]);
        }
        ensure_wasm_target();
        cargo(&arguments);
    });
    target().join("wasm32-wasip2").join("plugin").join(file_name(name))
}

/// A guest of the tests by its folder's name under `tests/guests`, a workspace of its own.
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let target = target().join("guests");
        let manifest = repository().join("tests/guests/Cargo.toml");
        let arguments: [&std::ffi::OsStr; 9] = [
            "build".as_ref(),
            "--quiet".as_ref(),
            "--release".as_ref(),
            "--target".as_ref(),
            "wasm32-wasip2".as_ref(),
            "--manifest-path".as_ref(),
            manifest.as_ref(),
            "--target-dir".as_ref(),
            target.as_ref(),
        ];
        ensure_wasm_target();
        cargo(&arguments);
        target.join("wasm32-wasip2").join("release")
    });
    folder.join(file_name(name))
}

fn file_name(name: &str) -> String {
    format!("{}.wasm", name.replace('-', "_"))
}

/// Adds the WebAssembly target where rustup has not done so by itself.
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

fn cargo<S: AsRef<std::ffi::OsStr>>(arguments: &[S]) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status =
        Command::new(cargo).args(arguments).current_dir(repository()).status().expect("cargo can be run");
    assert!(status.success(), "cargo could not build what the tests run");
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| repository().join("target"), PathBuf::from)
}
