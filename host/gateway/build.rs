//! Packs the sources of the SDK into the binary, from which `witgate plugin new` writes them beside a new plugin. So a
//! plugin can be built on a machine that has the binary and nothing else of this checkout.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use toml::{Table, Value};

/// What the SDK consists of, relative to the root of the checkout: files, and folders with everything in them.
const PARTS: [&str; 9] = [
    "sdk/Cargo.toml",
    "sdk/src",
    "sdk/macros/Cargo.toml",
    "sdk/macros/src",
    "sdk/rules/Cargo.toml",
    "sdk/rules/src",
    "wit/0.1.0",
    "wit/0.2.0",
    "LICENSE",
];

/// The packages of the SDK.
const PACKAGES: [&str; 3] = ["sdk", "sdk/macros", "sdk/rules"];

fn main() {
    let root = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    let root = root.canonicalize().expect("the checkout");
    let mut files = BTreeSet::new();
    for part in PARTS {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
        collect(&root.join(part), &mut files);
    }
    println!("cargo::rerun-if-changed={}", root.join("Cargo.toml").display());
    let mut packed = String::from("&[\n");
    for file in files {
        let name = file.strip_prefix(&root).expect("it is in the checkout");
        let _ = writeln!(packed, "    ({:?}, include_str!({:?})),", name.display().to_string(), file);
    }
    let _ = writeln!(packed, "    (\"Cargo.toml\", {:?}),\n]", workspace(&root));
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"));
    fs::write(out.join("sdk_files.rs"), packed).expect("the output folder can be written to");
}

fn collect(path: &Path, files: &mut BTreeSet<PathBuf>) {
    if path.is_file() {
        files.insert(path.to_owned());
        return;
    }
    for entry in fs::read_dir(path).expect("a folder of the checkout") {
        collect(&entry.expect("an entry").path(), files);
    }
}

/// The manifest of a workspace of the SDK alone, with what its packages inherit from the workspace of the checkout.
fn workspace(root: &Path) -> String {
    let manifest = |path: PathBuf| -> Table {
        fs::read_to_string(&path).expect("a manifest").parse().expect("a manifest is TOML")
    };
    let mut whole = manifest(root.join("Cargo.toml"));
    let Some(Value::Table(mut workspace)) = whole.remove("workspace") else {
        panic!("the root is a workspace")
    };
    let needed: BTreeSet<String> = PACKAGES
        .iter()
        .flat_map(|package| inherited(&manifest(root.join(package).join("Cargo.toml"))))
        .collect();
    if let Some(Value::Table(dependencies)) = workspace.get_mut("dependencies") {
        dependencies.retain(|name, _| needed.contains(name));
    }
    workspace.insert("members".to_owned(), PACKAGES.map(Value::from).to_vec().into());
    Table::from_iter([("workspace".to_owned(), Value::Table(workspace))]).to_string()
}

/// The dependencies that a package inherits from its workspace, in all its tables.
fn inherited(table: &Table) -> Vec<String> {
    table
        .iter()
        .flat_map(|(name, value)| match value {
            Value::Table(entry) if entry.get("workspace") == Some(&Value::Boolean(true)) => {
                vec![name.clone()]
            }
            Value::Table(inner) => inherited(inner),
            _ => Vec::new(),
        })
        .collect()
}
