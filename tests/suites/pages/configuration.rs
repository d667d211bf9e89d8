//! The configuration reference, generated from the published schema. Its examples are the values of
//! `host/config/tests/reference.toml`, which a test of that crate keeps complete and valid.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::markdown::{code, table};
use super::{head, hold};

const EXAMPLES: &str = include_str!("../../../host/config/tests/reference.toml");

const PREAMBLE: &str = "\
Every key, with its type, its default and an example. `witgate config schema` prints the same as JSON Schema, for editors;
`witgate validate` checks a file against the schema and against rules that a schema cannot express. A key without a default
may be left out, unless it is marked as required. A title such as `[upstreams.NAME.breaker]` is a table with
a `NAME` of your choice; `[[routes]]` may occur any number of times.

The settings of filters and of balancing policies are on [another page](filters-and-policies.md); the settings of a
plugin are printed by `witgate plugin check`.

";

#[test]
fn the_configuration_reference_is_current() {
    let schema = witgate_config::schema();
    let examples: Value = toml::from_str(EXAMPLES).expect("TOML");
    let mut walk = Walk { root: &schema, sections: String::new(), seen: BTreeMap::new() };
    walk.section("", &schema, &[&examples]);
    let mut text = head("Configuration", "the JSON Schema of the configuration");
    let _ = write!(text, "{}\n\n{PREAMBLE}{}", words(&schema), walk.sections.trim_start());
    hold("configuration.md", &text);
}

/// The table of settings of a schema without references.
pub(super) fn settings(schema: &Value) -> String {
    let mut walk = Walk { root: schema, sections: String::new(), seen: BTreeMap::new() };
    let rows = walk.rows("", schema, &[]).into_iter();
    let rows = rows.map(|[key, kind, default, _, meaning]| [key, kind, default, meaning]);
    table(["key", "type", "default", "meaning"], rows) + &walk.sections
}

/// Walks through a schema and writes a section for each kind of table.
struct Walk<'a> {
    root: &'a Value,
    sections: String,
    /// Titles of the sections about definitions that are used in several places.
    seen: BTreeMap<String, String>,
}

impl<'a> Walk<'a> {
    /// Writes the section of a table, and those of the tables in it.
    fn section(&mut self, title: &str, schema: &'a Value, examples: &[&Value]) {
        let place = self.sections.len();
        let rows =
            table(["key", "type", "default", "example", "meaning"], self.rows(title, schema, examples));
        let heading = if title.is_empty() { "The file".to_owned() } else { code(title) };
        let about = if title.is_empty() { String::new() } else { words(schema) + "\n\n" };
        self.sections.insert_str(place, &format!("\n## {heading}\n\n{about}{}\n", rows.trim_end()));
    }

    /// The rows of a table. Sections of the tables in it are written meanwhile.
    fn rows(&mut self, title: &str, schema: &'a Value, examples: &[&Value]) -> Vec<[String; 5]> {
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut rows = Vec::new();
        for (key, part) in schema["properties"].as_object().into_iter().flatten() {
            let inner: Vec<&Value> = examples.iter().filter_map(|value| value.get(key)).collect();
            let target = self.resolve(part);
            let about = part.get("description").or(target.get("description"));
            let default = part.get("default").or(target.get("default"));
            let default = match default.filter(|value| !is_filled_table(value)) {
                Some(value) => code(&toml(value)),
                None if required.contains(&key.as_str()) => "required".to_owned(),
                None => String::new(),
            };
            let link = self.inner_sections(title, key, part, &inner);
            let example = inner.first().filter(|value| link.is_none() || !value.is_object());
            let example = example.filter(|value| !is_long(value)).map(|value| code(&toml(value)));
            let kind = self.kind(part);
            rows.push([
                code(key),
                link.map_or(kind.clone(), |link| format!("{kind}: {link}")),
                default,
                example.unwrap_or_default(),
                about.and_then(Value::as_str).unwrap_or_default().to_owned(),
            ]);
        }
        rows
    }

    /// Writes the sections of the tables that a key may hold, and names them.
    fn inner_sections(
        &mut self,
        title: &str,
        key: &str,
        part: &'a Value,
        examples: &[&Value],
    ) -> Option<String> {
        let base = title.trim_matches(['[', ']']);
        let path = if base.is_empty() { key.to_owned() } else { format!("{base}.{key}") };
        let mut found = None;
        for (suffix, table, examples) in self.tables(part, examples) {
            let path = format!("{path}{}", suffix.trim_end_matches("[]"));
            let own = if suffix.ends_with("[]") { format!("[[{path}]]") } else { format!("[{path}]") };
            let name = table["$ref"].as_str().map(str::to_owned);
            let known = name.as_ref().and_then(|name| self.seen.get(name)).cloned();
            let shown = known.clone().unwrap_or_else(|| own.clone());
            found = Some(code(&shown));
            if known.is_none() {
                self.seen.extend(name.map(|name| (name, own.clone())));
                self.section(&own, self.resolve(table), &examples);
            }
        }
        found
    }

    /// The schemas of the tables with known keys that a value may be or contain, with the suffix of the path to
    /// each.
    fn tables<'v>(
        &self,
        part: &'a Value,
        examples: &[&'v Value],
    ) -> Vec<(String, &'a Value, Vec<&'v Value>)> {
        let target = self.resolve(part);
        if let Some(keys) = target["properties"].as_object() {
            // For filters and policies the schema has only the kind; their settings are on another page.
            let is_opaque = keys.len() == 1 && keys.contains_key("kind");
            return if is_opaque { vec![] } else { vec![(String::new(), part, examples.to_vec())] };
        }
        let mut found = Vec::new();
        for branch in target["anyOf"].as_array().into_iter().flatten() {
            found.extend(self.tables(branch, examples));
        }
        if target["items"].is_object() {
            let inner: Vec<&Value> = examples.iter().filter_map(|value| value.as_array()).flatten().collect();
            let items = self.tables(&target["items"], &inner).into_iter();
            found.extend(items.map(|(suffix, table, examples)| (format!("{suffix}[]"), table, examples)));
        }
        if target["additionalProperties"].is_object() {
            let tables = examples.iter().filter_map(|value| value.as_object());
            let inner: Vec<&Value> = tables.flat_map(Map::values).collect();
            let values = self.tables(&target["additionalProperties"], &inner).into_iter();
            found.extend(values.map(|(suffix, table, examples)| (format!(".NAME{suffix}"), table, examples)));
        }
        found
    }

    fn resolve(&self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(target) => {
                let target = self.root.pointer(target.trim_start_matches('#'));
                self.resolve(target.expect("a reference inside of the schema"))
            }
            None => schema,
        }
    }

    /// The type of a value, in a few words.
    fn kind(&self, schema: &'a Value) -> String {
        let schema = self.resolve(schema);
        for choice in ["anyOf", "oneOf"] {
            if let Some(branches) = schema[choice].as_array() {
                let mut kinds: Vec<String> = branches.iter().map(|branch| self.kind(branch)).collect();
                kinds.dedup();
                return kinds.join(" or ");
            }
        }
        if let Some(value) = schema.get("const") {
            return code(&toml(value));
        }
        if let Some(values) = schema["enum"].as_array() {
            return values.iter().map(|value| code(&toml(value))).collect::<Vec<_>>().join(" or ");
        }
        if let Some(format) = schema["format"].as_str().and_then(|format| format.strip_prefix("witgate-")) {
            return format.replace('-', " ");
        }
        match schema["type"].as_str() {
            Some("array") => format!("list of {}", self.kind(&schema["items"])),
            Some("object") => "table".to_owned(),
            Some(number @ ("integer" | "number")) => format!("{number}{}", bounds(schema)),
            Some(other) => other.to_owned(),
            None => "any".to_owned(),
        }
    }
}

/// The range of a number.
fn bounds(schema: &Value) -> String {
    let least = schema.get("minimum").or(schema.get("exclusiveMinimum"));
    let above = if schema.get("exclusiveMinimum").is_some() { "above " } else { "" };
    match (least, schema.get("maximum")) {
        (Some(least), Some(most)) => format!(", {above}{least} to {most}"),
        (Some(least), None) if above.is_empty() => format!(", at least {least}"),
        (Some(least), None) => format!(", above {least}"),
        (None, Some(most)) => format!(", at most {most}"),
        (None, None) => String::new(),
    }
}

fn words(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().to_owned()
}

/// Whether a default is a table, whose keys are described in a section of their own.
fn is_filled_table(value: &Value) -> bool {
    value.as_object().is_some_and(|table| !table.is_empty() && table.values().any(|value| !value.is_string()))
}

/// Whether a value is too long for a cell of a table.
fn is_long(value: &Value) -> bool {
    toml(value).len() > 70
}

/// A value as it is written in TOML, on one line.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        Value::Object(table) => {
            let pairs: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}
