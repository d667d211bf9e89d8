//! The JSON Schema of the whole configuration: that of the configuration's own keys, with the settings of every native
//! filter and balancing policy in it. Settings of plugins stay open; each plugin has a schema of its own
//! (`witgate plugin check`).

use serde_json::{Map, Value, json};
use witgate_proxy::filters::FILTERS;
use witgate_upstream::balancer::BALANCERS;

/// The schema.
pub(super) fn whole() -> Value {
    let mut schema = witgate_config::schema();
    let filters = FILTERS.iter().map(|row| (row.kind, row.summary, (row.schema)()));
    replace(&mut schema, "Filter", filters);
    let policies = BALANCERS.iter().map(|row| (row.kind, row.summary, (row.schema)()));
    replace(&mut schema, "Balancer", policies);
    schema
}

/// Replaces the definition `name`, which takes a kind with any settings, by one that names every kind and its
/// settings.
fn replace(schema: &mut Value, name: &str, kinds: impl Iterator<Item = (&'static str, &'static str, Value)>) {
    let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) else { return };
    let about = definitions.get(name).and_then(|open| open.get("description")).cloned();
    let mut branches = Vec::new();
    let mut names = Vec::new();
    for (kind, summary, mut settings) in kinds {
        names.push(kind);
        let prefix = format!("{name}-{kind}-");
        rename(&mut settings, &prefix);
        let own = settings.as_object_mut().and_then(|settings| settings.remove("$defs"));
        if let Some(Value::Object(own)) = own {
            definitions.extend(own.into_iter().map(|(part, schema)| (format!("{prefix}{part}"), schema)));
        }
        branches.push(with_kind(settings, kind, summary));
    }
    branches.insert(0, json!({ "type": "string", "enum": names }));
    let mut definition = json!({ "anyOf": branches });
    if let (Some(about), Some(definition)) = (about, definition.as_object_mut()) {
        definition.insert("description".to_owned(), about);
    }
    definitions.insert(name.to_owned(), definition);
}

/// Settings of one kind, with the key `kind` beside them.
fn with_kind(settings: Value, kind: &str, summary: &str) -> Value {
    let Value::Object(mut settings) = settings else { return settings };
    settings.remove("$schema");
    settings.insert("title".to_owned(), kind.into());
    settings.insert("description".to_owned(), summary.into());
    settings.insert("type".to_owned(), "object".into());
    let mut properties = Map::from_iter([("kind".to_owned(), json!({ "const": kind }))]);
    if let Some(Value::Object(own)) = settings.remove("properties") {
        properties.extend(own);
    }
    settings.insert("properties".to_owned(), properties.into());
    let required = settings.entry("required").or_insert_with(|| json!([]));
    if let Some(required) = required.as_array_mut() {
        required.insert(0, "kind".into());
    }
    Value::Object(settings)
}

/// Adds a prefix to the names of all definitions that a schema refers to, so that those of two kinds stay apart.
fn rename(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(members) => {
            for (key, member) in members {
                match member {
                    Value::String(target) if key == "$ref" => {
                        *target = target.replace("#/$defs/", &format!("#/$defs/{prefix}"));
                    }
                    member => rename(member, prefix),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rename(item, prefix)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn references<'s>(schema: &'s Value, found: &mut Vec<&'s str>) {
        match schema {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_filter_and_policy_is_in_it_with_its_settings() {
        let schema = whole();
        let kinds = FILTERS.iter().map(|row| ("Filter", row.kind, (row.schema)()));
        for (name, kind, settings) in
            kinds.chain(BALANCERS.iter().map(|row| ("Balancer", row.kind, (row.schema)())))
        {
            let branches = schema["$defs"][name]["anyOf"].as_array().expect("branches");
            assert!(
                branches[0]["enum"].as_array().is_some_and(|names| names.contains(&kind.into())),
                "{kind}"
            );
            let of_kind = |branch: &&Value| branch["properties"]["kind"]["const"] == kind;
            let branch = branches.iter().find(of_kind).unwrap_or_else(|| panic!("{kind} is missing"));
            for key in settings["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
                assert!(branch["properties"][key].is_object(), "{kind}.{key}");
            }
            assert_eq!(branch["additionalProperties"], false, "{kind}");
        }
    }

    #[test]
    fn every_reference_in_it_leads_to_a_definition() {
        let schema = whole();
        let mut found = Vec::new();
        references(&schema, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for reference in found {
            let pointer = reference.strip_prefix('#').expect("a local reference");
            assert!(schema.pointer(pointer).is_some(), "{reference}");
        }
    }
}
