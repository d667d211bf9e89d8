//! Mistakes in a configuration: what is wrong, where, and what to do.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use crate::redact::Inserted;

/// A position in one of the files of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Index of the file in the [`SourceMap`].
    pub file: usize,
    /// Byte range in that file.
    pub range: Range<usize>,
}

/// One mistake. Problems are collected and reported together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problem {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Where it is wrong; `None` if the mistake has no position in a file.
    pub span: Option<Span>,
    /// The dotted path of the key concerned, e.g. `routes[2].path`; empty for the whole configuration.
    pub key: String,
    /// How to correct it.
    pub hint: Option<String>,
}

impl Problem {
    /// A mistake without a position in a file.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    /// Adds how to correct it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// All mistakes in a configuration.
pub type Problems = Vec<Problem>;

/// The files a configuration was read from, for rendering problems.
#[derive(Debug, Clone, Default)]
pub struct SourceMap {
    /// Path and text of each file, in the order of reading.
    pub files: Vec<(PathBuf, String)>,
    /// Where each key was written, by its dotted path, e.g. `routes[2].path`.
    pub keys: BTreeMap<String, Span>,
    /// The texts that were inserted for references.
    pub inserted: Vec<Inserted>,
}

impl SourceMap {
    /// The position of a problem: its own, or else that of its key, or of the nearest table around it. Problems
    /// that are found after loading, e.g. by a filter's owner, know only their key.
    pub fn place<'p>(&'p self, problem: &'p Problem) -> Option<&'p Span> {
        let mut key = problem.key.as_str();
        let mut place = problem.span.as_ref().or_else(|| self.keys.get(key));
        while place.is_none() && !key.is_empty() {
            key = &key[..key.rfind(['.', '[']).unwrap_or(0)];
            place = self.keys.get(key);
        }
        place
    }

    /// A position as `file:line:column`.
    pub fn position(&self, span: &Span) -> String {
        let Some((path, text)) = self.files.get(span.file) else { return "?".to_owned() };
        let before = &text[..floor(text, span.range.start)];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        format!("{}:{line}:{column}", path.display())
    }
}

/// The last character boundary at or before `at`.
pub(crate) fn floor(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}
