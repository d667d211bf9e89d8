//! `filters`: uses of native filters.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::settings::Settings;

/// One use of a native filter: its kind alone, or a table with its kind and its settings.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Filter {
    Kind(String),
    Table(Map<String, Value>),
}

impl JsonSchema for Filter {
    fn schema_name() -> Cow<'static, str> {
        "Filter".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "One use of a native filter: its kind alone, e.g. `\"cors\"`, or a table with its `kind` and its settings.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                {
                    "type": "object",
                    "properties": { "kind": { "type": "string", "minLength": 1, "description": "The kind of the filter, e.g. `cors`." } },
                    "required": ["kind"]
                }
            ]
        })
    }
}

/// Converts a list of filters to the model. Their settings stay as they are.
pub(crate) fn all(filters: &[Filter], at: &str, scope: &Scope) -> Vec<model::Filter> {
    let places = (0..).map(|index: usize| child(at, &index.to_string()));
    let meant = filters.iter().zip(places).map(|(filter, at)| {
        let settings: Settings = scope.document.part(&at, &["kind"]);
        let kind = match filter {
            Filter::Kind(kind) => kind.as_str(),
            Filter::Table(table) => table.get("kind").and_then(Value::as_str).unwrap_or_default(),
        };
        model::Filter { kind: kind.to_owned(), settings }
    });
    meant.collect()
}
