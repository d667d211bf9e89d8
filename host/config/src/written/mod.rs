//! The configuration as written: one file for each table, with the same parts (what it is, the table with its
//! defaults, its conversion to the model, tests).
//!
//! The doc comments of the tables and their keys are the configuration reference: they become the descriptions of
//! the published schema.

mod admin;
mod binding;
mod broker;
mod cache;
mod compile;
mod condition;
mod consumer;
mod credentials;
mod data;
mod defaults;
mod filter;
mod gateway;
mod grpc;
mod limits;
mod listener;
mod mirror;
mod one_or_many;
mod plugin;
mod proxy_protocol;
mod publish;
mod quarantine;
mod retry;
mod revert;
mod route;
mod route_action;
mod scope;
mod state;
mod tcp;
mod telemetry;
mod tls;
mod upstream;
mod when;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::model::Config;
pub(crate) use route_action::{ACTIONS, FORWARDING};
pub(crate) use scope::Scope;
pub(crate) use upstream::SOURCES;

/// The configuration of a Witgate gateway: one TOML file, or a folder of them. In any string, `${VAR}` stands for
/// an environment variable, `${VAR:-default}` gives a default, `${file:/path}` stands for the text of a file, and
/// `$${` for the characters themselves; where a number is expected, their text may be a number. Durations are
/// written `"250ms"`, `"5s"`, `"1m30s"`; sizes `"64KB"`, `"1MiB"`. Relative paths start at the folder of the file
/// that contains them.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "Witgate configuration")]
pub(crate) struct Written {
    gateway: gateway::Gateway,
    defaults: defaults::Defaults,
    admin: admin::Admin,
    telemetry: telemetry::Telemetry,
    cache: cache::Cache,
    /// The addresses on which the gateway accepts connections. Without any, it listens in cleartext on
    /// `0.0.0.0:8080`.
    listeners: Vec<listener::Listener>,
    /// What is done with requests. The most specific route that matches is taken.
    routes: Vec<route::Route>,
    /// Where requests go, by name.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    upstreams: BTreeMap<String, upstream::Upstream>,
    /// The plugins that may be used, by name.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    plugins: BTreeMap<String, plugin::Plugin>,
    /// Plugins with settings, rights and budgets, by name. Routes, listeners and the gateway refer to these names.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    bindings: BTreeMap<String, binding::Binding>,
    /// Where counters and the stores of plugins are kept, by name. The kind `memory` has no settings; its contents are lost
    /// when the process ends, and other gateways do not see them. The kinds `file` and `redis` are described in
    /// [Keep state](../state.md). A reload keeps the contents of a state as long as its settings are equal.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    state: BTreeMap<String, state::State>,
    /// Read-only files for plugins, by name. A binding may read those that its `grants.data` lists.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    data: BTreeMap<String, data::Data>,
    /// Brokers, by name. Routes publish to them (`publish`), and consumers get messages from them. The kinds and their settings
    /// are described in [Messages](../messages.md). A reload keeps the connection, and what the kind `memory` holds, as long as
    /// the settings are equal.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    brokers: BTreeMap<String, broker::Broker>,
    /// Consumers, by name: messages of a broker that become requests.
    #[schemars(extend("propertyNames" = { "format": "witgate-name" }))]
    consumers: BTreeMap<String, consumer::Consumer>,
}

/// A table as written, which can be converted to the model.
pub(crate) trait Section: DeserializeOwned {
    /// The type of the model.
    type Meant;

    /// Converts it to the model. `at` is the JSON Pointer of the table. Mistakes are reported to the scope; `None`
    /// if the table is unusable.
    fn meant(self, at: &str, scope: &mut Scope) -> Option<Self::Meant>;
}

/// The JSON Schema of a configuration file (draft 2020-12).
pub fn schema() -> Value {
    SCHEMA.clone()
}

pub(crate) static SCHEMA: LazyLock<Value> = LazyLock::new(|| {
    let settings = schemars::generate::SchemaSettings::draft2020_12().with_transform(Tidy);
    settings.into_generator().into_root_schema_for::<Written>().to_value()
});

/// Makes the generated schema describe TOML, without details that concern only Rust.
#[derive(Debug, Clone)]
struct Tidy;

impl Transform for Tidy {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        if let Some(keywords) = schema.as_object_mut() {
            without_null(keywords);
            without_line_breaks(keywords);
            without_machine_formats(keywords);
            without_defaults_of_required(keywords);
        }
    }
}

/// TOML has no null: an optional key is simply not required.
fn without_null(keywords: &mut Map<String, Value>) {
    if keywords.get("default").is_some_and(Value::is_null) {
        keywords.remove("default");
    }
    if let Some(Value::Array(types)) = keywords.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            keywords.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(branches)) = keywords.get_mut("anyOf") {
        branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            keywords.remove("anyOf");
            for (keyword, value) in only {
                keywords.entry(keyword).or_insert(value);
            }
        }
    }
}

/// Removes the line breaks of doc comments; paragraphs are kept.
fn without_line_breaks(keywords: &mut Map<String, Value>) {
    if let Some(Value::String(description)) = keywords.get_mut("description") {
        let paragraphs: Vec<String> =
            description.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect();
        *description = paragraphs.join("\n\n");
    }
}

/// `uint32` and the like are not formats of JSON Schema; they become bounds.
fn without_machine_formats(keywords: &mut Map<String, Value>) {
    let format = keywords.get("format").and_then(Value::as_str).unwrap_or_default();
    let most = if format == "uint32" { Some(u32::MAX) } else { None };
    if format.starts_with("uint") || format.starts_with("int") || format == "double" {
        keywords.remove("format");
    }
    if let Some(most) = most {
        keywords.entry("maximum").or_insert(most.into());
    }
}

/// Required keys have no default.
fn without_defaults_of_required(keywords: &mut Map<String, Value>) {
    let required: Vec<Value> =
        keywords.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(Value::Object(properties)) = keywords.get_mut("properties") else { return };
    for key in required.iter().filter_map(Value::as_str) {
        if let Some(Value::Object(property)) = properties.get_mut(key) {
            property.remove("default");
        }
    }
}

/// Converts a document to the model. Mistakes are reported to the scope; if there are any, the result must not be
/// used.
pub(crate) fn meant(scope: &mut Scope) -> Option<Config> {
    let gateway = scope.section::<gateway::Gateway>("/gateway");
    let admin = scope.section::<admin::Admin>("/admin");
    let telemetry = scope.section::<telemetry::Telemetry>("/telemetry");
    let cache = scope.section::<cache::Cache>("/cache");
    let default = gateway.as_ref().is_none_or(|gateway| !gateway.allow_empty);
    let mut listeners = listener::all(scope, admin.as_ref().and_then(|admin| admin.address), default);
    let routes = route::all(scope);
    tcp::settle(&mut listeners, &routes, scope);
    let upstreams = scope.table::<upstream::Upstream>("upstreams");
    upstream::check_rings(&upstreams, scope);
    let plugins = scope.table::<plugin::Plugin>("plugins");
    let bindings = binding::all(scope);
    let state = scope.table::<state::State>("state");
    let data = scope.table::<data::Data>("data");
    let brokers = scope.table::<broker::Broker>("brokers");
    let consumers = scope.table::<consumer::Consumer>("consumers");
    Some(Config {
        gateway: gateway?,
        admin: admin?,
        telemetry: telemetry?,
        cache: cache?,
        listeners,
        routes,
        upstreams,
        plugins,
        bindings,
        state,
        data,
        brokers,
        consumers,
    })
}
