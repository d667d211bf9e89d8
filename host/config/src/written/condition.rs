//! Conditions on values: on headers, query parameters and claims.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{HeaderName, Scalar};

/// A condition on a value.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Condition {
    Exact(String),
    Table(ConditionTable),
}

/// One of these.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConditionTable {
    /// The value is equal to this.
    exact: Option<String>,
    /// The value begins with this.
    #[schemars(length(min = 1))]
    prefix: Option<String>,
    /// The whole value matches this regular expression (of the linear-time kind, without back references).
    #[schemars(length(min = 1))]
    regex: Option<String>,
    /// Whether the field is present.
    present: Option<bool>,
}

/// The conditions on headers.
pub(super) fn header_conditions(
    written: BTreeMap<String, Condition>,
    at: &str,
    scope: &mut Scope,
) -> Vec<model::FieldMatch> {
    let mut conditions = Vec::new();
    for (name, condition) in written {
        let at = child(at, &name);
        match HeaderName::read(&name) {
            Ok(HeaderName(name)) => conditions.push((at, name, condition)),
            Err(why) => scope.report_key(&at, format!("expected {}: {why}", HeaderName::WHAT), None),
        }
    }
    conditions.into_iter().filter_map(|(at, name, condition)| condition.meant(name, &at, scope)).collect()
}

/// The conditions on what has a name as it is written: query parameters and claims.
pub(super) fn named_conditions(
    written: BTreeMap<String, Condition>,
    at: &str,
    scope: &mut Scope,
) -> Vec<model::FieldMatch> {
    let conditions = written.into_iter().map(|(name, condition)| (child(at, &name), name, condition));
    conditions.filter_map(|(at, name, condition)| condition.meant(name, &at, scope)).collect()
}

impl Condition {
    fn meant(self, name: String, at: &str, scope: &mut Scope) -> Option<model::FieldMatch> {
        Some(model::FieldMatch { name, value: self.value(at, scope)? })
    }

    /// The condition without the name of what it is about.
    pub(super) fn value(self, at: &str, scope: &mut Scope) -> Option<model::ValueMatch> {
        Some(match self {
            Self::Exact(exact) => model::ValueMatch::Exact(exact),
            Self::Table(ConditionTable { exact: Some(exact), prefix: None, regex: None, present: None }) => {
                model::ValueMatch::Exact(exact)
            }
            Self::Table(ConditionTable { exact: None, prefix: Some(prefix), regex: None, present: None }) => {
                model::ValueMatch::Prefix(prefix)
            }
            Self::Table(ConditionTable { exact: None, prefix: None, regex: Some(regex), present: None }) => {
                model::ValueMatch::Regex(regex)
            }
            Self::Table(ConditionTable { exact: None, prefix: None, regex: None, present: Some(true) }) => {
                model::ValueMatch::Present
            }
            Self::Table(ConditionTable { exact: None, prefix: None, regex: None, present: Some(false) }) => {
                model::ValueMatch::Absent
            }
            Self::Table(_) => {
                scope.report(
                    at,
                    "a condition has exactly one of `exact`, `prefix`, `regex` and `present`",
                    None,
                );
                return None;
            }
        })
    }
}
