//! `upstreams.NAME.balancer`: how endpoints are picked.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model;
use crate::written::Scope;

/// A balancing policy: its kind alone, or a table with its kind and its settings.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Balancer {
    Kind(String),
    Table(Map<String, Value>),
}

impl Default for Balancer {
    fn default() -> Self {
        Self::Kind("round-robin".to_owned())
    }
}

impl JsonSchema for Balancer {
    fn schema_name() -> Cow<'static, str> {
        "Balancer".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A balancing policy: its kind alone, e.g. `\"peak-ewma\"`, or a table with its `kind` and its settings.",
            "anyOf": [
                { "type": "string", "minLength": 1 },
                {
                    "type": "object",
                    "properties": { "kind": { "type": "string", "minLength": 1, "description": "The kind of the policy, e.g. `ring-hash`." } },
                    "required": ["kind"]
                }
            ]
        })
    }
}

impl Balancer {
    /// Converts it to the model. `at` is its JSON Pointer. The settings stay as they are.
    pub(super) fn meant(self, at: &str, scope: &Scope) -> model::Balancer {
        let settings = scope.document.part(at, &["kind"]);
        let kind = match self {
            Self::Kind(kind) => kind,
            Self::Table(mut table) => match table.remove("kind") {
                Some(Value::String(kind)) => kind,
                _ => String::new(),
            },
        };
        model::Balancer { kind, settings }
    }
}
