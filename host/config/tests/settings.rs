//! Settings of filters and plugins: checked by their owner's schema, told at their place.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use witgate_config::{Loaded, Settings, check_settings, parse_str, render};

/// A gateway with one plugin binding that has these settings.
fn binding(settings: &str) -> Loaded {
    let text = format!("[plugins.p]\n[bindings.p.settings]\n{settings}");
    parse_str(&text).unwrap_or_else(|failure| panic!("{}", failure.render(false)))
}

/// What is wrong with the settings by the schema, as `KEY: MESSAGE (HINT)`.
fn wrong(settings: &str, schema: &Value) -> Vec<String> {
    let loaded = binding(settings);
    let told = check_settings(&loaded.config.bindings["p"].settings, schema).into_iter().map(|problem| {
        assert!(problem.span.is_some(), "it has a place: {problem:?}");
        let key = problem.key.trim_start_matches("bindings.p.").to_owned();
        let hint = problem.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
        format!("{key}: {}{hint}", problem.message)
    });
    told.collect()
}

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    schema: String,
    settings: String,
    told: String,
}

#[test]
fn every_keyword_is_told_in_words() {
    let cases: Cases = toml::from_str(include_str!("keywords.toml")).expect("a table of cases");
    assert!(cases.case.len() > 30, "the cases are there");
    for case in cases.case {
        let schema = serde_json::from_str(&case.schema).expect("a schema");
        assert_eq!(wrong(&case.settings, &schema).join("; "), case.told, "{} {}", case.schema, case.settings);
    }
}

#[test]
fn hostile_schemas_come_to_an_end() {
    let circle = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "$ref": "#/$defs/a" } } });
    assert!(!wrong("a = 1", &circle).is_empty());
    let bomb = json!({ "$ref": "#/$defs/a", "$defs": { "a": { "anyOf": [
        { "allOf": [{ "$ref": "#/$defs/a" }, { "$ref": "#/$defs/a" }] }, { "type": "string" } ] } } });
    assert!(!wrong("a = 1", &bomb).is_empty());
    assert!(wrong("a = 1", &json!({ "$ref": "https://elsewhere.example/schema" })).is_empty());
}

/// Schemas by which a plugin could keep whoever checks its settings busy for ever, or make it take all memory.
fn schemas_without_end() -> Vec<(&'static str, Value)> {
    let circles = vec![json!({ "$ref": "#" }); 60];
    let long = "x".repeat(1 << 20);
    let words: Vec<_> = (0..50_000).map(|number| format!("word-{number}")).collect();
    let keys: Value = words
        .iter()
        .map(|word| (word.clone(), json!({ "const": 1 })))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let patterns: Value = (0..5_000)
        .map(|number| (format!(r"\w{{{}}}", number % 900 + 100), json!({})))
        .collect::<serde_json::Map<_, _>>()
        .into();
    vec![
        ("allOf in circles", json!({ "allOf": circles, "additionalProperties": false })),
        ("allOf in circles, unevaluated", json!({ "allOf": circles, "unevaluatedProperties": false })),
        ("anyOf in circles", json!({ "anyOf": circles, "additionalProperties": false })),
        ("oneOf in circles", json!({ "oneOf": circles, "type": "string" })),
        (
            "types in circles",
            json!({ "properties": { "a": { "$ref": "#/$defs/a" } },
            "$defs": { "a": { "anyOf": vec![json!({ "$ref": "#/$defs/a" }); 60], "type": "string" } } }),
        ),
        (
            "not in circles",
            json!({ "not": { "allOf": circles }, "if": { "$ref": "#" }, "then": { "$ref": "#" } }),
        ),
        (
            "a chain of references",
            (0..5_000).fold(json!({ "$ref": "#/$defs/0" }), |mut schema, number| {
                schema["$defs"][number.to_string()] = json!({ "$ref": format!("#/$defs/{}", number + 1) });
                schema
            }),
        ),
        (
            "a long reference, often",
            json!({ "allOf": vec![json!({ "$ref": format!("#/{long}") }); 8],
            "properties": { "l": { "items": { "$ref": "#" } } } }),
        ),
        (
            "many words",
            json!({ "properties": { "l": { "items": { "allOf": vec![json!({ "$ref": "#/$defs/w" }); 1_000] } } },
            "$defs": { "w": { "enum": words } } }),
        ),
        (
            "many tags",
            json!({ "properties": { "t": { "items": { "oneOf": vec![json!({ "$ref": "#/$defs/t" }); 1_000] } } },
            "$defs": { "t": { "type": "object", "properties": keys } } }),
        ),
        (
            "many required keys",
            json!({ "allOf": vec![json!({ "$ref": "#/$defs/r" }); 1_000], "$defs": { "r": { "required": words } } }),
        ),
        ("many unknown keys", json!({ "properties": keys, "additionalProperties": false })),
        ("many patterns", json!({ "patternProperties": patterns })),
        (
            "many branches with a pattern each",
            json!({ "properties": { "l": { "items": { "anyOf":
            (0..5_000).map(|number| json!({ "pattern": format!(r"^(\w{{1,64}}){{{}}}$", number + 1) })).collect::<Vec<_>>() } } } }),
        ),
        (
            "lists without twins",
            json!({ "properties": { "l": { "allOf": vec![json!({ "uniqueItems": true }); 50_000] } } }),
        ),
        (
            "a long message, often",
            json!({ "properties": { "l": { "items": { "allOf":
            vec![json!({ "const": long }); 20].into_iter().cycle().take(20).collect::<Vec<_>>() } } } }),
        ),
    ]
}

/// Each is answered within a second or so of an optimised build; the deadline allows for slow ones.
#[test]
fn a_schema_that_is_work_without_end_is_given_up_in_words() {
    let unknown: String = (0..2_000).map(|number| format!("unknown-{number} = 1\n")).collect();
    let list: String = (0..1_000).map(|number| format!("'{number}', ")).collect();
    let tables = "{ a = 1 }, ".repeat(100);
    let settings = format!("a = 1\n{unknown}l = [{list}]\nt = [{tables}]");
    for (what, schema) in schemas_without_end() {
        let begun = std::time::Instant::now();
        let told = wrong(&settings, &schema);
        assert!(begun.elapsed().as_secs() < 20, "{what}: {:?}", begun.elapsed());
        assert!(told.len() <= 1_003, "{what}: {} problems", told.len());
        assert!(told.iter().map(String::len).sum::<usize>() < 4 << 20, "{what}");
        if what.ends_with("in circles") && what != "types in circles" {
            assert!(told.iter().any(|told| told.contains("too complex")), "{what}: {:?}", told.first());
        }
    }
}

#[test]
fn a_large_honest_schema_is_no_reason_to_refuse() {
    let words: Vec<_> = (0..1_000).map(|number| format!("word-{number}")).collect();
    let schema = json!({ "properties": { "l": { "items": { "enum": words }, "uniqueItems": true },
        "p": { "items": { "pattern": r"^\w{1,64}$" } } }, "additionalProperties": false });
    let list: String = words.iter().map(|word| format!("'{word}', ")).collect();
    assert_eq!(wrong(&format!("l = [{list}]\np = [{list}]"), &schema).len(), 1_000, "`-` is no letter");
    assert!(wrong(&format!("l = [{list}]"), &schema).is_empty());
    let told = wrong("l = ['word-1001']", &schema).join("");
    assert!(told.contains("or one of others") && told.contains("did you mean `\"word-1"), "{told}");
}

/// As a filter or plugin would have it.
#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Keys {
    /// The keys that are accepted.
    keys: Vec<Key>,
    #[serde(default)]
    leeway: u8,
}

#[derive(Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Key {
    /// A shared secret.
    Secret { secret: String },
    /// A public key.
    Public { pem: String },
}

#[test]
fn owners_parse_their_settings() {
    let loaded = binding("keys = [{ kind = 'secret', secret = 'x' }]\nleeway = 5");
    let settings = &loaded.config.bindings["p"].settings;
    let keys: Keys = settings.parse().expect("they are right");
    assert_eq!(keys, Keys { keys: vec![Key::Secret { secret: "x".to_owned() }], leeway: 5 });

    let loaded =
        binding("keys = [{ kind = 'secret', secert = 'x' }, { kind = 'sceret', pem = '' }, 'x']\nleewey = 5");
    let problems = loaded.config.bindings["p"].settings.parse::<Keys>().expect_err("they are wrong");
    let told = render(&problems, &loaded.sources, false);
    let expected = "\
error: missing key `secret`
 --> witgate.toml:3:9
  |
3 | keys = [{ kind = 'secret', secert = 'x' }, { kind = 'sceret', pem = '' }, 'x']
  |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
";
    assert!(told.starts_with(expected), "{told}");
    assert!(told.contains("unknown key `secert`") && told.contains("did you mean `secret`?"), "{told}");
    assert!(told.contains("expected a table, found a string"), "{told}");
    assert!(told.contains("expected `\"secret\"` or `\"public\"`, found `\"sceret\"`"), "{told}");
    assert!(told.contains("did you mean `leeway`?"), "{told}");
}

#[test]
fn what_a_plugin_finds_is_placed_by_its_pointer() {
    let loaded = binding("keys = [{ kid = 'a/b' }]\n");
    let settings = &loaded.config.bindings["p"].settings;
    let cases = [
        ("/keys/0/kid", "witgate.toml:3:17", "bindings.p.settings.keys[0].kid"),
        ("/keys/0/alg", "witgate.toml:3:9", "bindings.p.settings.keys[0].alg"),
        ("/nothing/there", "witgate.toml:2:1", "bindings.p.settings.nothing.there"),
        ("", "witgate.toml:2:1", "bindings.p.settings"),
        ("no pointer", "witgate.toml:2:1", "bindings.p.settings"),
    ];
    for (pointer, place, key) in cases {
        let problem = settings.problem(pointer, "the plugin does not like it", None);
        assert_eq!(problem.key, key, "{pointer}");
        let told = render(std::slice::from_ref(&problem), &loaded.sources, false);
        assert!(told.contains(place), "{pointer}: {told}");
    }
}

#[test]
fn settings_that_nobody_wrote_are_checked_too() {
    let settings = Settings::unwritten("filters.cors", serde_json::Map::new());
    let problems = settings.parse::<Keys>().expect_err("`keys` is missing");
    assert_eq!((problems[0].key.as_str(), &problems[0].span), ("filters.cors", &None));
}
