//! Checks the rules of `.deny.toml` about licences, bans and sources with `cargo metadata` alone, so that every
//! run of the tests checks them. A rule that is unknown here is a failure and is not ignored.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use toml::Table;
use witgate_tests::repository;

/// A package of the resolved graph.
struct Package {
    name: String,
    version: String,
    licence: Option<String>,
    source: Option<String>,
    /// Dependencies that it declares with neither version nor path.
    wildcards: Vec<String>,
    is_member: bool,
}

impl Package {
    fn of(package: &Value, members: &BTreeSet<&str>) -> Self {
        let text = |key: &str| package[key].as_str().map(str::to_owned);
        let wildcards = list(&package["dependencies"])
            .filter(|dependency| dependency["req"] == "*" && dependency["path"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned));
        Package {
            name: text("name").expect("a package has a name"),
            version: text("version").expect("a package has a version"),
            licence: text("license"),
            source: text("source"),
            wildcards: wildcards.collect(),
            is_member: members.contains(package["id"].as_str().expect("a package has an id")),
        }
    }
}

/// Runs cargo in the checkout; returns its output.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .args(["--locked", "--all-features"])
        .current_dir(repository())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo writes UTF-8")
}

/// The packages that a workspace needs on a platform, with all features, including those for tests and build
/// scripts.
fn packages(manifest: &str, platform: &str) -> Vec<Package> {
    // The metadata has every package of the lock file. The tree has those that the features need, by name and
    // version.
    let metadata = ["metadata", "--format-version", "1", "--manifest-path", manifest];
    let metadata: Value = serde_json::from_str(&cargo(&metadata)).expect("cargo writes JSON");
    let tree = ["tree", "--workspace", "--prefix", "none", "--format", "{p}", "--target", platform];
    let tree = cargo(&[&tree[..], &["--manifest-path", manifest]].concat());
    let needed: BTreeSet<(&str, &str)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            Some((words.next()?, words.next()?.strip_prefix('v')?))
        })
        .collect();
    assert!(needed.len() > 1, "cargo names the packages that are needed: {tree}");
    let members: BTreeSet<&str> = list(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let is_needed = |package: &&Value| {
        let (name, version) = (package["name"].as_str(), package["version"].as_str());
        needed.contains(&(name.unwrap_or_default(), version.unwrap_or_default()))
    };
    list(&metadata["packages"]).filter(is_needed).map(|package| Package::of(package, &members)).collect()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("a list").iter()
}

/// The rules. Every key of the file is either read or known to be of no effect here.
struct Rules {
    platforms: Vec<String>,
    licences: BTreeSet<String>,
    /// Name, whether only several versions at once are refused, and the reason.
    bans: Vec<(String, bool, String)>,
}

impl Rules {
    fn read() -> Self {
        let text = std::fs::read_to_string(repository().join(".deny.toml")).expect("the rules");
        let mut rules: Table = text.parse().expect("TOML");
        let mut section = |name: &str, known: &[&str]| {
            let Some(toml::Value::Table(section)) = rules.remove(name) else { panic!("[{name}] is missing") };
            let unknown: Vec<&String> = section.keys().filter(|key| !known.contains(&key.as_str())).collect();
            assert!(unknown.is_empty(), "[{name}] has rules that this test does not hold: {unknown:?}");
            section
        };
        let graph = section("graph", &["targets"]);
        // Advisories need an up-to-date database and are checked by `cargo deny check advisories`.
        section("advisories", &["version", "ignore"]);
        let licences = section("licenses", &["version", "allow"]);
        let bans = section("bans", &["multiple-versions", "wildcards", "allow-wildcard-paths", "deny"]);
        let sources = section("sources", &["unknown-registry", "unknown-git"]);
        assert!(rules.is_empty(), "sections that this test does not hold: {rules}");
        let is = |table: &Table, key: &str, value: &str| table[key].as_str() == Some(value);
        assert!(is(&bans, "wildcards", "deny") && is(&bans, "multiple-versions", "allow"));
        assert!(is(&sources, "unknown-registry", "deny") && is(&sources, "unknown-git", "deny"));
        let strings = |value: &toml::Value| -> Vec<String> {
            let items = value.as_array().expect("a list").iter();
            items.map(|item| item.as_str().expect("a list of strings").to_owned()).collect()
        };
        Rules {
            platforms: strings(&graph["targets"]),
            licences: strings(&licences["allow"]).into_iter().collect(),
            bans: bans["deny"].as_array().expect("a list of bans").iter().map(ban).collect(),
        }
    }

    /// All violations of the rules in a list of packages.
    fn offences(&self, packages: &[Package]) -> Vec<String> {
        let mut offences = Vec::new();
        for package in packages {
            let name = format!("{} {}", package.name, package.version);
            match &package.licence {
                Some(licence) if self.allow(licence) => {}
                Some(licence) => offences.push(format!("{name}: its licence {licence} is not allowed")),
                None => offences.push(format!("{name}: it names no licence")),
            }
            if let Some(source) = package.source.as_ref().filter(|source| !is_default_registry(source)) {
                offences.push(format!("{name}: it comes from {source}"));
            }
            if package.is_member && !package.wildcards.is_empty() {
                offences.push(format!("{name}: dependencies without a version: {:?}", package.wildcards));
            }
        }
        for (banned, only_several, reason) in &self.bans {
            let found = packages.iter().filter(|package| package.name == *banned);
            let versions: Vec<&str> = found.map(|package| &*package.version).collect();
            if versions.len() > usize::from(*only_several) {
                offences.push(format!("{banned} {versions:?}: {reason}"));
            }
        }
        offences
    }

    /// Whether the allowed licences satisfy an SPDX expression: one side of an OR, both sides of an AND.
    fn allow(&self, expression: &str) -> bool {
        let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = spaced.split_whitespace().collect();
        let mut rest = &words[..];
        let allowed = self.either(&mut rest);
        assert!(rest.is_empty(), "`{expression}` is no SPDX expression");
        allowed
    }

    fn either(&self, words: &mut &[&str]) -> bool {
        let mut allowed = self.both(words);
        while take(words, "OR") {
            allowed |= self.both(words);
        }
        allowed
    }

    fn both(&self, words: &mut &[&str]) -> bool {
        let mut allowed = self.one(words);
        while take(words, "AND") {
            allowed &= self.one(words);
        }
        allowed
    }

    fn one(&self, words: &mut &[&str]) -> bool {
        if take(words, "(") {
            let allowed = self.either(words);
            assert!(take(words, ")"), "a parenthesis of a licence is not closed");
            return allowed;
        }
        let Some((first, rest)) = words.split_first() else { panic!("a licence is missing") };
        *words = rest;
        if take(words, "WITH") {
            let Some((exception, rest)) = words.split_first() else { panic!("an exception is missing") };
            *words = rest;
            return self.licences.contains(&format!("{first} WITH {exception}"));
        }
        self.licences.contains(*first)
    }
}

/// Takes the next word if it is this one; returns whether it was.
fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

fn ban(ban: &toml::Value) -> (String, bool, String) {
    let ban = ban.as_table().expect("a ban is a table");
    let known = ["crate", "deny-multiple-versions", "reason"];
    assert!(ban.keys().all(|key| known.contains(&key.as_str())), "a ban this test does not hold: {ban}");
    let text = |key: &str| ban[key].as_str().expect("a ban has a name and a reason").to_owned();
    let only_several = ban.get("deny-multiple-versions").and_then(toml::Value::as_bool).unwrap_or_default();
    (text("crate"), only_several, text("reason"))
}

/// Whether a package comes from cargo's default registry, and not from another registry or a repository.
fn is_default_registry(source: &str) -> bool {
    source.starts_with("registry+") && source.ends_with("/crates.io-index")
}

#[test]
fn the_dependencies_keep_to_the_rules() {
    let rules = Rules::read();
    let mut offences: BTreeSet<String> = BTreeSet::new();
    for platform in &rules.platforms {
        offences.extend(rules.offences(&packages("Cargo.toml", platform)));
    }
    offences.extend(rules.offences(&packages("tests/guests/Cargo.toml", "wasm32-wasip2")));
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn what_is_against_the_rules_is_found() {
    let rules = Rules::read();
    let good = |name: &str, version: &str| Package {
        name: name.into(),
        version: version.into(),
        licence: Some("MIT OR Apache-2.0".into()),
        source: Some("registry+a/crates.io-index".into()),
        wildcards: Vec::new(),
        is_member: false,
    };
    assert_eq!(rules.offences(&[good("rustls", "0.23.1"), good("serde", "1.0.0")]), Vec::<String>::new());
    for banned in ["openssl-sys", "ring", "native-tls"] {
        assert_eq!(rules.offences(&[good(banned, "1.0.0")]).len(), 1, "{banned}");
    }
    assert_eq!(rules.offences(&[good("rustls", "0.23.1"), good("rustls", "0.22.0")]).len(), 1);
    for licence in [None, Some("GPL-3.0"), Some("MIT AND GPL-3.0"), Some("Apache-2.0 WITH GCC-exception-2.0")]
    {
        let package = Package { licence: licence.map(str::to_owned), ..good("a", "1.0.0") };
        assert_eq!(rules.offences(&[package]).len(), 1, "{licence:?}");
    }
    for source in ["git+a/b", "registry+another/index"] {
        let package = Package { source: Some(source.into()), ..good("a", "1.0.0") };
        assert_eq!(rules.offences(&[package]).len(), 1, "{source}");
    }
    let package = Package { wildcards: vec!["b".into()], is_member: true, ..good("a", "1.0.0") };
    assert_eq!(rules.offences(&[package]).len(), 1);
    for licence in ["MIT/GPL-3.0", "(MIT OR GPL-3.0) AND Zlib", "Apache-2.0 WITH LLVM-exception"] {
        assert!(rules.allow(licence), "{licence}");
    }
}
