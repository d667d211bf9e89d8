//! What a schema asks of a single value: its type, its choices, its text, its size.

use regex::Regex;
use serde_json::Value;

use super::check::{count, list_of};
use super::describe::{kind, literal, reference, wanted};
use super::{Finding, nearest};
use crate::scalar;

pub(super) fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        // TOML tells 5.0 from 5, and so does whoever reads the settings.
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// What helps with the commonest mistakes of type.
pub(super) fn type_hint(schema: &Value, value: &Value) -> Option<String> {
    let wants = |name: &str| schema.get("type").is_some_and(|types| types == name);
    match value {
        Value::Number(number) if wants("string") => {
            match schema.get("format").and_then(Value::as_str).and_then(scalar::format) {
                Some(format) => format.unit.map(|unit| format!("write the unit: \"{number}{unit}\"")),
                None => Some(format!("put it in quotes: \"{number}\"")),
            }
        }
        Value::String(text) if (wants("integer") || wants("number")) && text.parse::<f64>().is_ok() => {
            Some(format!("leave the quotes out: {text}"))
        }
        Value::String(text) if wants("boolean") && (text == "true" || text == "false") => {
            Some(format!("leave the quotes out: {text}"))
        }
        Value::String(text) if wants("array") => Some(format!("put it in brackets: [{text:?}]")),
        _ => None,
    }
}

/// `enum` and `const`.
pub(super) fn fits_choice(
    root: &Value,
    schema: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<Finding>,
) -> bool {
    let fits = match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
        (Some(values), _) => values.contains(value),
        (None, Some(constant)) => constant == value,
        (None, None) => true,
    };
    if !fits {
        let mut wrong = Finding::at(at, format!("expected {}, found {}", wanted(root, schema), shown(value)));
        wrong.hint = value.as_str().and_then(|text| meant(text, choices(root, schema)));
        found.push(wrong);
    }
    fits
}

/// The constant strings a schema allows.
pub(super) fn choices<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s str> {
    let schema = reference(root, schema).unwrap_or(schema);
    let mut choices: Vec<&str> =
        list_of(schema, "enum").iter().chain(schema.get("const")).filter_map(Value::as_str).collect();
    for keyword in ["anyOf", "oneOf"] {
        for branch in list_of(schema, keyword) {
            let branch = reference(root, branch).unwrap_or(branch);
            choices
                .extend(list_of(branch, "enum").iter().chain(branch.get("const")).filter_map(Value::as_str));
        }
    }
    choices
}

pub(super) fn meant(text: &str, choices: Vec<&str>) -> Option<String> {
    nearest(text, choices).map(|meant| format!("did you mean `\"{meant}\"`?"))
}

/// A short value itself, otherwise its kind.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Null => kind(value).to_owned(),
        Value::String(text) if text.len() > 40 => kind(value).to_owned(),
        _ => literal(value),
    }
}

pub(super) fn string(schema: &Value, text: &str, at: &str, found: &mut Vec<Finding>) {
    if let Some(format) = schema.get("format").and_then(Value::as_str).and_then(scalar::format)
        && let Err(why) = (format.check)(text)
    {
        let mut wrong = Finding::at(at, format!("expected {}: {why}", format.what));
        wrong.hint = format
            .unit
            .filter(|_| text.parse::<f64>().is_ok())
            .map(|unit| format!("write the unit: \"{text}{unit}\""));
        found.push(wrong);
        return;
    }
    let letters = text.chars().count();
    if let Some(least) = count(schema, "minLength").filter(|least| letters < *least) {
        found.push(Finding::at(
            at,
            if least == 1 {
                "this must not be empty".to_owned()
            } else {
                format!("this needs at least {least} characters")
            },
        ));
    }
    if let Some(most) = count(schema, "maxLength").filter(|most| letters > *most) {
        found.push(Finding::at(at, format!("this may have at most {most} characters")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Ok(compiled) = Regex::new(pattern)
        && !compiled.is_match(text)
    {
        found.push(Finding::at(at, format!("this does not match the pattern `{pattern}`")));
    }
}

pub(super) fn range(schema: &Value, number: &serde_json::Number, at: &str, found: &mut Vec<Finding>) {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if value < least || value > most => {
            found.push(Finding::at(at, format!("expected a number from {least} to {most}")));
        }
        (Some(least), None) if value < least => {
            found.push(Finding::at(at, format!("expected at least {least}")));
        }
        (None, Some(most)) if value > most => {
            found.push(Finding::at(at, format!("expected at most {most}")));
        }
        _ => {}
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| value <= *least) {
        found.push(Finding::at(at, format!("expected more than {least}")));
    }
    if let Some(most) = bound("exclusiveMaximum").filter(|most| value >= *most) {
        found.push(Finding::at(at, format!("expected less than {most}")));
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0 && (value / step).fract() != 0.0) {
        found.push(Finding::at(at, format!("expected a multiple of {step}")));
    }
}
