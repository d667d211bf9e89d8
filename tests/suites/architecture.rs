//! Rules about the source code that the compiler cannot check, read from the source files.

use std::path::{Path, PathBuf};

use witgate_tests::repository;

/// The crates of the host, and which of them each may import.
const CRATES: [(&str, &str, &[&str]); 13] = [
    ("config", "witgate_config", &[]),
    ("exchange", "witgate_exchange", &["config"]),
    ("wire", "witgate_wire", &["config", "exchange"]),
    ("telemetry", "witgate_telemetry", &["config", "exchange"]),
    ("upstream", "witgate_upstream", &["config", "exchange", "wire", "telemetry"]),
    ("cache", "witgate_cache", &["config", "exchange"]),
    ("proxy", "witgate_proxy", &["config", "exchange", "wire", "telemetry", "upstream", "cache"]),
    ("wasm", "witgate_wasm", &["config", "exchange"]),
    ("state", "witgate_state", &["config", "exchange"]),
    ("discovery", "witgate_discovery", &["config", "exchange"]),
    ("transcode", "witgate_transcode", &["config", "exchange"]),
    ("brokers", "witgate_brokers", &["config", "exchange"]),
    (
        "gateway",
        "witgate",
        &[
            "config",
            "exchange",
            "telemetry",
            "upstream",
            "cache",
            "proxy",
            "wasm",
            "state",
            "discovery",
            "transcode",
            "brokers",
        ],
    ),
];

/// The folders of the data path by crate, and which others of the crate each may import. A request goes through those of
/// the proxy from the last to the first but for what it only holds: a connection knows its listener, a route its filters.
/// Those of an upstream are steps of one attempt, which hold what the steps before them have made, so they know each other
/// in both directions.
const FOLDERS: [(&str, &str, &[&str]); 26] = [
    ("proxy", "state", &[]),
    ("proxy", "destination", &["router"]),
    ("proxy", "filters", &[]),
    ("proxy", "router", &["destination", "filters"]),
    ("proxy", "snapshot", &["consume", "destination", "filters", "router", "state"]),
    ("proxy", "consume", &["destination", "gateway", "listener", "router", "serve"]),
    ("proxy", "gateway", &["snapshot"]),
    ("proxy", "pipeline", &["filters", "gateway", "protocol", "router", "snapshot"]),
    ("proxy", "protocol", &["gateway", "listener", "pipeline", "router", "serve", "snapshot"]),
    ("proxy", "listener", &["consume", "gateway", "protocol", "snapshot"]),
    ("upstream", "balancer", &[]),
    ("upstream", "breaker", &["observe"]),
    ("upstream", "endpoint", &["balancer", "breaker", "connection", "deliver", "health", "observe", "pick"]),
    ("upstream", "discovery", &["observe", "pick"]),
    ("upstream", "set", &["balancer", "discovery", "endpoint", "observe", "pick", "request"]),
    ("upstream", "observe", &["balancer", "breaker", "endpoint", "pick"]),
    ("upstream", "pick", &["balancer", "breaker", "endpoint", "observe", "request", "send", "set", "status"]),
    ("upstream", "connection", &["endpoint", "pick", "response", "send", "set"]),
    ("upstream", "response", &["connection", "observe", "pick", "send"]),
    ("upstream", "send", &["connection", "deliver", "observe", "pick", "request", "response"]),
    ("upstream", "deliver", &["endpoint", "observe", "pick", "request", "response", "send", "set"]),
    ("upstream", "admission", &["breaker", "deliver", "observe", "pick", "request", "response", "send"]),
    ("upstream", "session", &["admission", "balancer", "connection", "observe", "pick", "response"]),
    ("upstream", "fallback", &["admission", "deliver", "request", "response", "send"]),
    ("upstream", "request", &["admission", "balancer", "deliver", "endpoint", "fallback", "send", "set"]),
    ("upstream", "health", &["connection", "endpoint", "observe", "response", "set"]),
];

/// Libraries that only some crates may use, and these crates.
const RESERVED: [(&str, &[&str]); 11] = [
    ("wasmtime", &["host/wasm"]),
    (
        "tokio",
        &[
            "host/exchange",
            "host/wire",
            "host/telemetry",
            "host/upstream",
            "host/cache",
            "host/proxy",
            "host/wasm",
            "host/state",
            "host/discovery",
            "host/brokers",
            "host/gateway",
        ],
    ),
    ("hyper", &["host/upstream", "host/proxy", "host/discovery", "host/gateway"]),
    ("anyhow", &["host/gateway"]),
    ("redis", &["host/state"]),
    ("redb", &["host/state"]),
    ("hickory_resolver", &["host/discovery"]),
    ("quick_cache", &["host/cache"]),
    ("prost_reflect", &["host/transcode"]),
    ("protox", &["host/transcode"]),
    ("lapin", &["host/brokers"]),
];

/// Adds the source files of a folder and of those in it, except for what a build has left there.
pub(crate) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout") {
        let path = entry.expect("a folder of the checkout").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn files_of(crate_folder: &str) -> Vec<(PathBuf, String)> {
    let mut paths = Vec::new();
    sources(&repository().join(crate_folder).join("src"), &mut paths);
    assert!(!paths.is_empty(), "{crate_folder} has sources");
    paths
        .into_iter()
        .map(|path| (path.clone(), std::fs::read_to_string(path).expect("a source file")))
        .collect()
}

/// Whether a source file names a crate in a path (`name::`) or a `use`.
fn names(source: &str, krate: &str) -> bool {
    source.lines().filter(|line| !line.trim_start().starts_with("//")).any(|line| {
        line.match_indices(krate).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            let after = &line[at + krate.len()..];
            !before
                .is_some_and(|character| character.is_alphanumeric() || character == '_' || character == ':')
                && (after.starts_with("::")
                    || (line.trim_start().starts_with("use ") && after.starts_with(';')))
        })
    })
}

#[test]
fn crates_import_only_what_they_may() {
    for (folder, _, allowed) in CRATES {
        for (path, source) in files_of(&format!("host/{folder}")) {
            for (other, name, _) in CRATES {
                assert!(
                    other == folder || allowed.contains(&other) || !names(&source, name),
                    "{} imports {name}, which `host/{folder}` may not",
                    path.display()
                );
            }
            assert!(!names(&source, "witgate_sdk"), "{} imports the SDK", path.display());
        }
    }
}

#[test]
fn folders_of_the_data_path_import_only_what_they_may() {
    for krate in ["proxy", "upstream"] {
        let folders = || FOLDERS.iter().filter(|(of, ..)| *of == krate);
        for (path, source) in files_of(&format!("host/{krate}")) {
            let root = repository().join("host").join(krate).join("src");
            let relative = path.strip_prefix(root).expect("a file of the crate");
            let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            let folder = parts[0].trim_end_matches(".rs");
            let in_tests = parts.iter().any(|part| part == "tests" || part == "tests.rs");
            let Some((_, _, allowed)) = folders().find(|(_, name, _)| *name == folder).filter(|_| !in_tests)
            else {
                continue;
            };
            let source = code(&source);
            // How many modules the file is below the root of the crate.
            let depth = parts.len() - usize::from(relative.ends_with("mod.rs"));
            for (_, other, _) in folders() {
                let names =
                    ["crate::".to_owned(), "super::".repeat(depth)].map(|root| format!(" {root}{other}::"));
                assert!(
                    *other == folder
                        || allowed.contains(other)
                        || !names.iter().any(|name| source.contains(name)),
                    "{} imports `{other}`, which `{folder}` may not",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn plugins_are_written_with_the_sdk_only() {
    for entry in std::fs::read_dir(repository().join("plugins")).expect("the plugins' folder") {
        let name = entry.expect("a folder").file_name();
        for (path, source) in files_of(&format!("plugins/{}", name.to_string_lossy())) {
            for forbidden in ["witgate_config", "witgate_proxy", "witgate_wasm", "wit_bindgen"] {
                assert!(!names(&source, forbidden), "{} reaches past the SDK to {forbidden}", path.display());
            }
        }
    }
}

#[test]
fn reserved_libraries_stay_where_they_belong() {
    for folder in CRATES.map(|(folder, ..)| format!("host/{folder}")) {
        for (library, allowed) in RESERVED {
            if allowed.contains(&folder.as_str()) {
                continue;
            }
            for (path, source) in files_of(&folder) {
                assert!(!names(&source, library), "{} imports {library}", path.display());
            }
        }
    }
}

#[test]
fn the_data_path_reads_no_files_and_waits_for_no_thread() {
    // These need the functions (for TLS files and log files) only while a snapshot is built, or on a thread of their
    // own.
    let allowed = ["proxy/listener", "proxy/snapshot"];
    for krate in ["wire", "upstream", "cache", "proxy"] {
        for (path, source) in files_of(&format!("host/{krate}")) {
            let relative = path.strip_prefix(repository().join("host")).expect("a file of the crate");
            let of_tests = ["tests", "tests.rs", "testing", "testing.rs"];
            let is_test = relative.iter().any(|part| of_tests.iter().any(|name| part == *name));
            let module = relative.to_string_lossy().replace("/src/", "/");
            if is_test || allowed.iter().any(|name| module.starts_with(name)) {
                continue;
            }
            let body = source.split("#[cfg(test)]").next().expect("a split has a first part");
            for banned in
                ["std::fs::", "tokio::fs::", "std::thread::spawn", ".lock().await", "println!", "eprintln!"]
            {
                assert!(!body.contains(banned), "{} uses {banned} on the request path", path.display());
            }
        }
    }
}

/// What a core owns can be read in one file of each crate.
#[test]
fn what_a_core_owns_is_in_one_file_of_a_crate() {
    for krate in ["exchange", "wire", "telemetry", "upstream", "proxy"] {
        for (path, source) in files_of(&format!("host/{krate}")) {
            assert!(
                path.ends_with("core_local.rs") || !code(&source).contains("thread_local!"),
                "{} has a thread-local of its own",
                path.display()
            );
        }
    }
}

#[test]
fn filters_and_destinations_take_the_facts_and_not_the_exchange() {
    for (path, source) in files_of("host/proxy") {
        let relative = path.strip_prefix(repository().join("host/proxy/src")).expect("a file of the crate");
        let folder = relative.iter().next().expect("a path has a first part");
        let in_tests = relative.iter().any(|part| part == "tests" || part == "tests.rs");
        if in_tests || !["destination", "filters"].iter().any(|name| folder == *name) {
            continue;
        }
        assert!(!code(&source).contains("pipeline::exchange"), "{} knows the exchange", path.display());
    }
}

/// A source without its tests and comments.
fn code(source: &str) -> String {
    let body = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    body.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_top_level_has_exactly_the_promised_entries() {
    let promised = [
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "SECURITY.md",
        "docs",
        "examples",
        "host",
        "plugins",
        "rust-toolchain.toml",
        "sdk",
        "tests",
        "wit",
    ];
    let mut found: Vec<String> = std::fs::read_dir(repository())
        .expect("the checkout")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();
    found.sort();
    assert_eq!(found, promised);
}

/// Files must be read by the one function with limits: any other could block on a pipe, or read without end.
#[test]
fn files_are_read_within_bounds() {
    let unbounded = ["fs::read(", "fs::read_to_string(", "File::open(", "tokio::fs"];
    for folder in CRATES.map(|(folder, ..)| format!("host/{folder}")) {
        for (path, source) in files_of(&folder) {
            let in_tests =
                path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs");
            let source = source.split("#[cfg(test)]").next().unwrap_or_default();
            for call in unbounded {
                assert!(
                    in_tests || !source.contains(call),
                    "{} calls `{call}…)`; use witgate_config::file",
                    path.display()
                );
            }
        }
    }
}
