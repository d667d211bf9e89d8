//! Checks a single value: its type, its choices, its text, its size.

use serde_json::Value;

use super::check::{Walk, count, list_of};
use super::describe::{cut, kind, literal, reference, wanted};
use super::{Finding, nearest};
use crate::scalar;

pub(super) fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        // TOML tells 5.0 from 5, and so does the code that reads the settings.
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// A hint for the most common type mistakes.
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

/// Checks `enum` and `const`.
pub(super) fn fits_choice(
    walk: &Walk<'_>,
    schema: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<Finding>,
) -> bool {
    let fits = match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
        (Some(values), _) => {
            values.iter().any(|choice| walk.steps.equal(choice, value) || walk.steps.are_used_up())
        }
        (None, Some(constant)) => walk.steps.equal(constant, value),
        (None, None) => true,
    };
    if !fits {
        let mut wrong = Finding::at(at, format!("expected {}, found {}", wanted(walk, schema), shown(value)));
        wrong.hint = value.as_str().and_then(|text| meant(walk, text, choices(walk, schema)));
        walk.report(found, wrong);
    }
    fits
}

/// The constant strings a schema allows.
pub(super) fn choices<'s: 'c, 'c>(walk: &Walk<'s>, schema: &'c Value) -> Vec<&'c str> {
    let schema = reference(walk, schema).unwrap_or(schema);
    let mut choices = constants(walk, schema);
    for keyword in ["anyOf", "oneOf"] {
        for branch in list_of(schema, keyword).iter().take_while(|_| walk.steps.take(1)) {
            choices.extend(constants(walk, reference(walk, branch).unwrap_or(branch)));
        }
    }
    choices
}

fn constants<'c>(walk: &Walk<'_>, schema: &'c Value) -> Vec<&'c str> {
    let constants = list_of(schema, "enum").iter().chain(schema.get("const"));
    constants.take_while(|_| walk.steps.take(1)).filter_map(Value::as_str).collect()
}

pub(super) fn meant(walk: &Walk<'_>, text: &str, choices: Vec<&str>) -> Option<String> {
    let affordable = walk.steps.take(SIMILARITY.saturating_mul(choices.len()));
    nearest(text, choices.into_iter().filter(|_| affordable))
        .map(|meant| format!("did you mean `\"{meant}\"`?"))
}

/// Steps that are counted for comparing a word with one possible correction.
pub(super) const SIMILARITY: usize = 20;

/// A short value itself; of any other, its type.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Null => kind(value).to_owned(),
        Value::String(text) if text.len() > 40 => kind(value).to_owned(),
        _ => literal(value),
    }
}

pub(super) fn string<'s>(walk: &Walk<'s>, schema: &'s Value, text: &str, at: &str, found: &mut Vec<Finding>) {
    if !walk.steps.take_text(text) {
        return;
    }
    if let Some(format) = schema.get("format").and_then(Value::as_str).and_then(scalar::format)
        && let Err(why) = (format.check)(text)
    {
        let mut wrong = Finding::at(at, format!("expected {}: {why}", format.what));
        let unit = format.unit.filter(|_| text.parse::<u64>().is_ok());
        wrong.hint = unit
            .map(|unit| format!("write the unit: \"{text}{unit}\""))
            .or_else(|| (format.meant)(text).map(|meant| format!("write it so: \"{meant}\"")));
        walk.report(found, wrong);
        return;
    }
    let letters = text.chars().count();
    if let Some(least) = count(schema, "minLength").filter(|least| letters < *least) {
        let message = match least {
            1 => "this must not be empty".to_owned(),
            _ => format!("this needs at least {least} characters"),
        };
        walk.report(found, Finding::at(at, message));
    }
    if let Some(most) = count(schema, "maxLength").filter(|most| letters > *most) {
        walk.report(found, Finding::at(at, format!("this may have at most {most} characters")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && walk.steps.matches(pattern, text) == Some(false)
    {
        walk.report(found, Finding::at(at, format!("this does not match the pattern `{}`", cut(pattern))));
    }
}

pub(super) fn range(
    walk: &Walk<'_>,
    schema: &Value,
    number: &serde_json::Number,
    at: &str,
    found: &mut Vec<Finding>,
) {
    let mut report = |message: String| walk.report(found, Finding::at(at, message));
    let value = number.as_f64().unwrap_or(f64::NAN);
    let bound = |keyword: &str| schema.get(keyword).and_then(Value::as_f64);
    match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) if value < least || value > most => {
            report(format!("expected a number from {least} to {most}"));
        }
        (Some(least), None) if value < least => {
            report(format!("expected at least {least}"));
        }
        (None, Some(most)) if value > most => {
            report(format!("expected at most {most}"));
        }
        _ => {}
    }
    if let Some(least) = bound("exclusiveMinimum").filter(|least| value <= *least) {
        report(format!("expected more than {least}"));
    }
    if let Some(most) = bound("exclusiveMaximum").filter(|most| value >= *most) {
        report(format!("expected less than {most}"));
    }
    if let Some(step) = bound("multipleOf").filter(|step| *step > 0.0 && (value / step).fract() != 0.0) {
        report(format!("expected a multiple of {step}"));
    }
}
