//! The walker: a value and a schema side by side.

use regex::Regex;
use serde_json::{Map, Value, json};

use super::describe::{kind, reference, wanted};
use super::leaf::{choices, fits_choice, is_type, meant, range, shown, string, type_hint};
use super::{Finding, nearest};
use crate::pointer::child;

/// Everything in `value` that does not satisfy `schema` (JSON Schema draft 2020-12).
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut walk = Walk { root: schema, steps: STEPS + STEPS_EACH * values(value), depth: 0 };
    let mut found = Vec::new();
    walk.value(schema, value, "", &mut found);
    if walk.steps == 0 {
        found.push(Finding::at("", "the schema is too complex to check these settings against"));
    }
    found
}

/// Steps of any check. Schemas come from plugins: alternatives in alternatives could take for ever.
const STEPS: usize = 200_000;

/// Steps more for each value that is checked, so that many routes are no reason to refuse. The schema of the configuration
/// itself takes about two.
const STEPS_EACH: usize = 20;

/// And references in circles could take all of the stack. TOML itself nests at most 80 deep.
const DEPTH: usize = 256;

struct Walk<'s> {
    root: &'s Value,
    /// Those that are left; none: the check was given up.
    steps: usize,
    depth: usize,
}

impl Walk<'_> {
    fn value(&mut self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        self.steps = self.steps.saturating_sub(1);
        if self.depth == DEPTH {
            self.steps = 0;
        }
        if self.steps > 0 {
            self.depth += 1;
            self.value_within_bounds(schema, value, at, found);
            self.depth -= 1;
        }
    }

    fn value_within_bounds(&mut self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        if schema == &Value::Bool(false) {
            found.push(Finding::at(at, "nothing is allowed here"));
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
        let fits = has_type(schema, value);
        if !fits {
            let mut wrong =
                Finding::at(at, format!("expected {}, found {}", wanted(self.root, schema), kind(value)));
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
                found.push(Finding::at(at, "this fits more than one of the forms that exclude each other"));
            }
        }
        if let Some(refused) = schema.get("not")
            && self.tried(refused, value, at).is_empty()
        {
            found.push(Finding::at(at, "this is not allowed here"));
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

    /// Reports the branch that was most likely meant: the only one of the value's type; for a table, the one whose
    /// constants (the tag of a variant) fit and in which the least is wrong. Otherwise says what would fit.
    fn nearest_branch(
        &self,
        schema: &Value,
        tried: Vec<(&Value, Vec<Finding>)>,
        value: &Value,
        at: &str,
    ) -> Vec<Finding> {
        let typed: Vec<_> =
            tried.into_iter().filter(|(branch, _)| accepts_type(self.root, branch, value, 0)).collect();
        if typed.len() == 1 {
            return typed.into_iter().flat_map(|(_, found)| found).collect();
        }
        if value.is_object() {
            if let Some(wrong) = wrong_tag(self.root, &typed, value, at) {
                return vec![wrong];
            }
            let tagged = typed.iter().filter(|(branch, _)| fits_tags(self.root, branch, value));
            if let Some((_, found)) = tagged.min_by_key(|(_, found)| found.len()) {
                return found.clone();
            }
        }
        let choices = choices(self.root, schema);
        // Only a word that was to be chosen is repeated: any other string may be a secret.
        let found =
            if choices.is_empty() && value.is_string() { kind(value).to_owned() } else { shown(value) };
        let mut wrong = Finding::at(at, format!("expected {}, found {found}", wanted(self.root, schema)));
        wrong.hint = value.as_str().and_then(|text| meant(text, choices));
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
            found.push(Finding::at(
                at,
                if least == 1 {
                    "this list must not be empty".to_owned()
                } else {
                    format!("this list needs at least {least} elements")
                },
            ));
        }
        if let Some(most) = count(schema, "maxItems").filter(|most| items.len() > *most) {
            found.push(Finding::at(at, format!("this list may have at most {most} elements")));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            for (index, item) in items.iter().enumerate() {
                if items[..index].contains(item) {
                    found.push(Finding::at(
                        &child(at, &index.to_string()),
                        "this element is in the list twice",
                    ));
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
                None if schema.get("unevaluatedProperties") == Some(&Value::Bool(false))
                    && !self.known_keys(schema, 0).iter().any(|known| known == key) =>
                {
                    found.push(self.unknown_key(schema, key, &here));
                }
                None => {}
            }
        }
        required(schema, properties, members, at, found);
    }

    fn unknown_key(&self, schema: &Value, key: &str, at: &str) -> Finding {
        let known = self.known_keys(schema, 0);
        let removed = schema.get("x-removed").and_then(|removed| removed.get(key)?.as_str());
        let hint = match nearest(key, known.iter().map(String::as_str)) {
            Some(meant) => Some(format!("did you mean `{meant}`?")),
            None if known.is_empty() => None,
            None => Some(format!(
                "known here: {}",
                known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
            )),
        };
        let hint = removed.map(str::to_owned).or(hint);
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

/// The first sentence of a description, without its full stop. "e.g. " ends none.
fn first_sentence(text: &str) -> &str {
    let mut stops = text.match_indices(". ").map(|(at, _)| at);
    let end = stops.find(|at| text[at + 2..].starts_with(char::is_uppercase));
    end.map_or(text.trim_end_matches('.'), |end| &text[..end])
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
            let mut missing = Finding::at(at, format!("missing key `{key}`"));
            missing.hint = about.map(|about| first_sentence(about).to_owned());
            found.push(missing);
        }
    }
    for (key, needed) in schema.get("dependentRequired").and_then(Value::as_object).into_iter().flatten() {
        for other in needed.as_array().into_iter().flatten().filter_map(Value::as_str) {
            if members.contains_key(key) && !members.contains_key(other) {
                found.push(Finding::at(&child(at, key), format!("`{key}` needs `{other}` beside it")));
            }
        }
    }
    if let Some(least) = count(schema, "minProperties").filter(|least| members.len() < *least) {
        found.push(Finding::at(at, format!("this table needs at least {least} keys")));
    }
    if let Some(most) = count(schema, "maxProperties").filter(|most| members.len() > *most) {
        found.push(Finding::at(at, format!("this table may have at most {most} keys")));
    }
}

/// Whether a value of this type could fit, whatever is in it.
fn accepts_type(root: &Value, schema: &Value, value: &Value, depth: usize) -> bool {
    if let Some(target) = reference(root, schema).filter(|_| depth < 16) {
        return accepts_type(root, target, value, depth + 1);
    }
    has_type(schema, value)
}

fn has_type(schema: &Value, value: &Value) -> bool {
    match schema.get("type") {
        Some(Value::String(name)) => is_type(name, value),
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).any(|name| is_type(name, value)),
        _ => true,
    }
}

/// Where variants are told apart by a constant property and the value fits none: what it should have been.
fn wrong_tag(root: &Value, branches: &[(&Value, Vec<Finding>)], value: &Value, at: &str) -> Option<Finding> {
    let constants = |branch: &Value| -> Map<String, Value> {
        let properties =
            reference(root, branch).unwrap_or(branch).get("properties").and_then(Value::as_object);
        let constant = |(key, part): (&String, &Value)| Some((key.clone(), part.get("const")?.clone()));
        properties.into_iter().flatten().filter_map(constant).collect()
    };
    let (tag, _) = constants(branches.first()?.0).into_iter().next()?;
    let tags: Option<Vec<Value>> =
        branches.iter().map(|(branch, _)| constants(branch).remove(&tag)).collect();
    let choices = json!({ "enum": tags? });
    match value.get(&tag) {
        Some(written) => {
            let mut found = Vec::new();
            fits_choice(root, &choices, written, &child(at, &tag), &mut found);
            found.pop()
        }
        None => {
            let hint = Some(format!("it is {}", wanted(root, &choices)));
            Some(Finding { hint, ..Finding::at(at, format!("missing key `{tag}`")) })
        }
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

/// How many values there are: this one, and all within.
fn values(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum(),
        Value::Object(members) => members.values().map(values).sum::<usize>(),
        _ => 0,
    }
}

pub(super) fn list_of<'s>(schema: &'s Value, keyword: &str) -> &'s [Value] {
    schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn count(schema: &Value, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
}
