//! What a schema asks for, and what a value is, in words.

use serde_json::Value;

use crate::scalar;

/// What was written, with its article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a float",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// What the schema asks for, e.g. "a string or a list".
pub(crate) fn wanted(root: &Value, schema: &Value) -> String {
    let mut words = Vec::new();
    collect(root, schema, &mut words, 0);
    words.dedup();
    match words.split_last() {
        None => "something else".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// How many references are followed before a schema is taken to go in circles.
const DEPTH: usize = 16;

fn collect(root: &Value, schema: &Value, words: &mut Vec<String>, depth: usize) {
    if depth > DEPTH {
        return;
    }
    if let Some(target) = reference(root, schema) {
        return collect(root, target, words, depth + 1);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(branches) = schema.get(keyword).and_then(Value::as_array) {
            branches.iter().for_each(|branch| collect(root, branch, words, depth + 1));
            return;
        }
    }
    let mut add = |word: String| {
        if !words.contains(&word) {
            words.push(word);
        }
    };
    if let Some(constant) = schema.get("const") {
        return add(literal(constant));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().for_each(|value| add(literal(value)));
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str).and_then(scalar::format) {
        return add(format.what.to_owned());
    }
    match schema.get("type") {
        Some(Value::String(name)) => add(article(name).to_owned()),
        Some(Value::Array(names)) => {
            names
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| *name != "null")
                .for_each(|name| add(article(name).to_owned()));
        }
        _ => {}
    }
}

/// What a local `$ref` points to.
pub(crate) fn reference<'s>(root: &'s Value, schema: &Value) -> Option<&'s Value> {
    root.pointer(schema.get("$ref")?.as_str()?.strip_prefix('#')?)
}

/// A constant as it would be written in TOML.
pub(crate) fn literal(value: &Value) -> String {
    format!("`{value}`")
}

fn article(type_name: &str) -> &str {
    match type_name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a table",
        other => other,
    }
}
