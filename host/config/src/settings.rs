//! Settings that only their owner can interpret.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::pointer;
use crate::problem::{Problem, Problems, Span};
use crate::schema::{Finding, check};

/// The settings of one filter or one plugin binding: a JSON object with the positions of its values.
#[derive(Clone, Default)]
pub struct Settings {
    /// The settings as a JSON object.
    pub value: Map<String, Value>,
    /// The position of each value, by JSON Pointer (RFC 6901); the empty pointer is the table as a whole.
    pub spans: BTreeMap<String, Span>,
    /// The position of the key of each value, by the same pointers. Elements of lists have none.
    pub key_spans: BTreeMap<String, Span>,
    /// The dotted path of the table, e.g. `bindings.jwt.settings`.
    pub key: String,
}

/// Leaves out the values, because keys and tokens may be among them.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.value.keys().collect();
        formatter
            .debug_struct("Settings")
            .field("key", &self.key)
            .field("keys", &keys)
            .finish_non_exhaustive()
    }
}

/// Equal values are equal wherever they were written, so that a reload ignores moved lines.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Settings {
    /// Settings that are not in a file, for tests and built-in defaults.
    pub fn unwritten(key: impl Into<String>, value: Map<String, Value>) -> Self {
        Self { value, key: key.into(), ..Self::default() }
    }

    /// Deserialises the settings as their owner's type, after checking them against that type's schema.
    ///
    /// # Errors
    ///
    /// All mistakes, each with its position. The owner adds what only it can know by [`Settings::problem`].
    pub fn parse<T: DeserializeOwned + JsonSchema>(&self) -> Result<T, Problems> {
        let schema =
            schemars::generate::SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
        let problems = check_settings(self, schema.as_value());
        if !problems.is_empty() {
            return Err(problems);
        }
        self.convert(Value::Object(self.value.clone()), "").map_err(|finding| vec![self.place(finding)])
    }

    /// A problem with one of the settings. `pointer` is a JSON Pointer into them; empty means all of them.
    ///
    /// If the pointer names a value that was not written (plugins may send such), the nearest table around it is
    /// the position.
    pub fn problem(&self, pointer: &str, message: impl Into<String>, hint: Option<String>) -> Problem {
        self.place(Finding { hint, ..Finding::at(pointer, message) })
    }

    /// Turns a finding into a problem, with position and dotted key.
    pub(crate) fn place(&self, finding: Finding) -> Problem {
        let span = if finding.at_key { self.key_spans.get(&finding.pointer) } else { None };
        Problem {
            message: finding.message,
            span: span.or_else(|| self.nearest_span(&finding.pointer)).cloned(),
            key: pointer::dotted(&self.key, &finding.pointer, &self.value),
            hint: finding.hint,
        }
    }

    /// The position of a value, or else of the nearest table or list around it.
    pub(crate) fn nearest_span(&self, pointer: &str) -> Option<&Span> {
        let mut at = Some(pointer);
        while let Some(pointer) = at {
            if let Some(span) = self.spans.get(pointer) {
                return Some(span);
            }
            at = pointer::parent(pointer);
        }
        None
    }

    /// The value at a pointer.
    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        let path = pointer.strip_prefix('/')?;
        let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        self.value.get(&first.replace("~1", "/").replace("~0", "~"))?.pointer(rest)
    }

    /// The value at a pointer, for replacing it.
    pub(crate) fn get_mut(&mut self, pointer: &str) -> Option<&mut Value> {
        let path = pointer.strip_prefix('/')?;
        let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
        self.value.get_mut(&first.replace("~1", "/").replace("~0", "~"))?.pointer_mut(rest)
    }

    /// Deserialises a value that was found at a pointer.
    pub(crate) fn convert<T: DeserializeOwned>(&self, value: Value, pointer: &str) -> Result<T, Finding> {
        serde_path_to_error::deserialize(value).map_err(|error| {
            let mut at = pointer.to_owned();
            for segment in error.path() {
                match segment {
                    serde_path_to_error::Segment::Seq { index } => {
                        at = pointer::child(&at, &index.to_string())
                    }
                    serde_path_to_error::Segment::Map { key } => at = pointer::child(&at, key),
                    _ => {}
                }
            }
            Finding::at(&at, error.inner().to_string())
        })
    }

    /// The settings in the table at a pointer, without some of its keys.
    pub(crate) fn part(&self, pointer: &str, without: &[&str]) -> Settings {
        let mut value = self.get(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        value.retain(|key, _| !without.contains(&key.as_str()));
        let rebased = |spans: &BTreeMap<String, Span>| {
            spans
                .range(pointer.to_owned()..)
                .take_while(|(at, _)| at.starts_with(pointer))
                .filter(|(at, _)| pointer::within(at, pointer))
                .map(|(at, span)| (at[pointer.len()..].to_owned(), span.clone()))
                .collect()
        };
        Settings {
            value,
            spans: rebased(&self.spans),
            key_spans: rebased(&self.key_spans),
            key: pointer::dotted(&self.key, pointer, &self.value),
        }
    }
}

/// Checks settings against a JSON Schema (draft 2020-12) that a plugin delivers. Returns every mistake with its
/// position.
///
/// `format` is an annotation here (section 7.2.1 of JSON Schema Validation), except for the formats of this
/// crate's own configuration. A `pattern` that the linear-time `regex` crate cannot run is left to the plugin.
pub fn check_settings(settings: &Settings, schema: &Value) -> Problems {
    let value = Value::Object(settings.value.clone());
    let mut problems: Problems =
        check(schema, &value).into_iter().map(|finding| settings.place(finding)).collect();
    problems.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.file, span.range.start)));
    problems
}
