//! `[state.NAME]`: where counters and the stores of plugins are kept.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Scope, Section};
use crate::model;

/// Where counters and the stores of plugins are kept: its kind and the settings of that kind.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    kind: String,
    #[serde(flatten)]
    settings: Map<String, Value>,
}

impl JsonSchema for State {
    fn schema_name() -> Cow<'static, str> {
        "State".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where counters and the stores of plugins are kept: a table with its `kind` and the settings of that kind.",
            "type": "object",
            "properties": {
                "kind": {
                    "type": "string",
                    "minLength": 1,
                    "description": "The kind of the state. `memory`: in this process, without settings; it is lost when the process ends, and other gateways do not see it. `file`: in a file on this machine; it outlives the process. `redis`: in Redis, shared by the gateways of a fleet; in builds with the feature `full`."
                }
            },
            "required": ["kind"]
        })
    }
}

impl Section for State {
    type Meant = model::State;

    fn meant(self, at: &str, scope: &mut Scope) -> Option<model::State> {
        Some(model::State { kind: self.kind, settings: scope.document.part(at, &["kind"]) })
    }
}

#[cfg(test)]
mod tests {
    use crate::{Config, parse_str};

    fn config(text: &str) -> Config {
        parse_str(text).unwrap_or_else(|failure| panic!("{}", failure.render(false))).config
    }

    fn problem(text: &str) -> String {
        let Err(failure) = parse_str(text) else { panic!("it is refused") };
        failure.render(false)
    }

    #[test]
    fn counter_and_stores_name_a_state_or_use_the_built_in_one() {
        let text = "[state.here]\nkind = \"memory\"\n[state.there]\nkind = \"other\"\nsize = 5\n\
                    [gateway]\ncounter = \"here\"\n[plugins.p]\nstate = \"there\"\n[plugins.q]\n";
        let config = config(text);
        assert_eq!(config.gateway.counter.as_deref(), Some("here"));
        assert_eq!(config.plugins["p"].state.as_deref(), Some("there"));
        assert_eq!(config.plugins["q"].state, None);
        let there = &config.state["there"];
        assert_eq!((there.kind.as_str(), there.settings.key.as_str()), ("other", "state.there"));
        assert_eq!(there.settings.value["size"], 5, "the settings of a kind are its own to read");
        assert!(there.settings.value.get("kind").is_none());
    }

    #[test]
    fn a_name_that_is_not_declared_is_told_with_the_one_that_may_be_meant() {
        let text = "[state.fleet]\nkind = \"memory\"\n[gateway]\ncounter = \"fleat\"\n";
        let told = problem(text);
        assert!(told.contains("there is no state `fleat`") && told.contains("`fleet`"), "{told}");
        let told = problem("[plugins.p]\nstate = \"fleet\"\n");
        assert!(told.contains("there is no state `fleet`") && told.contains("[state.fleet]"), "{told}");
        let told = problem("[state.fleet]\n");
        assert!(told.contains("`kind`"), "{told}");
    }
}
