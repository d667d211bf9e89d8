//! The fields of the access log, generated from the type that is written.

use serde_json::Value;

use super::markdown::{code, table};
use super::{head, hold};

const PREAMBLE: &str = "\
One line with a JSON object for each request, written when the last byte of the response has been passed to the connection, or
the request has ended in another way. `[telemetry] access_log` sets the destination (`stdout`, `stderr`, a file, `off`); the filter
`access-log` selects the requests of a route that are written, and adds the query string or request headers. The queue of the
writer never blocks a request; if it is full, lines are dropped and counted (`witgate_log_lines_lost_total`).

These fields are a contract: within a major version a field keeps its name, its type and its meaning; new fields may be
added at any time, so a reader must ignore unknown fields. A field that is not marked as always present is left out if it
does not apply; it is never `null`.

";

const SESSIONS: &str = "\
## Connections

A connection that is forwarded as it is ([TCP and TLS passthrough](../tcp.md)), or that the gateway refuses before its first request, has one
line when it ends. It has the field `bytes_in` but no `method`.

";

#[test]
fn the_list_of_log_fields_is_current() {
    let schema = witgate_telemetry::access::schema();
    let mut text = head("Access log", "the type that `host/telemetry/src/access.rs` writes") + PREAMBLE;
    text += &fields(&schema);
    text += "## The elements of `plugins`\n\n";
    let calls = schema["$defs"]["CallFields"].clone();
    text += &fields(&calls);
    text += SESSIONS;
    text += &fields(&witgate_telemetry::session::schema());
    hold("access-log.md", &(text.trim_end().to_owned() + "\n"));
}

/// The table of an object's fields.
fn fields(schema: &Value) -> String {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows = schema["properties"].as_object().expect("an object's fields").iter().map(|(name, field)| {
        let meaning = field["description"].as_str().unwrap_or_default();
        assert!(meaning.len() > 5, "the field `{name}` of the access log has no documentation");
        let always = if required.contains(&name.as_str()) { "always" } else { "" };
        [code(name), kind(field), always.to_owned(), meaning.to_owned()]
    });
    table(["field", "type", "present", "meaning"], rows)
}

fn kind(field: &Value) -> String {
    let types: Vec<&str> = match &field["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => vec!["object"],
    };
    match types.into_iter().find(|name| *name != "null") {
        Some("array") => "array",
        Some("object") => "object",
        Some("integer" | "number") => "number",
        Some("string") | None => "string",
        Some(other) => panic!("a field of the access log is a {other}"),
    }
    .to_owned()
}
