//! One test for each promise of the README, and the keywords one by one.

use super::*;
use witgate_sdk::test;

fn schemas(schema: &str) -> Result<(Schemas, Id), String> {
    let mut schemas = Schemas::default();
    let document = serde_json::from_str(schema).expect("JSON");
    let id = schemas.prepare(&document, "")?;
    Ok((schemas, id))
}

fn fits(schema: &str, value: &str) -> bool {
    let (schemas, id) = schemas(schema).unwrap_or_else(|why| panic!("{schema}: {why}"));
    let value = serde_json::from_str(value).expect("JSON");
    check(&schemas, id, &value, 10).misfits.is_empty()
}

/// A schema, values that fit, and values that do not.
const KEYWORDS: &[(&str, &str, &str)] = &[
    ("true", "[1]", ""),
    ("{}", "null", ""),
    ("false", "", "1"),
    (r#"{"type":"integer"}"#, "1 1.0 -3 1e3 18446744073709551615", "1.5 \"1\" null"),
    (r#"{"type":"number"}"#, "1 1.5", "\"1\" true"),
    (r#"{"type":["string","null"]}"#, "\"a\" null", "1 []"),
    (r#"{"type":"string","nullable":true}"#, "\"a\" null", "1"),
    (r#"{"type":"object"}"#, "{}", "[] null"),
    (r#"{"enum":[1,"a",{"b":[1,2]}]}"#, r#"1.0 "a" {"b":[1.0,2]}"#, r#"2 "b" {"b":[2,1]} {"b":[1,2],"c":1}"#),
    (r#"{"const":0}"#, "0 0.0 -0.0", "false null \"\" 1"),
    (r#"{"minimum":2}"#, "2 2.0 3 \"1\"", "1 1.9999"),
    (r#"{"maximum":9007199254740993}"#, "9007199254740993", "9007199254740994"),
    (r#"{"exclusiveMinimum":2}"#, "2.0001", "2 1"),
    (r#"{"exclusiveMaximum":2}"#, "1.9", "2"),
    (r#"{"minimum":2,"exclusiveMinimum":true,"maximum":5,"exclusiveMaximum":false}"#, "3 5", "2 6"),
    (r#"{"multipleOf":0.01}"#, "0.01 4.02 19.99 7 0", "0.001 0.005 1e-9"),
    (r#"{"multipleOf":3}"#, "9 0 -3 \"a\"", "10 9.5"),
    (r#"{"minLength":2,"maxLength":3}"#, r#""ab" "äöü" "\ud83d\ude00x" 1"#, r#""a" "abcd" """#),
    (r#"{"pattern":"^a+$"}"#, r#""aaa" 1"#, r#""ba" "" "#),
    (r#"{"pattern":"b"}"#, r#""abc""#, r#""ac""#),
    (r#"{"items":{"type":"integer"},"minItems":1,"maxItems":2}"#, "[1] [1,2]", "[] [1,2,3] [\"a\"]"),
    (
        r#"{"prefixItems":[{"type":"integer"},{"type":"string"}],"items":false}"#,
        r#"[1,"a"] [1] []"#,
        r#"["a"] [1,"a",2]"#,
    ),
    (r#"{"items":[{"type":"integer"}],"additionalItems":{"type":"null"}}"#, "[1,null]", "[1,1] [null]"),
    (r#"{"uniqueItems":true}"#, r#"[1,"1",true,{"a":1}] []"#, r#"[1,1.0] [{"a":1,"b":2},{"b":2,"a":1}]"#),
    (r#"{"contains":{"const":1},"minContains":2,"maxContains":3}"#, "[1,0,1] [1,1,1]", "[1] [] [1,1,1,1]"),
    (r#"{"contains":{"const":1}}"#, "[0,1] {}", "[0] []"),
    (r#"{"properties":{"a":{"type":"integer"}},"required":["a"]}"#, r#"{"a":1,"b":2} []"#, r#"{} {"a":"1"}"#),
    (
        r#"{"properties":{"a":true},"additionalProperties":false}"#,
        r#"{"a":1} {}"#,
        r#"{"b":1} {"a":1,"b":1}"#,
    ),
    (
        r#"{"properties":{"a":true},"patternProperties":{"^x-":{"type":"string"}},"additionalProperties":{"type":"null"}}"#,
        r#"{"a":1,"x-b":"c","d":null}"#,
        r#"{"x-b":1} {"d":1}"#,
    ),
    (r#"{"propertyNames":{"maxLength":2}}"#, r#"{"ab":1}"#, r#"{"abc":1}"#),
    (r#"{"minProperties":1,"maxProperties":2}"#, r#"{"a":1}"#, r#"{} {"a":1,"b":2,"c":3}"#),
    (r#"{"dependentRequired":{"a":["b"]}}"#, r#"{"b":1} {"a":1,"b":2}"#, r#"{"a":1}"#),
    (r#"{"dependentSchemas":{"a":{"required":["b"]}}}"#, r#"{"a":1,"b":2} {}"#, r#"{"a":1}"#),
    (
        r#"{"dependencies":{"a":["b"],"c":{"required":["d"]}}}"#,
        r#"{"a":1,"b":1} {"c":1,"d":1}"#,
        r#"{"a":1} {"c":1}"#,
    ),
    (r#"{"allOf":[{"minimum":1},{"maximum":3}]}"#, "1 3", "0 4"),
    (r#"{"anyOf":[{"type":"string"},{"minimum":3}]}"#, "\"a\" 3", "2"),
    (r#"{"oneOf":[{"multipleOf":3},{"multipleOf":5}]}"#, "3 5", "15 7"),
    (r#"{"not":{"type":"null"}}"#, "1", "null"),
    (r#"{"if":{"type":"integer"},"then":{"minimum":1},"else":{"type":"string"}}"#, "1 \"a\"", "0 null"),
    (r##"{"$defs":{"n~/%":{"type":"null"}},"$ref":"#/$defs/n~0~1%25"}"##, "null", "1"),
    (
        r##"{"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##,
        r#"{"next":{"next":{}}}"#,
        r#"{"next":{"x":1}}"#,
    ),
    (
        r#"{"format":"email","title":"x","description":"y","default":1,"examples":[2],"x-own":3}"#,
        "\"no mail\"",
        "",
    ),
];

#[test]
fn every_keyword_accepts_what_fits_and_refuses_what_does_not() {
    for (schema, good, bad) in KEYWORDS {
        let values = |text: &str| -> Vec<Value> {
            serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>().expect("values")
        };
        for value in values(good) {
            assert!(fits(schema, &value.to_string()), "{schema} accepts {value}");
        }
        for value in values(bad) {
            assert!(!fits(schema, &value.to_string()), "{schema} refuses {value}");
        }
    }
}

#[test]
fn what_cannot_be_applied_as_a_whole_is_refused() {
    for (schema, told) in [
        ("1", "not a schema"),
        (r#"{"properties":{"a":3}}"#, "/properties/a"),
        (r#"{"properties":[]}"#, "`properties`"),
        (r#"{"type":"text"}"#, "`type`"),
        (r#"{"type":[]}"#, "`type`"),
        (r#"{"pattern":"("}"#, "regular expression `(`"),
        (r#"{"pattern":"(?=a)"}"#, "regular expression"),
        (r#"{"minLength":-1}"#, "`minLength`"),
        (r#"{"multipleOf":0}"#, "`multipleOf`"),
        (r#"{"required":"a"}"#, "`required`"),
        (r#"{"allOf":[]}"#, "`allOf`"),
        (r##"{"$ref":"#/nowhere"}"##, "/nowhere"),
        (r#"{"$ref":"https://example.com/s"}"#, "`$ref`"),
        (r#"{"items":{"unevaluatedProperties":false}}"#, "unevaluatedProperties"),
        (r##"{"$dynamicRef":"#a"}"##, "$dynamicRef"),
    ] {
        let why = schemas(schema).err().unwrap_or_else(|| panic!("{schema} is refused"));
        assert!(why.contains(told), "{schema}: {why}");
    }
}

#[test]
fn checks_end_whatever_schema_and_value_are() {
    // A schema that refers to itself without looking at a part of the value never fits.
    assert!(!fits(r##"{"$ref":"#"}"##, "1"));
    assert!(!fits(r##"{"not":{"$ref":"#"}}"##, "1"), "what is given up does not count as refused");
    let doubling: String = (0..40)
        .map(|number| {
            format!(
                r##""s{number}":{{"anyOf":[{{"$ref":"#/$defs/s{0}"}},{{"$ref":"#/$defs/s{0}"}}]}},"##,
                number + 1
            )
        })
        .collect();
    let schema = format!(r##"{{"$defs":{{{doubling}"s40":{{"type":"null"}}}},"$ref":"#/$defs/s0"}}"##);
    assert!(!fits(&schema, "1"));
    let long = format!("[{}0]", "0,".repeat(100_000));
    let (schemas, id) = schemas(r#"{"items":{"type":"string"}}"#).expect("a schema");
    let found = check(&schemas, id, &serde_json::from_str(&long).expect("JSON"), 10);
    assert_eq!((found.misfits.len(), found.more), (10, true));
}

const SCHEMA: &str = r#"{ "schema": { "type": "object", "required": ["name"], "additionalProperties": false,
    "properties": { "name": { "type": "string", "maxLength": 5 }, "tags": { "items": { "type": "string" } } } } }"#;

fn plugin(settings: &str) -> JsonSchema {
    test::configure(settings).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn refusal(plugin: &JsonSchema, method: &str, path: &str, content_type: &str, body: &str) -> (u16, String) {
    let mut request = test::request().method(method).path(path);
    if !content_type.is_empty() {
        request = request.header("content-type", content_type);
    }
    let refused = plugin.refuse_by_body(&Body::whole(body), &request.build());
    refused.map_or((200, String::new()), |response| {
        (response.status, String::from_utf8(response.body).expect("text"))
    })
}

#[test]
fn a_request_that_does_not_fit_is_told_where_and_why() {
    let plugin = plugin(SCHEMA);
    assert_eq!(plugin.reads(), Reading::whole(1 << 20).decoded());
    let json = "application/json";
    let of = |method: &str, content_type: &str, body: &str| refusal(&plugin, method, "/", content_type, body);
    assert_eq!(of("POST", json, r#"{"name":"ada"}"#).0, 200);
    assert_eq!(of("POST", "application/merge-patch+json; charset=utf-8", r#"{"name":"ada"}"#).0, 200);
    let (status, body) = of("PUT", json, r#"{"tags":["a",1],"na/me":"secret","name":"too long"}"#);
    let problem: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &problem["code"]), (422, &"schema-mismatch".into()));
    let mut errors: Vec<&str> =
        problem["errors"].as_array().expect("a list").iter().filter_map(|e| e["pointer"].as_str()).collect();
    errors.sort_unstable();
    assert_eq!(errors, ["/name", "/na~1me", "/tags/1"]);
    assert!(!body.contains("secret"), "values are not quoted: {body}");
    for (method, content_type, body, expected) in [
        ("GET", "", "", 200),
        ("POST", json, "", 400),
        ("POST", json, "{", 400),
        ("POST", json, r#"{"name":"a","name":"b"}"#, 400),
        ("POST", json, &"[".repeat(65), 400),
        ("POST", "text/plain", r#"{"name":"ada"}"#, 415),
        ("POST", "", r#"{"name":"ada"}"#, 415),
        ("GET", json, "[]", 422),
    ] {
        assert_eq!(of(method, content_type, body).0, expected, "{method} {content_type} {body:.40}");
    }
    let optional = self::plugin(&SCHEMA.replacen('{', r#"{ "required": false, "#, 1));
    assert_eq!(refusal(&optional, "POST", "/", json, "").0, 200);
}

#[test]
fn operations_of_an_openapi_document_are_told_apart() {
    let gateway = test::Gateway::new();
    gateway.data(
        "api",
        r##"{ "openapi": "3.0.3", "paths": {
            "/orders": { "post": { "requestBody": { "$ref": "#/components/requestBodies/Order" },
                "responses": { "201": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Order" } } } },
                               "default": { "content": { "application/problem+json": { "schema": { "type": "object" } } } } } } },
            "/orders/{id}": { "put": { "requestBody": { "content": { "application/json": { "schema": { "type": "integer" } } } } } },
            "/orders/new": { "put": { "requestBody": { "content": { "application/json": { "schema": { "type": "string" } } } } } } },
          "components": {
            "requestBodies": { "Order": { "required": true, "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Order" } } } } },
            "schemas": { "Order": { "type": "object", "properties": { "count": { "type": "integer", "minimum": 0,
                "exclusiveMinimum": true, "nullable": true } } } } } }"##,
    );
    let plugin = plugin(r#"{ "document": "api", "base_path": "/v1", "responses": "withhold" }"#);
    for (method, path, body, expected) in [
        ("POST", "/v1/orders", r#"{"count":1}"#, 200),
        ("POST", "/v1/orders", r#"{"count":null}"#, 200),
        ("POST", "/v1/orders", r#"{"count":0}"#, 422),
        ("POST", "/v1/orders", "", 400),
        ("PUT", "/v1/orders/7", "1", 200),
        ("PUT", "/v1/orders/7", "\"a\"", 422),
        ("PUT", "/v1/orders/new", "\"a\"", 200),
        ("PUT", "/v1/orders/7", "", 200),
        ("PUT", "/v1/orders/", "\"a\"", 200),
        ("GET", "/v1/orders", "", 200),
        ("POST", "/orders", r#"{"count":0}"#, 200),
    ] {
        assert_eq!(
            refusal(&plugin, method, path, "application/json", body).0,
            expected,
            "{method} {path} {body}"
        );
    }
    let refusing = self::plugin(r#"{ "document": "api", "undescribed": "refuse" }"#);
    assert_eq!(refusal(&refusing, "GET", "/orders", "", "").0, 404);

    let request = test::request().method("POST").path("/v1/orders").build();
    let answer = |status: u16, content_type: &str, body: &str| {
        let response = test::response(status).header("content-type", content_type).build();
        let chunk = Chunk { content: body.into(), end: true, context: Vec::new() };
        plugin
            .on_response_body(chunk, &response, &request)
            .output
            .map(|body| String::from_utf8_lossy(&body).into_owned())
    };
    assert_eq!(answer(201, "application/json", r#"{"count":1}"#), None);
    assert!(
        answer(201, "application/json", r#"{"count":"x"}"#)
            .is_some_and(|body| body.contains("upstream-protocol"))
    );
    assert!(answer(201, "application/json", "{").is_some());
    assert_eq!(answer(500, "application/problem+json", "{}"), None);
    assert!(answer(500, "application/problem+json", "[]").is_some());
    assert_eq!(answer(201, "text/plain", "x"), None);
    assert_eq!(gateway.counted("responses_that_do_not_fit"), 3);
    let local = test::response(503).header("content-type", "application/problem+json").local().build();
    let chunk = Chunk { content: b"[]".to_vec(), end: true, context: Vec::new() };
    assert_eq!(plugin.on_response_body(chunk, &local, &request), BodyResult::unchanged());
    let off = self::plugin(r#"{ "document": "api" }"#);
    assert_eq!(Transformation::interest(&off).response_body, BodyAccess::None);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let gateway = test::Gateway::new();
    gateway.data("yaml", "openapi: 3.0.0\n");
    gateway.data("old", r#"{ "openapi": "2.0" }"#);
    gateway.data("empty", r#"{ "openapi": "3.1.0" }"#);
    for (settings, pointer) in [
        ("{}", ""),
        (r#"{ "document": "yaml", "schema": {} }"#, ""),
        (r#"{ "document": "none" }"#, "/document"),
        (r#"{ "document": "yaml" }"#, "/document"),
        (r#"{ "document": "old" }"#, "/document"),
        (r#"{ "document": "empty" }"#, "/document"),
        (r#"{ "schema": { "type": "text" } }"#, "/schema"),
        (r#"{ "schema": {}, "pointer": "/$defs/a" }"#, "/schema"),
        (r#"{ "schema": {}, "base_path": "v1" }"#, "/base_path"),
    ] {
        let problems = test::configure::<JsonSchema>(settings).err().expect("they are wrong");
        assert_eq!(problems[0].pointer, pointer, "{settings}");
    }
}
