//! `[brokers.NAME]`: where messages are published to and consumed from.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Scope, Section};
use crate::model;

/// A broker: its kind and the settings of that kind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Broker {
    kind: String,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl JsonSchema for Broker {
    fn schema_name() -> Cow<'static, str> {
        "Broker".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A broker: a table with its `kind` and the settings of that kind.",
            "type": "object",
            "properties": {
                "kind": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The kind of the broker. `memory`: queues in this process, which are lost when it ends. `amqp`: RabbitMQ; in builds with the feature `full`."
                }
            },
            "required": ["kind"]
        })
    }
}

impl Section for Broker {
    type Meant = model::Broker;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::Broker> {
        Some(model::Broker { kind: self.kind, settings: scope.document.part(at, &["kind"]) })
    }
}
