//! Describes in words what a schema asks for, and what a value is.

use std::borrow::Cow;

use serde_json::Value;

use super::check::{Walk, list_of};
use crate::scalar;

/// The type of a value, with its article.
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
pub(super) fn wanted(walk: &Walk<'_>, schema: &Value) -> String {
    let mut words = Vec::new();
    collect(walk, schema, &mut words, 0);
    words.dedup();
    if words.len() > WORDS {
        return format!("{}, or one of others", words[..WORDS].join(", "));
    }
    match words.split_last() {
        None => "something else".to_owned(),
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
    }
}

/// The most references that are followed before a schema counts as circular.
const DEPTH: usize = 16;

/// The most of the types and values that a schema asks for that are listed.
const WORDS: usize = 40;

fn collect(walk: &Walk<'_>, schema: &Value, words: &mut Vec<String>, depth: usize) {
    if depth > DEPTH || words.len() > WORDS || !walk.steps.take(1) {
        return;
    }
    if let Some(target) = reference(walk, schema) {
        return collect(walk, target, words, depth + 1);
    }
    for keyword in ["anyOf", "oneOf"] {
        if schema.get(keyword).is_some_and(Value::is_array) {
            let branches = list_of(schema, keyword).iter();
            // Without steps the branches would add nothing.
            let branches = branches.take_while(|_| !walk.steps.are_used_up());
            branches.for_each(|branch| collect(walk, branch, words, depth + 1));
            return;
        }
    }
    let mut add = |word: String| {
        if words.len() <= WORDS && !words.contains(&word) {
            words.push(word);
        }
    };
    if let Some(constant) = schema.get("const") {
        walk.steps.take_value(constant);
        return add(literal(constant));
    }
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        let values = values.iter().take(WORDS + 1).filter(|value| walk.steps.take_value(value));
        return values.for_each(|value| add(literal(value)));
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str).and_then(scalar::format) {
        return add(format.what.to_owned());
    }
    match schema.get("type") {
        Some(Value::String(name)) => add(article(name).to_owned()),
        Some(Value::Array(names)) => {
            let names = names.iter().take(WORDS).filter_map(Value::as_str);
            names.filter(|name| *name != "null").for_each(|name| add(article(name).to_owned()));
        }
        _ => {}
    }
}

/// The schema that a local `$ref` points to.
pub(super) fn reference<'s>(walk: &Walk<'s>, schema: &Value) -> Option<&'s Value> {
    let pointer = schema.get("$ref")?.as_str()?.strip_prefix('#')?;
    walk.steps.take_text(pointer).then(|| walk.root.pointer(pointer)).flatten()
}

/// A constant as TOML writes it; of a long one, the beginning.
pub(super) fn literal(value: &Value) -> String {
    format!("`{}`", cut(&value.to_string()))
}

/// The beginning of a name or value, since a schema may have made it very long.
pub(super) fn cut(text: &str) -> Cow<'_, str> {
    cut_after(text, 200)
}

/// The beginning of a text: at most `characters` characters.
pub(super) fn cut_after(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

fn article(type_name: &str) -> &str {
    match type_name {
        "string" => "a string",
        "integer" => "an integer",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a table",
        other => other.get(..40).unwrap_or(other),
    }
}
