//! The defaults the published schema tells are those that hold.

use serde_json::{Map, Value};
use witgate_config::{parse_str, schema};

/// One of everything, with nothing set that could be left out.
const BARE: &str = r#"
[[listeners]]
[[routes]]
upstream = "users"
[routes.cache]
[[routes]]
path = "/orders"
publish = { broker = "queues", to = "orders" }
[upstreams.users]
endpoints = [{ address = "127.0.0.1:9001" }]
upstream_breaker = {}
concurrency = {}
fallback = { respond = {} }
[upstreams.users.sticky]
[upstreams.users.health.http]
[upstreams.users.ejection.success_rate]
[plugins.jwt]
[bindings.jwt]
[telemetry.otlp]
upstream = "users"
[brokers.queues]
kind = "memory"
[consumers.billing]
broker = "queues"
from = "orders"
path = "/hooks"
dead_letter = { to = "dead" }
"#;

#[test]
fn writing_a_default_out_changes_nothing() {
    let bare: Value = toml::from_str(BARE).expect("TOML");
    let schema = schema();
    let mut full = bare.clone();
    let mut told = Vec::new();
    write_defaults(&schema, &schema, &mut full, "", &mut told);
    let text = toml::to_string(&full).expect("TOML");
    let written = parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    let left_out = parse_str(BARE).unwrap_or_else(|failure| panic!("{}", failure.render(false)));
    assert_eq!(left_out.config, written.config);
    let told = format!("{}\n", told.join("\n"));
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/defaults.txt");
    if std::env::var_os("WITGATE_BLESS").is_some() {
        std::fs::write(golden, &told).expect("written");
    }
    let golden = std::fs::read_to_string(golden).expect("the golden file; WITGATE_BLESS=1 makes it");
    assert_eq!(told, golden, "a default has changed; if that is meant, run with WITGATE_BLESS=1");
}

/// Adds to the tables of `value` every key that is left out and has a default.
fn write_defaults(root: &Value, schema: &Value, value: &mut Value, path: &str, told: &mut Vec<String>) {
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(target.trim_start_matches('#')).expect("a local reference");
        write_defaults(root, target, value, path, told);
    }
    for branch in schema.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        write_defaults(root, branch, value, path, told);
    }
    match value {
        Value::Array(items) => {
            for item in items {
                write_defaults(
                    root,
                    schema.get("items").unwrap_or(&Value::Null),
                    item,
                    &format!("{path}[]"),
                    told,
                );
            }
        }
        Value::Object(table) => {
            for (key, part) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if let Some(default) = part.get("default") {
                    // A table's own keys are told one by one.
                    let is_table = default.as_object().is_some_and(|table| !table.is_empty());
                    let free_form = path == "gateway.identity_headers";
                    if !is_table || free_form {
                        told.push(format!("{path} = {default}"));
                    }
                    let start =
                        if is_table && !free_form { Value::Object(Map::new()) } else { default.clone() };
                    table.entry(key).or_insert(start);
                }
                if let Some(inner) = table.get_mut(key) {
                    write_defaults(root, part, inner, &path, told);
                }
            }
            if let Some(part) = schema.get("additionalProperties").filter(|part| part.is_object()) {
                table
                    .values_mut()
                    .for_each(|inner| write_defaults(root, part, inner, &format!("{path}.*"), told));
            }
        }
        _ => {}
    }
}
