//! Compares a value with a schema.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::Finding;
use super::branches::nearest_branch;
use super::describe::{kind, reference, wanted};
use super::leaf::{fits_choice, is_type, range, string, type_hint};
use super::steps::Steps;
use super::table::{required, unknown_key};
use crate::pointer::child;

/// Every violation of `schema` (JSON Schema draft 2020-12) in `value`, as far as they are found within a bound of
/// steps that grows with the value. A finding says so if the schema needs more.
pub(crate) fn check(schema: &Value, value: &Value) -> Vec<Finding> {
    let mut walk = Walk { root: schema, steps: Steps::for_value(value), depth: 0 };
    let mut found = Vec::new();
    walk.value(schema, value, "", &mut found);
    let more = found.len().saturating_sub(FINDINGS);
    found.truncate(FINDINGS);
    if more > 0 {
        found.push(Finding::at("", format!("{more} more problems are not shown")));
    }
    if walk.steps.are_used_up() {
        let hint = "references in circles, alternatives in alternatives, long lists and large patterns make it so; ask \
                    the author of the plugin for a simpler schema";
        let given_up = Finding::at("", "the schema is too complex to check these settings against");
        found.push(Finding { hint: Some(hint.to_owned()), ..given_up });
    }
    found
}

/// The most findings that are reported.
const FINDINGS: usize = 1_000;

/// The deepest nesting, because circular references would exhaust the stack. TOML itself nests at most 80 deep.
const DEPTH: usize = 256;

/// A check in progress.
pub(super) struct Walk<'s> {
    /// The whole schema, to resolve references in.
    pub(super) root: &'s Value,
    /// The steps that are left.
    pub(super) steps: Steps<'s>,
    depth: usize,
}

impl<'s> Walk<'s> {
    fn value(&mut self, schema: &'s Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        if self.depth == DEPTH {
            self.steps.give_up();
        }
        if self.steps.take_text(at) {
            self.depth += 1;
            self.value_within_bounds(schema, value, at, found);
            self.depth -= 1;
        }
    }

    fn value_within_bounds(&mut self, schema: &'s Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        if schema == &Value::Bool(false) {
            self.report(found, Finding::at(at, "nothing is allowed here"));
            return;
        }
        if let Some(target) = reference(self, schema) {
            self.value(target, value, at, found);
        }
        if !self.fits_type(schema, value, at, found) || !fits_choice(self, schema, value, at, found) {
            return;
        }
        self.alternatives(schema, value, at, found);
        match value {
            Value::String(text) => string(self, schema, text, at, found),
            Value::Number(number) => range(self, schema, number, at, found),
            Value::Array(items) => self.list(schema, items, at, found),
            Value::Object(members) => self.table(schema, members, at, found),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// Keeps a finding if there are steps left for it, because findings take memory.
    pub(super) fn report(&self, found: &mut Vec<Finding>, finding: Finding) {
        let bytes =
            finding.pointer.len() + finding.message.len() + finding.hint.as_ref().map_or(0, String::len);
        if self.steps.take(10 + bytes / 10) {
            found.push(finding);
        }
    }

    fn fits_type(&self, schema: &Value, value: &Value, at: &str, found: &mut Vec<Finding>) -> bool {
        let fits = self.has_type(schema, value);
        if !fits {
            let mut wrong =
                Finding::at(at, format!("expected {}, found {}", wanted(self, schema), kind(value)));
            wrong.hint = type_hint(schema, value);
            self.report(found, wrong);
        }
        fits
    }

    /// Whether a value of this type could fit, whatever its content.
    pub(super) fn has_type(&self, schema: &Value, value: &Value) -> bool {
        match schema.get("type") {
            Some(Value::String(name)) => is_type(name, value),
            Some(Value::Array(names)) => {
                self.steps.take(names.len());
                names.iter().filter_map(Value::as_str).any(|name| is_type(name, value))
            }
            _ => true,
        }
    }

    /// Checks `allOf`, `anyOf`, `oneOf`, `not`, `if`.
    fn alternatives(&mut self, schema: &'s Value, value: &Value, at: &str, found: &mut Vec<Finding>) {
        for part in list_of(schema, "allOf") {
            if self.steps.are_used_up() {
                return;
            }
            self.value(part, value, at, found);
        }
        for keyword in ["anyOf", "oneOf"] {
            self.choose(schema, keyword, value, at, found);
        }
        if let Some(refused) = schema.get("not")
            && self.tried(refused, value, at).is_empty()
        {
            self.report(found, Finding::at(at, "this is not allowed here"));
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.tried(condition, value, at).is_empty() { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                self.value(branch, value, at, found);
            }
        }
    }

    /// Checks `anyOf` or `oneOf`.
    fn choose(
        &mut self,
        schema: &'s Value,
        keyword: &str,
        value: &Value,
        at: &str,
        found: &mut Vec<Finding>,
    ) {
        let branches = list_of(schema, keyword);
        let mut tried = Vec::new();
        for branch in branches {
            let wrong = self.tried(branch, value, at);
            // If the steps ran out, the findings of the branches are incomplete.
            if self.steps.are_used_up() {
                return;
            }
            tried.push((branch, wrong));
        }
        let fitting = tried.iter().filter(|(_, found)| found.is_empty()).count();
        if fitting == 0 && !branches.is_empty() {
            found.extend(nearest_branch(self, schema, tried, value, at));
        } else if keyword == "oneOf" && fitting > 1 {
            let both = Finding::at(at, "this fits more than one of the forms that exclude each other");
            self.report(found, both);
        }
    }

    fn tried(&mut self, schema: &'s Value, value: &Value, at: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        self.value(schema, value, at, &mut found);
        found
    }

    fn list(&mut self, schema: &'s Value, items: &[Value], at: &str, found: &mut Vec<Finding>) {
        let prefix = list_of(schema, "prefixItems");
        for (index, item) in items.iter().enumerate() {
            if let Some(part) = prefix.get(index).or_else(|| schema.get("items")) {
                self.value(part, item, &child(at, &index.to_string()), found);
            }
            if !self.steps.take(1) {
                return;
            }
        }
        if let Some(least) = count(schema, "minItems").filter(|least| items.len() < *least) {
            let message = match least {
                1 => "this list must not be empty".to_owned(),
                _ => format!("this list needs at least {least} elements"),
            };
            self.report(found, Finding::at(at, message));
        }
        if let Some(most) = count(schema, "maxItems").filter(|most| items.len() > *most) {
            self.report(found, Finding::at(at, format!("this list may have at most {most} elements")));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut seen = HashMap::new();
            for (index, item) in items.iter().enumerate().take_while(|(_, item)| self.steps.take_value(item))
            {
                let first = *seen.entry(item).or_insert(index);
                if first != index {
                    let mut twice =
                        Finding::at(&child(at, &index.to_string()), "this element is in the list twice");
                    twice.hint = Some(format!("element {} is the same: keep one of them", first + 1));
                    self.report(found, twice);
                }
            }
        }
    }

    fn table(&mut self, schema: &'s Value, members: &Map<String, Value>, at: &str, found: &mut Vec<Finding>) {
        for (key, value) in members {
            if !self.steps.take_text(at) {
                return;
            }
            self.member(schema, key, value, &child(at, key), found);
        }
        required(self, schema, members, at, found);
    }

    fn member(&mut self, schema: &'s Value, key: &str, value: &Value, here: &str, found: &mut Vec<Finding>) {
        let mut known = false;
        if let Some(part) = schema.get("properties").and_then(|properties| properties.as_object()?.get(key)) {
            known = true;
            self.value(part, value, here, found);
        }
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        for (pattern, part) in patterns.into_iter().flatten() {
            // A pattern that cannot be compiled is left to the plugin: the key counts as known.
            if self.steps.take(1) && self.steps.matches(pattern, key).unwrap_or(true) {
                known = true;
                self.value(part, value, here, found);
            }
        }
        if let Some(names) = schema.get("propertyNames") {
            let wrong = self.tried(names, &Value::String(key.to_owned()), here);
            found.extend(wrong.into_iter().map(|finding| Finding { at_key: true, ..finding }));
        }
        if known {
            return;
        }
        match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => self.report(found, unknown_key(self, schema, key, here)),
            Some(part) => self.value(part, value, here, found),
            None if schema.get("unevaluatedProperties") == Some(&Value::Bool(false))
                && !self.known_keys(schema).contains(&key) =>
            {
                self.report(found, unknown_key(self, schema, key, here));
            }
            None => {}
        }
    }

    /// The keys that a schema names, including those of its parts and alternatives. Each part is visited once,
    /// however many references lead to it.
    pub(super) fn known_keys(&self, schema: &'s Value) -> Vec<&'s str> {
        let (mut keys, mut seen, mut open) = (Vec::new(), HashSet::new(), vec![schema]);
        while let Some(schema) = open.pop() {
            if self.steps.are_used_up() {
                break;
            }
            if !seen.insert(std::ptr::from_ref(schema)) {
                continue;
            }
            let own = schema.get("properties").and_then(Value::as_object);
            let parts = ["allOf", "anyOf", "oneOf"].map(|keyword| list_of(schema, keyword));
            let many = own.map_or(0, Map::len) + parts.iter().map(|parts| parts.len()).sum::<usize>();
            if self.steps.take(1 + many) {
                keys.extend(own.into_iter().flat_map(|own| own.keys().map(String::as_str)));
                // The last one is visited first.
                open.extend(reference(self, schema));
                open.extend(parts.into_iter().flatten().rev());
            }
        }
        keys
    }
}

pub(super) fn list_of<'s>(schema: &'s Value, keyword: &str) -> &'s [Value] {
    schema.get(keyword).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

pub(super) fn count(schema: &Value, keyword: &str) -> Option<usize> {
    schema.get(keyword).and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok())
}
