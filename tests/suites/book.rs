//! Checks the book and the documents at the root: their commands run, their configurations are valid, their links
//! have targets, and the tests that they name exist. README and examples are run by `documents.rs`.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use witgate_tests::{Block, Scratch, Shell, blocks, plugin, repository, witgate};

/// Commands that no test runs, because they need mdBook, or the peers of the bench and twenty minutes.
const NOT_RUN: [&str; 3] = ["mdbook ", "cargo install ", "cargo run --release -p witgate-bench"];

/// Commands that are run elsewhere: by `.ci/run` or by `documents.rs`.
const RUN_ELSEWHERE: [&str; 6] =
    [".ci/run", "cargo fmt", "cargo clippy", "cargo doc", "cargo check", "cargo run -p quickstart"];

/// Configurations that need a component which only `documents.rs` builds; that suite validates them.
const CHECKED_ELSEWHERE: [(&str, &str); 1] = [("docs/src/plugins.md", "Bind it")];

/// Source files that the compiler checks. A Rust block of a document must be part of one of them.
const COMPILED: [&str; 2] = ["examples/own-plugin/src/lib.rs", "sdk/src/lib.rs"];

fn markdown_in(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the checkout") {
        let path = entry.expect("a folder of the checkout").path();
        let name = path.file_name().expect("an entry has a name").to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            markdown_in(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

/// Every Markdown document of the checkout: its path and its text.
fn documents() -> Vec<(String, String)> {
    let mut paths = Vec::new();
    markdown_in(repository(), &mut paths);
    paths.sort();
    let document = |path: PathBuf| {
        let name = path.strip_prefix(repository()).expect("inside of the checkout").to_string_lossy().into();
        (name, std::fs::read_to_string(&path).expect("a document"))
    };
    paths.into_iter().map(document).collect()
}

/// The documents whose blocks this suite runs: the book, and those at the root except the README.
fn run_here() -> Vec<(String, String)> {
    let own = |name: &str| name.starts_with("docs/src/") || (!name.contains('/') && name != "README.md");
    documents().into_iter().filter(|(name, _)| own(name)).collect()
}

/// Whether a line of a shell block is not run by this suite.
fn is_left_out(line: &str) -> bool {
    let line = line.trim();
    let is_known = NOT_RUN.iter().chain(&RUN_ELSEWHERE).any(|known| line.starts_with(known));
    is_known || test_command(line).is_some()
}

/// The arguments of a `cargo test` command.
fn test_command(line: &str) -> Option<Vec<&str>> {
    let (_, arguments) = line.split_once("cargo test")?;
    let arguments = arguments.split("# ->").next().unwrap_or_default();
    Some(arguments.split_whitespace().collect())
}

/// Ends the gateways that a page started, by the process ids that it wrote to files, even if the test fails.
struct Gateways<'a>(&'a Path);

impl Drop for Gateways<'_> {
    fn drop(&mut self) {
        let Ok(text) = std::fs::read_to_string(self.0.join("gateway.pid")) else { return };
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
        let command = std::fs::read(format!("/proc/{}/cmdline", text.trim())).unwrap_or_default();
        // The process id may belong to another program by now.
        if command.windows(7).any(|part| part == b"witgate") {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// A folder in which the blocks of one page are run one after the other.
struct Reader {
    shell: Shell,
    scratch: Scratch,
}

impl Reader {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.install(&plugin("rate-limit"), "rate_limit");
        let mut shell = Shell::new(scratch.path());
        let programs = witgate().parent().expect("a file is in a folder").display();
        shell.follow(&format!("export PATH=\"{programs}:$PATH\" LISTEN=127.0.0.1:0 ADMIN=off"));
        Reader { shell, scratch }
    }

    fn follow(&mut self, page: &str, block: &Block) {
        match block.language.as_str() {
            "sh" => {
                let lines: Vec<&str> = block.text.lines().filter(|line| !is_left_out(line)).collect();
                self.shell.follow(&lines.join("\n"));
            }
            "toml" if CHECKED_ELSEWHERE.contains(&(page, &block.section)) => {}
            "toml" => {
                self.scratch.write("witgate.toml", &block.text);
                self.shell.follow("witgate validate --config witgate.toml");
            }
            "json" => {
                let _: Value = serde_json::from_str(&block.text).expect("JSON");
            }
            "rust" => assert!(is_compiled(&block.text), "{page}: no compiled source has\n{}", block.text),
            "text" | "ini" => {}
            other => panic!("{page}: nothing checks a block of `{other}`"),
        }
    }
}

/// Whether Rust code is part of a source file that the compiler checks, possibly as documentation.
fn is_compiled(text: &str) -> bool {
    COMPILED.iter().any(|source| {
        let source = std::fs::read_to_string(repository().join(source)).expect("a source");
        let undressed: Vec<&str> =
            source.lines().map(|line| line.strip_prefix("//! ").unwrap_or(line)).collect();
        undressed.join("\n").contains(text.trim_end())
    })
}

#[test]
fn every_command_and_configuration_of_the_book_works() {
    for (page, text) in run_here() {
        let blocks = blocks(&text);
        if blocks.is_empty() {
            continue;
        }
        eprintln!("{page}");
        let mut reader = Reader::new();
        let folder = reader.scratch.path().to_owned();
        let _gateways = Gateways(&folder);
        blocks.iter().for_each(|block| reader.follow(&page, block));
    }
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for (page, text) in documents() {
        let folder = repository().join(&page).parent().expect("a file is in a folder").to_owned();
        for target in links(&text) {
            let path = target.split('#').next().expect("a split has a first part");
            let is_elsewhere = path.contains("://") || path.starts_with("mailto:");
            if !path.is_empty() && !is_elsewhere && !folder.join(path).exists() {
                broken.push(format!("{page}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The targets of the links of a document, outside of code blocks.
fn links(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let prose = text.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        in_block ^= is_fence;
        !in_block && !is_fence
    });
    prose.flat_map(|line| line.split("](").skip(1)).filter_map(|rest| rest.split(')').next()).collect()
}

#[test]
fn the_summary_names_every_page() {
    let summary = std::fs::read_to_string(repository().join("docs/src/SUMMARY.md")).expect("the summary");
    let named = links(&summary);
    for (page, _) in documents() {
        let Some(page) = page.strip_prefix("docs/src/").filter(|page| *page != "SUMMARY.md") else {
            continue;
        };
        assert!(named.contains(&page), "docs/src/SUMMARY.md does not name {page}");
    }
}

#[test]
fn the_commands_that_documents_name_exist() {
    let mut wrong = Vec::new();
    for (page, text) in documents() {
        for line in text.lines() {
            // Commands in text and tables stand between backticks, those of blocks on a line of their own.
            let pieces = line.split('`').filter(|piece| piece.contains("cargo test"));
            for arguments in pieces.filter_map(|piece| test_command(piece.trim())) {
                if let Err(why) = check_test_command(&arguments) {
                    wrong.push(format!("{page}: cargo test {}: {why}", arguments.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Checks that package, test program and test of a `cargo test` command exist.
fn check_test_command(arguments: &[&str]) -> Result<(), String> {
    let mut folder = None;
    let mut program = None;
    let mut filter = None;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match *argument {
            "-p" => {
                let name = rest.next().ok_or("a package is missing")?;
                folder = Some(package(name).ok_or_else(|| format!("there is no package {name}"))?);
            }
            "--test" => program = Some(*rest.next().ok_or("a test program is missing")?),
            "--features" => drop(rest.next()),
            option if option.starts_with('-') => {}
            name => filter = Some(name),
        }
    }
    let Some(folder) = folder else { return Ok(()) };
    if let Some(program) = program {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let places = [format!("tests/{program}.rs"), format!("tests/{program}/main.rs")];
        let is_there = places.iter().any(|place| folder.join(place).is_file());
        if !is_there && !manifest.contains(&format!("name = \"{program}\"")) {
            return Err(format!("there is no test program {program}"));
        }
    }
    let sources = sources_of(&folder);
    for word in filter.into_iter().flat_map(|filter| filter.split("::")).filter(|word| !word.is_empty()) {
        let is_stand_in = word.chars().all(|character| character.is_ascii_uppercase() || character == '_');
        let is_named = [format!("fn {word}("), format!("mod {word};"), format!("mod {word} ")]
            .iter()
            .any(|text| sources.contains(text.as_str()));
        if !is_named && !is_stand_in {
            return Err(format!("there is no test or module {word}"));
        }
    }
    Ok(())
}

/// The folder of a package of the workspace.
fn package(name: &str) -> Option<PathBuf> {
    static FOLDERS: OnceLock<Vec<(String, PathBuf)>> = OnceLock::new();
    let folders = FOLDERS.get_or_init(|| {
        let mut manifests = Vec::new();
        find(repository(), "Cargo.toml", &mut manifests);
        let named = manifests.into_iter().filter_map(|manifest| {
            let text = std::fs::read_to_string(&manifest).ok()?;
            let name = text.lines().find_map(|line| line.strip_prefix("name = \""))?;
            Some((name.trim_end_matches('"').to_owned(), manifest.parent()?.to_owned()))
        });
        named.collect()
    });
    folders.iter().find(|(known, _)| known == name).map(|(_, folder)| folder.clone())
}

/// All Rust source files of a package, as one text.
fn sources_of(folder: &Path) -> String {
    let mut paths = Vec::new();
    find(folder, ".rs", &mut paths);
    paths.iter().filter_map(|path| std::fs::read_to_string(path).ok()).collect::<Vec<_>>().join("\n")
}

/// Files below a folder whose names have this ending.
fn find(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            find(&path, ending, found);
        } else if name.ends_with(ending) {
            found.push(path);
        }
    }
}

#[test]
fn commands_that_do_not_exist_are_found() {
    let wrong = [
        "-p witgate-nothing",
        "-p witgate-tests --test nothing",
        "-p witgate-tests --test suites book::nothing_of_the_kind_is_there",
    ];
    for arguments in wrong {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        assert!(check_test_command(&arguments).is_err(), "{arguments:?}");
    }
    let right = "-p witgate-tests --test suites book::commands_that_do_not_exist_are_found";
    assert_eq!(check_test_command(&right.split(' ').collect::<Vec<_>>()), Ok(()));
}
