//! From files to a configuration: read, check against the schema, convert to the model.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::document::{self, Document};
use crate::expand::Surroundings;
use crate::file;
use crate::model::Config;
use crate::pointer::dotted;
use crate::problem::{Problem, Problems, SourceMap};
use crate::schema::{Finding, check};
use crate::written::{self, SCHEMA, Scope};

/// A valid configuration.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The files it was read from, for problems that are found later, e.g. with the settings of plugins.
    pub sources: SourceMap,
    /// Every file it depends on, to be watched: its own, those of `${file:}`, certificates, keys and CAs.
    pub files: Vec<PathBuf>,
}

/// An invalid configuration.
#[derive(Debug)]
pub struct Failure {
    /// All its mistakes, in the order of the files. Never empty.
    pub problems: Problems,
    /// The files, for rendering the problems.
    pub sources: SourceMap,
    /// Every file it depends on, as far as known: a change of any may correct it.
    pub files: Vec<PathBuf>,
}

/// Loads a configuration from a file, or from all `*.toml` files of a folder in the order of their names.
///
/// # Errors
///
/// All mistakes in it.
pub fn load(path: &Path) -> Result<Loaded, Failure> {
    let mut sources = SourceMap::default();
    match read(path, &mut sources) {
        Ok(()) => build(sources),
        Err(problem) => Err(Failure { problems: vec![problem], sources, files: vec![path.to_owned()] }),
    }
}

/// Loads a configuration from text. Relative paths in it are relative to the working directory.
///
/// # Errors
///
/// All mistakes in it.
pub fn parse_str(text: &str) -> Result<Loaded, Failure> {
    build(SourceMap { files: vec![(PathBuf::from("witgate.toml"), text.to_owned())], ..SourceMap::default() })
}

/// The configuration of `witgate proxy --from FROM --to TO`: requests to one address are forwarded to one
/// endpoint. The admin listener is off.
///
/// # Errors
///
/// What is wrong with the addresses.
pub fn proxy_config(from: &str, to: &str) -> Result<Config, Problems> {
    let quoted = |text: &str| Value::from(text.replace("${", "$${")).to_string();
    let text = format!(
        "admin.address = \"off\"\n[[listeners]]\nname = \"proxy\"\naddress = {}\n[[routes]]\nupstream = \"to\"\n[upstreams.to]\nendpoints = [{}]\n",
        quoted(from),
        quoted(to),
    );
    parse_str(&text).map(|loaded| loaded.config).map_err(|failure| {
        let options = |problem: Problem| Problem {
            key: if problem.key.starts_with("upstreams") { "--to" } else { "--from" }.to_owned(),
            span: None,
            ..problem
        };
        failure.problems.into_iter().map(options).collect()
    })
}

/// The most bytes of all files of a configuration folder together.
const FOLDER: u64 = 64 << 20;

fn read(path: &Path, sources: &mut SourceMap) -> Result<(), Problem> {
    if path.is_dir() {
        return read_folder(path, sources);
    }
    let text = file::read_text(path, file::CONFIGURATION).map_err(|error| unreadable(path, error))?;
    sources.files.push((path.to_owned(), text));
    Ok(())
}

fn read_folder(folder: &Path, sources: &mut SourceMap) -> Result<(), Problem> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let file = entry.map_err(|error| unreadable(folder, error))?.path();
        // Hidden files belong to editors and to Kubernetes. Any other `*.toml` that cannot be read as a file is
        // refused: skipping it would silently drop the rules that it should contain.
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && file.extension().is_some_and(|extension| extension == "toml") {
            files.push(file);
        }
    }
    files.sort();
    let mut room = FOLDER;
    for path in files {
        let text = file::read_text(&path, file::CONFIGURATION).map_err(|error| unreadable(&path, error))?;
        room = room.checked_sub(text.len() as u64).ok_or_else(|| {
            Problem::new(format!(
                "the *.toml files in `{}` are larger than 64 MiB together",
                folder.display()
            ))
            .with_hint("split the gateway, or take out what does not belong to its configuration")
        })?;
        sources.files.push((path, text));
    }
    if sources.files.is_empty() {
        return Err(Problem::new(format!("there is no *.toml file in `{}`", folder.display())));
    }
    Ok(())
}

fn unreadable(path: &Path, error: std::io::Error) -> Problem {
    let hint = match error.kind() {
        ErrorKind::InvalidData => "save it as UTF-8: the bytes at this place are in another encoding",
        ErrorKind::PermissionDenied => "let the gateway's user read it",
        _ => "the configuration is a TOML file, or a folder of *.toml files",
    };
    Problem::new(format!("cannot read `{}`: {error}", path.display())).with_hint(hint)
}

fn build(mut sources: SourceMap) -> Result<Loaded, Failure> {
    let mut surroundings = Surroundings::new(&|name| std::env::var(name).ok());
    let mut document = document::read(&sources, &mut surroundings);
    let mut files: Vec<PathBuf> = sources.files.iter().map(|(path, _)| path.clone()).collect();
    files.append(&mut surroundings.files);
    sources.inserted = surroundings.inserted;
    let mut problems = std::mem::take(&mut document.problems);
    let mut config = None;
    // An incomplete tree would be reported for mistakes that are not in the files.
    if document.whole {
        let findings = with_schema(&mut document);
        let mut scope = Scope::new(&document.tree, &sources, &findings);
        config = written::meant(&mut scope);
        let (meant, mut named) = scope.into_problems();
        files.append(&mut named);
        problems.extend(findings.into_iter().map(|finding| document.tree.place(finding)));
        problems.extend(meant);
    }
    let tree = &document.tree;
    let places = tree.spans.iter().filter(|(pointer, _)| !pointer.is_empty());
    sources.keys = places.map(|(pointer, span)| (dotted("", pointer, &tree.value), span.clone())).collect();
    match config {
        Some(config) if problems.is_empty() => Ok(Loaded { config, sources, files }),
        _ => {
            problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.file, span.range.start)));
            Err(Failure { problems, sources, files })
        }
    }
}

/// Findings of the schema, without those for values that are already reported.
///
/// A variable is text, but `workers = "${WORKERS}"` means a number: where the schema refuses the text, the number
/// or boolean that it spells is put in its place.
fn with_schema(document: &mut Document) -> Vec<Finding> {
    let mut findings = by_schema(document);
    let mut replaced = false;
    for finding in findings.iter().filter(|finding| document.expanded.contains(&finding.pointer)) {
        let Some(value) = document.tree.get_mut(&finding.pointer) else { continue };
        let spelled = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        if let Some(spelled @ (Value::Number(_) | Value::Bool(_))) = spelled {
            *value = spelled;
            replaced = true;
        }
    }
    if replaced {
        findings = by_schema(document);
    }
    findings
}

fn by_schema(document: &Document) -> Vec<Finding> {
    let mut findings = document.findings.clone();
    let found = check(&SCHEMA, &Value::Object(document.tree.value.clone()));
    let known = |finding: &Finding| document.findings.iter().any(|known| known.pointer == finding.pointer);
    findings.extend(found.into_iter().filter(|finding| !known(finding)));
    findings
}
