//! Checks the keys of a table.

use serde_json::{Map, Value};

use super::check::{Walk, count, list_of};
use super::describe::{cut, cut_after};
use super::leaf::SIMILARITY;
use super::{Finding, nearest};
use crate::pointer::child;

/// The most keys that are listed for an unknown one.
const LISTED: usize = 40;

/// The longest hint for a removed key, in characters.
const HINT: usize = 500;

/// Checks `required`, `dependentRequired`, `minProperties` and `maxProperties`.
pub(super) fn required(
    walk: &Walk<'_>,
    schema: &Value,
    members: &Map<String, Value>,
    at: &str,
    found: &mut Vec<Finding>,
) {
    let properties = schema.get("properties").and_then(Value::as_object);
    let needed = list_of(schema, "required").iter().take_while(|_| walk.steps.take(1));
    for key in needed.filter_map(Value::as_str) {
        if !members.contains_key(key) {
            let about = properties.and_then(|properties| properties.get(key)?.get("description")?.as_str());
            let mut missing = Finding::at(at, format!("missing key `{}`", cut(key)));
            missing.hint = about.map(|about| cut(first_sentence(about)).into_owned());
            walk.report(found, missing);
        }
    }
    for (key, needed) in schema.get("dependentRequired").and_then(Value::as_object).into_iter().flatten() {
        let needed = needed.as_array().into_iter().flatten().take_while(|_| walk.steps.take(1));
        for other in needed.filter_map(Value::as_str) {
            if members.contains_key(key) && !members.contains_key(other) {
                let message = format!("`{key}` needs `{}` beside it", cut(other));
                walk.report(found, Finding::at(&child(at, key), message));
            }
        }
    }
    if let Some(least) = count(schema, "minProperties").filter(|least| members.len() < *least) {
        walk.report(found, Finding::at(at, format!("this table needs at least {least} keys")));
    }
    if let Some(most) = count(schema, "maxProperties").filter(|most| members.len() > *most) {
        walk.report(found, Finding::at(at, format!("this table may have at most {most} keys")));
    }
}

/// The finding for an unknown key, with the one that was probably meant or those that are known.
pub(super) fn unknown_key<'s>(walk: &Walk<'s>, schema: &'s Value, key: &str, at: &str) -> Finding {
    let known = walk.known_keys(schema);
    let affordable = walk.steps.take(SIMILARITY.saturating_mul(known.len()));
    let meant = if affordable { nearest(key, known.iter().copied()) } else { None };
    let hint = match meant {
        Some(meant) => Some(format!("did you mean `{meant}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", listed(&known))),
    };
    let removed = schema.get("x-removed").and_then(|removed| removed.get(key)?.as_str());
    let hint = removed.map(|removed| cut_after(removed, HINT).into_owned()).or(hint);
    Finding { pointer: at.to_owned(), at_key: true, message: format!("unknown key `{key}`"), hint }
}

fn listed(known: &[&str]) -> String {
    let names: Vec<_> = known.iter().take(LISTED).map(|key| format!("`{}`", cut(key))).collect();
    match known.len().saturating_sub(LISTED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// The first sentence of a description, without its full stop. "e.g. " does not end one.
fn first_sentence(text: &str) -> &str {
    let mut stops = text.match_indices(". ").map(|(at, _)| at);
    let end = stops.find(|at| text[at + 2..].starts_with(char::is_uppercase));
    end.map_or(text.trim_end_matches('.'), |end| &text[..end])
}
