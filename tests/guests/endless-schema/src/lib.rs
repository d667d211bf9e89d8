//! A plugin that marks requests, and whose JSON Schema of settings refers to itself in sixty places.

use std::borrow::Cow;

use witgate_sdk::schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use witgate_sdk::serde::{self, Deserialize};
use witgate_sdk::{Plugin, Request, RequestChanges, RequestOutcome, Settings, SettingsProblem, Transformation, transformation};

#[derive(Deserialize)]
#[serde(crate = "serde")]
struct Endless {}

impl Settings for Endless {}

impl JsonSchema for Endless {
    fn schema_name() -> Cow<'static, str> {
        "Endless".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let circle = json_schema!({ "$ref": "#" });
        json_schema!({ "allOf": vec![circle; 60], "additionalProperties": false })
    }
}

struct Mark;

impl Plugin for Mark {
    type Settings = Endless;

    fn configure(_: Endless) -> Result<Self, Vec<SettingsProblem>> {
        Ok(Mark)
    }
}

#[transformation]
impl Transformation for Mark {
    fn on_request(&self, _request: &Request) -> RequestOutcome {
        RequestChanges::none().set("x-mark", "endless").into()
    }
}
