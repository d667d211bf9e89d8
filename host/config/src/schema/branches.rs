//! Finds out which alternative of a schema was meant if none fits.

use serde_json::{Map, Value, json};

use super::Finding;
use super::check::Walk;
use super::describe::{kind, reference, wanted};
use super::leaf::{choices, fits_choice, meant, shown};
use crate::pointer::child;

/// A branch with its findings.
type Tried<'s> = (&'s Value, Vec<Finding>);

/// Reports the branch that was most likely meant: the only one of the value's type; for a table, the one whose
/// constants (the tag of a variant) fit and that has the fewest findings. Otherwise says what would fit.
pub(super) fn nearest_branch<'s>(
    walk: &Walk<'s>,
    schema: &'s Value,
    tried: Vec<Tried<'s>>,
    value: &Value,
    at: &str,
) -> Vec<Finding> {
    let mut typed: Vec<_> =
        tried.into_iter().filter(|(branch, _)| accepts_type(walk, branch, value, 0)).collect();
    if typed.len() == 1 {
        return typed.remove(0).1;
    }
    if value.is_object() {
        if let Some(wrong) = wrong_tag(walk, &typed, value, at) {
            return vec![wrong];
        }
        let tagged = typed.into_iter().filter(|(branch, _)| fits_tags(walk, branch, value));
        if let Some((_, found)) = tagged.min_by_key(|(_, found)| found.len()) {
            return found;
        }
    }
    let choices = choices(walk, schema);
    // A string is quoted only if it should have been one of a few words: any other string may be a secret.
    let found = if choices.is_empty() && value.is_string() { kind(value).to_owned() } else { shown(value) };
    let mut wrong = Finding::at(at, format!("expected {}, found {found}", wanted(walk, schema)));
    wrong.hint = value.as_str().and_then(|text| meant(walk, text, choices));
    vec![wrong]
}

/// Whether a value of this type could fit, whatever its content.
fn accepts_type<'s>(walk: &Walk<'s>, schema: &'s Value, value: &Value, depth: usize) -> bool {
    if let Some(target) = reference(walk, schema).filter(|_| depth < 16) {
        return accepts_type(walk, target, value, depth + 1);
    }
    walk.has_type(schema, value)
}

fn properties<'s>(walk: &Walk<'s>, branch: &'s Value) -> Option<&'s Map<String, Value>> {
    let branch = reference(walk, branch).unwrap_or(branch);
    branch.get("properties").and_then(Value::as_object)
}

/// For variants with a constant property of which none fits the value: the expected constant.
fn wrong_tag<'s>(walk: &Walk<'s>, branches: &[Tried<'s>], value: &Value, at: &str) -> Option<Finding> {
    let mut first = properties(walk, branches.first()?.0)?.iter().take_while(|_| walk.steps.take(1));
    let (tag, _) = first.find(|(_, part)| part.get("const").is_some())?;
    let constant = |branch: &'s Value| {
        let constant = properties(walk, branch)?.get(tag)?.get("const")?;
        walk.steps.take_value(constant).then(|| constant.clone())
    };
    let tags: Option<Vec<Value>> = branches.iter().map(|(branch, _)| constant(branch)).collect();
    let choices = json!({ "enum": tags? });
    match value.get(tag) {
        Some(written) => {
            let mut found = Vec::new();
            fits_choice(walk, &choices, written, &child(at, tag), &mut found);
            found.pop()
        }
        None => {
            let hint = Some(format!("it is {}", wanted(walk, &choices)));
            Some(Finding { hint, ..Finding::at(at, format!("missing key `{tag}`")) })
        }
    }
}

/// Whether no constant property of the branch contradicts the value.
fn fits_tags<'s>(walk: &Walk<'s>, branch: &'s Value, value: &Value) -> bool {
    properties(walk, branch).into_iter().flatten().all(|(key, part)| {
        match (part.get("const"), value.get(key)) {
            (Some(constant), Some(written)) => walk.steps.equal(constant, written),
            (Some(_), None) => false,
            (None, _) => walk.steps.take(1),
        }
    })
}
