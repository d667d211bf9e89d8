//! The walker: a value and a schema side by side.

use regex::Regex;
use serde_json::{Map, Value};

use super::describe::{kind, literal, reference, wanted};
use super::nearest;
use crate::pointer::child;
use crate::scalar;

/// Something wrong with the value at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// JSON Pointer to the value.
    pub(crate) pointer: String,
    /// Whether the key is what is wrong, not its value.
    pub(crate) at_key: bool,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// Everything in `value` that does not satisfy `schema` (JSON Schema draft 2020-12).
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut walk = Walk { root: schema, steps: 0 };
    let mut found = Vec::new();
    walk.value(schema, value, "", &mut found);
    if walk.steps > STEPS {
        found.push(finding("", "the schema is too complex to check these settings against"));
    }
    found
}

/// Schemas come from plugins: alternatives in alternatives could take for ever.
const STEPS: usize = 200_000;

fn finding(pointer: &str, message: impl Into<String>) -> Finding {
    Finding { pointer: pointer.to_owned(), at_key: false, message: message.into(), hint: None }
}

struct Walk<'s> {
    root: &'s Value,
    steps: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        self.steps += 1;
        if self.steps > STEPS {
            return;
        }
        if schema == &Value::Bool(false) {
            found.push(finding(at, "nothing is allowed here"));
            return;
        }
        if let Some(target) = reference(self.root, schema) {
            self.value(target, value, at, found);
        }
        if !self.fits_type(schema, value, at, found) || !fits_choice(self.root, schema, value, at, found) {
            return;
        }
        self.alternatives(schema, value, at, found);
        match value {
            Value::String(text) => string(schema, text, at, found),
            Value::Number(number) => range(schema, number, at, found),
            Value::Array(items) => self.list(schema, items, at, found),
            Value::Object(members) => self.table(schema, members, at, found),
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn fits_type(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) -> bool {
        let fits = match schema.get("type") {
            Some(Value::String(name)) => is_type(name, value),
            Some(Value::Array(names)) => {
                names.iter().filter_map(Value::as_str).any(|name| is_type(name, value))
            }
            _ => true,
        };
        if !fits {
            let mut wrong =
                finding(at, format!("expected {}, found {}", wanted(self.root, schema), kind(value)));
            wrong.hint = type_hint(schema, value);
            found.push(wrong);
        }
        fits
    }

    /// `allOf`, `anyOf`, `oneOf`, `not`, `if`.
    fn alternatives(&mut self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        for part in list_of(schema, "allOf") {
            self.value(part, value, at, found);
        }
        for keyword in ["anyOf", "oneOf"] {
            let branches = list_of(schema, keyword);
            if branches.is_empty() {
                continue;
            }
            let tried: Vec<_> =
                branches.iter().map(|branch| (branch, self.tried(branch, value, at))).collect();
            let fitting = tried.iter().filter(|(_, found)| found.is_empty()).count();
            if fitting == 0 {
                found.extend(self.nearest_branch(schema, tried, value, at));
            } else if keyword == "oneOf" && fitting > 1 {
                found.push(finding(at, "this fits more than one of the forms that exclude each other"));
            }
        }
        if let Some(refused) = schema.get("not")
            && self.tried(refused, value, at).is_empty()
        {
            found.push(finding(at, "this is not allowed here"));
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.tried(condition, value, at).is_empty() { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                self.value(branch, value, at, found);
            }
        }
    }

    fn tried(&mut self, schema: &Value, value: &Value, at: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        self.value(schema, value, at, &mut found);
        found
    }

    /// Reports the branch that was most likely meant: the only one of the value's type, or the only one whose
    /// constants (the tag of a variant) fit. Where that does not decide it, says what would fit.
    fn nearest_branch(
        &self,
        schema: &Value,
        tried: Vec<(&Value, Vec<Finding>)>,
        value: &Value,
        at: &str,
    ) -> Vec<Finding> {
        let wrong_here = |found: &[Finding]| {
            found.iter().any(|finding| {
                finding.pointer == at && !finding.at_key && finding.message.starts_with("expected ")
            })
        };
        let typed: Vec<_> = tried.into_iter().filter(|(_, found)| !wrong_here(found)).collect();
        if typed.len() == 1 {
            return typed.into_iter().flat_map(|(_, found)| found).collect();
        }
        let tagged: Vec<_> = typed.iter().filter(|(branch, _)| fits_tags(self.root, branch, value)).collect();
        if let [(_, found)] = tagged.as_slice() {
            return found.clone();
        }
        if let (Value::Object(_), Some((_, found))) =
            (value, tagged.iter().min_by_key(|(_, found)| found.len()))
        {
            return found.clone();
        }
        let mut wrong =
            finding(at, format!("expected {}, found {}", wanted(self.root, schema), shown(value)));
        wrong.hint = value.as_str().and_then(|text| meant(text, choices(self.root, schema)));
        vec![wrong]
    }

    fn list(&mut self, schema: &Value, items: &[Value], at: &str, found: &mut Vec<Finding>) {
        let prefix = list_of(schema, "prefixItems");
        for (index, item) in items.iter().enumerate() {
            if let Some(part) = prefix.get(index).or_else(|| schema.get("items")) {
                self.value(part, item, &child(at, &index.to_string()), found);
            }
        }
        if let Some(least) = count(schema, "minItems").filter(|least| items.len() < *least) {
            found.push(finding(
                at,
                if least == 1 {
                    "this list must not be empty".to_owned()
                } else {
                    format!("this list needs at least {least} elements")
                },
            ));
        }
        if let Some(most) = count(schema, "maxItems").filter(|most| items.len() > *most) {
            found.push(finding(at, format!("this list may have at most {most} elements")));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            for (index, item) in items.iter().enumerate() {
                if items[..index].contains(item) {
                    found.push(finding(&child(at, &index.to_string()), "this element is in the list twice"));
                }
            }
        }
    }

    fn table(&mut self, schema: &Value, members: &Map<String, Value>, at: &str, found: &mut Vec<Finding>) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        for (key, value) in members {
            let here = child(at, key);
            let mut known = false;
            if let Some(part) = properties.and_then(|properties| properties.get(key)) {
                known = true;
                self.value(part, value, &here, found);
            }
            for (pattern, part) in patterns.into_iter().flatten() {
                // A pattern that cannot be run is left to the plugin: its key counts as known.
                if Regex::new(pattern).map_or(true, |pattern| pattern.is_match(key)) {
                    known = true;
                    self.value(part, value, &here, found);
                }
            }
            if let Some(names) = schema.get("propertyNames") {
                let wrong = self.tried(names, &Value::String(key.clone()), &here);
                found.extend(wrong.into_iter().map(|finding| Finding { at_key: true, ..finding }));
            }
            if known {
                continue;
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) => found.push(self.unknown_key(schema, key, &here)),
                Some(part) => self.value(part, value, &here, found),
                None if schema.get("unevaluatedProperties") == Some(&Value::Bool(false)) => {
                    if !self.known_keys(schema, 0).iter().any(|known| known == key) {
                        found.push(self.unknown_key(schema, key, &here));
                    }
                }
                None => {}
            }
        }
        required(schema, properties, members, at, found);
    }

    fn unknown_key(&self, schema: &Value, key: &str, at: &str) -> Finding {
        let known = self.known_keys(schema, 0);
        let hint = match nearest(key, known.iter().map(String::as_str)) {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None if known.is_empty() => None,
            None => Some(format!(
                "known here: {}",
                known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            )),
        };
        Finding { pointer: at.to_owned(), at_key: true, message: format!("unknown key `{key}`"), hint }
    }

    /// The keys a schema names, those of its parts and alternatives included.
    fn known_keys(&self, schema: &Value, depth: usize) -> Vec<String> {
        if depth > 16 {
            return Vec::new();
        }
        let own = schema.get("properties").and_then(Value::as_object);
        let mut keys: Vec<String> = own.map(|own| own.keys().cloned().collect()).unwrap_or_default();
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for part in list_of(schema, keyword) {
                keys.extend(self.known_keys(part, depth + 1));
            }
        }
        if let Some(target) = reference(self.root, schema) {
            keys.extend(self.known_keys(target, depth + 1));
        }
        keys
    }
}

fn required(
    schema: &Value,
    properties: Option<&Map<String, Value>>,
    members: &Map<String, Value>,
    at: &str,
    found: &mut Vec<Finding>,
) {
    for key in list_of(schema, "required").iter().filter_map(Value::as_str) {
        if !members.contains_key(key) {
            let about = properties.and_then(|properties| properties.get(key)?.get("description")?.as_str());
            let mut missing = finding(at, format!("missing key `{key}`"));
            missing.hint = about.map(|about| {
                format!("`{key}`: {}", about.split(". ").next().unwrap_or(about).trim_end_matches('.'))
            });
            found.push(missing);
        }
    }
    for (key, needed) in schema.get("dependentRequired").and_then(Value::as_object).into_iter().flatten() {
        for other in needed.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if members.contains_key(key) && !members.contains_key(other) {
                found.push(finding(&child(at, key), format!("`{key}` needs `{other}` beside it")));
            }
        }
    }
    if let Some(least) = count(schema, "minProperties").filter(|least| members.len() < *least) {
        found.push(finding(at, format!("this table needs at least {least} keys")));
    }
    if let Some(most) = count(schema, "maxProperties").filter(|most| members.len() > *most) {
        found.push(finding(at, format!("this table may have at most {most} keys")));
    }
}

fn is_type(name: &str, value: &Value) -> bool {
    match name {
        "string" => value.is_string(),
        "integer" => {
            value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        _ => true,
    }
}

/// What helps with the commonest mistakes of type.
fn type_hint(schema: &Value, value: &Value) -> Option<String> {
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
fn fits_choice(root: &Value, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) -> bool {
    let fits = match (schema.get("enum").and_then(Value::as_array), schema.get("const")) {
        (Some(values), _) => values.contains(value),
        (None, Some(constant)) => constant == value,
        (None, None) => true,
    };
    if !fits {
        let mut wrong = finding(at, format!("expected {}, found {}", wanted(root, schema), shown(value)));
        wrong.hint = value.as_str().and_then(|text| meant(text, choices(root, schema)));
        found.push(wrong);
    }
    fits
}

/// The constant strings a schema allows.
fn choices<'s>(root: &'s Value, schema: &'s Value) -> Vec<&'s str> {
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

fn meant(text: &str, choices: Vec<&str>) -> Option<String> {
    nearest(text, choices).map(|meant| format!("did you mean `\"{meant}\"`?"))
}

/// A short value itself, otherwise its kind.
fn shown(value: &Value) -> String {
    match value {
        Value::Array(_) | Value::Object(_) | Value::Null => kind(value).to_owned(),
        Value::String(text) if text.len() > 40 => kind(value).to_owned(),
        _ => literal(value),
    }
}

/// Whether no constant property of the branch contradicts the value: such properties tell variants apart.
fn fits_tags(root: &Value, branch: &Value, value: &Value) -> bool {
    let branch = reference(root, branch).unwrap_or(branch);
    let properties = branch.get("properties").and_then(Value::as_object);
    properties.into_iter().flatten().all(|(key, part)| match (part.get("const"), value.get(key)) {
        (Some(constant), written) => written == Some(constant),
        (None, _) => true,
    })
}

fn string(schema: &Value, text: &str, at: &str, found: &mut Vec<Finding>) {
    if let Some(format) = schema.get("format").and_then(Value::as_str).and_then(scalar::format)
        && let Err(why) = (format.check)(text)
    {
        let mut wrong = finding(at, format!("expected {}: {why}", format.what));
        wrong.hint = format
            .unit
            .filter(|_| text.parse::<f64>().is_ok())
            .map(|unit| format!("write the unit: \"{text}{unit}\""));
        found.push(wrong);
        return;
    }
    let letters = text.chars().count();
    if let Some(least) = count(schema, "minLength").filter(|least| letters < *least) {
        found.push(finding(
            at,
            if least == 1 {
                "this must not be empty".to_owned()
            } else {
                format!("this needs at least {least} characters")
            },
        ));
    }
    if let Some(most) = count(schema, "maxLength").filter(|most| letters > *most) {
        found.push(finding(at, format!("this may have at most {most} characters")));
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && let Ok(compiled) = Regex::new(pattern)
        && !compiled.is_match(text)
    {
        found.push(finding(at, format!("this does not match the pattern `{pattern}`")));
    }
}

fn range(schema: &Value, number: &serde_json::Number, at: &str, found: &mut Vec<Finding>) {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let bound =
        |keyword: &str| schema.get(keyword).and_then(Value::as_f64).map(|bound| (bound, &schema[keyword]));
    let (least, most) = (bound("minimum"), bound("maximum"));
    match (least, most) {
        (Some((least, low)), Some((most, high))) if value < least || value > most => {
            found.push(finding(at, format!("expected a number from {low} to {high}")));
        }
        (Some((least, low)), None) if value < least => {
            found.push(finding(at, format!("expected at least {low}")))
        }
        (None, Some((most, high))) if value > most => {
            found.push(finding(at, format!("expected at most {high}")))
        }
        _ => {}
    }
    if let Some((_, low)) = bound("exclusiveMinimum").filter(|(least, _)| value <= *least) {
        found.push(finding(at, format!("expected more than {low}")));
    }
    if let Some((_, high)) = bound("exclusiveMaximum").filter(|(most, _)| value >= *most) {
        found.push(finding(at, format!("expected less than {high}")));
    }
    if let Some((step, shown)) = bound("multipleOf").filter(|(step, _)| *step > 0.0)
        && (value / step).fract() != 0.0
    {
        found.push(finding(at, format!("expected a multiple of {shown} (steps of {step})")));
    }
}

fn list_of<'s>(schema: &'s Value, keyword: &str) -> &'s [Value] {
    schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn count(schema: &Value, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
}
