//! Reads TOML files into one tree of values, with the position of each value.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::duplicate;
use crate::expand::{Surroundings, expand};
use crate::pointer::child;
use crate::problem::{Problem, Problems, SourceMap, Span};
use crate::schema::Finding;
use crate::settings::Settings;

/// The result of reading the files.
pub(crate) struct Document {
    /// The tree, as if everything had been written in one file.
    pub(crate) tree: Settings,
    /// Pointers of the values in which references were replaced.
    pub(crate) expanded: BTreeSet<String>,
    /// Mistakes in single values: references that cannot be resolved, numbers that JSON cannot hold.
    pub(crate) findings: Vec<Finding>,
    /// Mistakes in files, or between them. If a file does not parse, the tree must not be checked any further.
    pub(crate) problems: Problems,
    /// Whether every file parsed.
    pub(crate) whole: bool,
}

/// Reads every file of the source map into one document.
///
/// Lists of several files are joined in the order of the files; tables are united, key by key. A key that two
/// files set is a mistake, because the result must not depend on the names of the files.
pub(crate) fn read(sources: &SourceMap, surroundings: &mut Surroundings) -> Document {
    let mut reader =
        Reader { sources, file: 0, folder: Path::new(""), surroundings, document: Document::empty() };
    for (index, (path, text)) in sources.files.iter().enumerate() {
        reader.file = index;
        reader.folder = path.parent().unwrap_or(Path::new(""));
        let (table, errors) = DeTable::parse_recoverable(text);
        for (count, error) in errors.iter().enumerate() {
            reader.document.whole = false;
            reader.document.problems.push(unparsed(sources, index, error, count < duplicate::SEARCHES));
        }
        reader.file(table.get_ref());
    }
    reader.document
}

/// What the parser says about a file; about a duplicate key, with the position of the first one.
fn unparsed(sources: &SourceMap, file: usize, error: &toml::de::Error, search: bool) -> Problem {
    let range = error.span().unwrap_or(0..0);
    let mut problem = Problem::new(error.message());
    let concerns_two =
        ["duplicate key", "cannot extend"].iter().any(|begin| error.message().starts_with(begin));
    if search && concerns_two {
        let first = duplicate::first(&sources.files[file].1, range.clone());
        problem.hint = first.map(|range| {
            format!("it is set first at {}: keep one of them", sources.position(&Span { file, range }))
        });
    }
    problem.span = Some(Span { file, range });
    problem
}

impl Document {
    fn empty() -> Self {
        let mut tree = Settings::default();
        tree.spans.insert(String::new(), Span { file: 0, range: 0..0 });
        Self { tree, expanded: BTreeSet::new(), findings: Vec::new(), problems: Vec::new(), whole: true }
    }
}

struct Reader<'r, 'e> {
    sources: &'r SourceMap,
    file: usize,
    folder: &'r Path,
    surroundings: &'r mut Surroundings<'e>,
    document: Document,
}

impl Reader<'_, '_> {
    /// Adds a file's top-level tables and lists to the document.
    fn file(&mut self, table: &DeTable) {
        for (key, value) in table {
            let at = child("", key.get_ref());
            match (self.document.tree.value.remove(key.get_ref().as_ref()), value.get_ref()) {
                (Some(Value::Object(mut members)), DeValue::Table(table)) => {
                    self.unite(table, &at, &mut members);
                    self.document.tree.value.insert(key.get_ref().to_string(), Value::Object(members));
                }
                (Some(Value::Array(mut items)), DeValue::Array(more)) => {
                    for item in more {
                        let read = self.value(item, &child(&at, &items.len().to_string()));
                        items.push(read);
                    }
                    self.document.tree.value.insert(key.get_ref().to_string(), Value::Array(items));
                }
                (Some(earlier), _) => {
                    self.twice(&at, key);
                    self.document.tree.value.insert(key.get_ref().to_string(), earlier);
                }
                (None, _) => {
                    let read = self.member(key, value, &at);
                    self.document.tree.value.insert(key.get_ref().to_string(), read);
                }
            }
        }
    }

    /// Adds the keys of a table to those that an earlier file has set.
    fn unite(&mut self, table: &DeTable, at: &str, members: &mut Map<String, Value>) {
        for (key, value) in table {
            let at = child(at, key.get_ref());
            if members.contains_key(key.get_ref().as_ref()) {
                self.twice(&at, key);
                continue;
            }
            let read = self.member(key, value, &at);
            members.insert(key.get_ref().to_string(), read);
        }
    }

    fn twice(&mut self, at: &str, key: &Spanned<std::borrow::Cow<str>>) {
        let mut problem =
            self.document.tree.problem(at, format!("`{}` is set by two files", key.get_ref()), None);
        let first = self.document.tree.key_spans.get(at).or_else(|| self.document.tree.nearest_span(at));
        problem.hint = first
            .map(|first| format!("it is set first at {}: keep one of them", self.sources.position(first)));
        problem.span = Some(Span { file: self.file, range: key.span() });
        self.document.problems.push(problem);
    }

    fn member(&mut self, key: &Spanned<std::borrow::Cow<str>>, value: &Spanned<DeValue>, at: &str) -> Value {
        self.document.tree.key_spans.insert(at.to_owned(), Span { file: self.file, range: key.span() });
        self.value(value, at)
    }

    fn value(&mut self, value: &Spanned<DeValue>, at: &str) -> Value {
        self.document.tree.spans.insert(at.to_owned(), Span { file: self.file, range: value.span() });
        match value.get_ref() {
            DeValue::String(text) => self.string(text, at),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::from(number),
                Err(_) => self.unfit(at, "this number is too large (64 bits, signed)"),
            },
            DeValue::Float(number) => {
                match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
                    Some(number) => Value::Number(number),
                    None => self.unfit(at, "this number is not finite"),
                }
            }
            DeValue::Boolean(boolean) => Value::Bool(*boolean),
            // JSON has no dates; the owner of the settings parses their text.
            DeValue::Datetime(date) => Value::String(date.to_string()),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                Value::Array(
                    items.map(|(index, item)| self.value(item, &child(at, &index.to_string()))).collect(),
                )
            }
            DeValue::Table(table) => {
                let mut members = Map::new();
                for (key, value) in table {
                    let read = self.member(key, value, &child(at, key.get_ref()));
                    members.insert(key.get_ref().to_string(), read);
                }
                Value::Object(members)
            }
        }
    }

    fn string(&mut self, text: &str, at: &str) -> Value {
        if !text.contains("${") {
            return Value::String(text.to_owned());
        }
        match expand(text, self.folder, self.surroundings) {
            Ok(expanded) => {
                self.document.expanded.insert(at.to_owned());
                Value::String(expanded)
            }
            Err(wrong) => {
                let findings = wrong
                    .into_iter()
                    .map(|why| Finding { hint: Some(why.hint), ..Finding::at(at, why.message) });
                self.document.findings.extend(findings);
                Value::String(text.to_owned())
            }
        }
    }

    fn unfit(&mut self, at: &str, message: &str) -> Value {
        self.document.findings.push(Finding::at(at, message));
        Value::Null
    }
}
