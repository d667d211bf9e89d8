//! `[defaults]`: what many upstreams and routes repeat. It is merged into them before they are read
//! ([`defaults`](crate::defaults)), so nothing here is converted to the model.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What upstreams and routes have if they do not say otherwise. Tables are merged key by key, and the nearer value wins;
/// lists are replaced as a whole. A default that would contradict what an upstream or a route says is left out there.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Defaults {
    upstream: UpstreamDefaults,
    route: RouteDefaults,
}

/// Keys of upstreams.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct UpstreamDefaults(Map<String, Value>);

/// Keys of routes.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct RouteDefaults(Map<String, Value>);

impl JsonSchema for UpstreamDefaults {
    fn schema_name() -> Cow<'static, str> {
        "UpstreamDefaults".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The keys of `[upstreams.NAME]`, none of which has to be there. `discover.allow` has no default.",
            "type": "object"
        })
    }
}

impl JsonSchema for RouteDefaults {
    fn schema_name() -> Cow<'static, str> {
        "RouteDefaults".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The keys of `[[routes]]`, none of which has to be there. `plugins`, `filters` and `auth` have no default.",
            "type": "object"
        })
    }
}
