//! `[defaults.upstream]` and `[defaults.route]`: what many upstreams and routes repeat.
//!
//! Before the document is checked, the keys of the defaults are added to each upstream and route that does not have
//! them, with the positions at which they were written. Tables are merged key by key, and the nearer value wins; lists and
//! texts are replaced as a whole. A key is not added if that would contradict what is written:
//!
//! - beside a key that excludes it ([`ALTERNATIVES`]),
//! - to a table of another `kind`,
//! - to a route that forwards no requests, if it needs an upstream.
//!
//! What decides who may pass, and with which plugins, stands where it applies ([`REFUSED`]).

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use crate::document::Document;
use crate::pointer::{child, within};
use crate::schema::{Finding, check};
use crate::written::{ACTIONS, FORWARDING, SCHEMA, SOURCES};

/// Keys that defaults do not have, at any depth.
const REFUSED: [&str; 4] = ["plugins", "filters", "auth", "allow"];

/// Keys of which a table has one, by the path of the table within an upstream or a route.
const ALTERNATIVES: [(&str, &[&str]); 10] = [
    ("upstream", &["endpoints", "discover"]),
    ("upstream/discover", &SOURCES),
    ("upstream/health", &["http", "grpc", "tcp"]),
    ("upstream/health/http", &["body", "body_regex"]),
    ("upstream/hedge", &["delay", "percentile"]),
    ("route", &ACTIONS),
    ("route", &["rewrite", "strip_prefix"]),
    ("route", &["path", "prefix"]),
    ("route", &["host", "hosts"]),
    ("route", &["method", "methods"]),
];

/// The form of the defaults: that of an upstream or a route, with no key that has to be there.
static UPSTREAM: LazyLock<Value> = LazyLock::new(|| form("Upstream"));
static ROUTE: LazyLock<Value> = LazyLock::new(|| form("Route"));

fn form(definition: &str) -> Value {
    let mut definitions = SCHEMA.get("$defs").cloned().unwrap_or_default();
    without_required(&mut definitions);
    json!({ "$ref": format!("#/$defs/{definition}"), "$defs": definitions })
}

fn without_required(schema: &mut Value) {
    match schema {
        Value::Object(keywords) => {
            // Only the keyword is a list; a key of this name has a schema.
            if keywords.get("required").is_some_and(Value::is_array) {
                keywords.remove("required");
            }
            keywords.values_mut().for_each(without_required);
        }
        Value::Array(items) => items.iter_mut().for_each(without_required),
        _ => {}
    }
}

/// Adds the defaults to the upstreams and routes of a document. Mistakes in the defaults are added to its findings;
/// values with mistakes are not passed on.
pub(crate) fn apply(document: &mut Document) {
    let Some(defaults) = document.tree.value.get("defaults").and_then(Value::as_object).cloned() else {
        return;
    };
    for (kind, section, form) in [("upstream", "upstreams", &UPSTREAM), ("route", "routes", &ROUTE)] {
        let Some(Value::Object(mut table)) = defaults.get(kind).cloned() else { continue };
        let at = format!("/defaults/{kind}");
        let mut findings = Vec::new();
        refuse(&table, &at, &mut findings);
        for finding in check(form, &Value::Object(table.clone())) {
            let pointer = format!("{at}{}", finding.pointer);
            // A variable may spell the number that is wanted; where it is put, that is known.
            if !document.expanded.contains(&pointer) && !findings.iter().any(|known| known.pointer == pointer)
            {
                findings.push(Finding { pointer, ..finding });
            }
        }
        let known = document.findings.iter().filter(|finding| within(&finding.pointer, &at));
        for finding in known.chain(&findings) {
            take_out(&mut table, &finding.pointer[at.len()..]);
        }
        document.findings.extend(findings);
        let mut added = Vec::new();
        match document.tree.value.get_mut(section) {
            Some(Value::Object(tables)) => {
                for (name, nearer) in tables {
                    let to = child(&format!("/{section}"), name);
                    merge(kind, nearer, &table, (&at, &to), &mut added);
                }
            }
            Some(Value::Array(tables)) => {
                for (index, nearer) in tables.iter_mut().enumerate() {
                    merge(kind, nearer, &table, (&at, &format!("/{section}/{index}")), &mut added);
                }
            }
            _ => {}
        }
        added.iter().for_each(|(from, to)| copy_positions(document, from, to));
    }
}

/// Reports the keys that defaults do not have.
fn refuse(table: &Map<String, Value>, at: &str, findings: &mut Vec<Finding>) {
    for (key, value) in table {
        let at = child(at, key);
        if REFUSED.contains(&key.as_str()) {
            let hint = "write it in each upstream, route or listener to which it applies".to_owned();
            let message =
                format!("`{key}` has no default: what decides who may pass stands where it applies");
            findings.push(Finding { hint: Some(hint), ..Finding::at_key(&at, message) });
        } else if let Value::Object(inner) = value {
            refuse(inner, &at, findings);
        }
    }
}

/// Removes the value at a pointer; of a list, the whole list.
fn take_out(table: &mut Map<String, Value>, pointer: &str) {
    let Some(path) = pointer.strip_prefix('/') else { return table.clear() };
    let (first, rest) = path.split_at(path.find('/').unwrap_or(path.len()));
    let key = first.replace("~1", "/").replace("~0", "~");
    match table.get_mut(&key) {
        Some(Value::Object(inner)) if !rest.is_empty() => take_out(inner, rest),
        _ => _ = table.remove(&key),
    }
}

/// Adds to a table what it lacks. `path`: where the table is within an upstream or a route. Notes for each value that is
/// added from which pointer to which.
fn merge(
    path: &str,
    nearer: &mut Value,
    defaults: &Map<String, Value>,
    (from, to): (&str, &str),
    added: &mut Vec<(String, String)>,
) {
    let Value::Object(nearer) = nearer else { return };
    let other_kind = |kind: &Value| defaults.get("kind").is_some_and(|default| default != kind);
    if nearer.get("kind").is_some_and(other_kind) {
        return;
    }
    let written: Vec<String> = nearer.keys().cloned().collect();
    for (key, value) in defaults {
        let (from, to) = (child(from, key), child(to, key));
        match (nearer.get_mut(key), value) {
            (Some(inner), Value::Object(defaults)) => {
                merge(&format!("{path}/{key}"), inner, defaults, (&from, &to), added);
            }
            (Some(_), _) => {}
            (None, value) if !contradicts(path, key, &written) => {
                nearer.insert(key.clone(), value.clone());
                added.push((from, to));
            }
            (None, _) => {}
        }
    }
}

/// Whether a key must not be added beside those that are written.
fn contradicts(path: &str, key: &str, written: &[String]) -> bool {
    let is_written = |key: &&str| written.iter().any(|written| written == key);
    let answers_itself = path == "route" && ["redirect", "respond"].iter().any(is_written);
    ALTERNATIVES
        .iter()
        .filter(|(table, keys)| *table == path && keys.contains(&key))
        .any(|(_, keys)| keys.iter().any(is_written))
        || (answers_itself && FORWARDING.contains(&key))
}

/// Has the values at a pointer be where they were written.
fn copy_positions(document: &mut Document, from: &str, to: &str) {
    let moved = |pointer: &str| format!("{to}{}", &pointer[from.len()..]);
    let tree = &mut document.tree;
    for positions in [&mut tree.spans, &mut tree.key_spans] {
        let copies: BTreeMap<_, _> = positions
            .range(from.to_owned()..)
            .take_while(|(pointer, _)| pointer.starts_with(from))
            .filter(|(pointer, _)| within(pointer, from))
            .map(|(pointer, span)| (moved(pointer), span.clone()))
            .collect();
        positions.extend(copies);
    }
    let expanded: Vec<String> = document
        .expanded
        .range(from.to_owned()..)
        .take_while(|pointer| pointer.starts_with(from))
        .filter(|pointer| within(pointer, from))
        .map(|pointer| moved(pointer))
        .collect();
    document.expanded.extend(expanded);
}
