//! The contents of a file of endpoints: TOML and JSON with the same keys.

use serde::Deserialize;
use witgate_exchange::contracts::discovery::EndpointSpec;

use crate::endpoint::Endpoint;
use crate::text::one_line;

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    endpoints: Vec<Endpoint>,
}

/// Parses TOML.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn toml(text: &str) -> Result<Vec<EndpointSpec>, String> {
    let parsed: Result<Written, _> = toml::from_str(text);
    parsed.map(specs).map_err(|error| match error.span() {
        Some(span) => {
            let line = text.get(..span.start).map_or(0, |before| before.matches('\n').count()) + 1;
            format!("line {line}: {}", one_line(error.message()))
        }
        None => one_line(error.message()),
    })
}

/// Parses JSON.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn json(text: &str) -> Result<Vec<EndpointSpec>, String> {
    let parsed: Result<Written, _> = serde_json::from_str(text);
    parsed.map(specs).map_err(|error| one_line(&error.to_string()))
}

fn specs(written: Written) -> Vec<EndpointSpec> {
    written.endpoints.into_iter().map(|endpoint| endpoint.0).collect()
}

#[cfg(test)]
mod tests {
    use witgate_exchange::contracts::discovery::Readiness;

    use super::*;

    #[test]
    fn both_formats_have_the_same_keys() {
        let from_toml = toml(
            "endpoints = [\"10.0.0.1:80\", { address = \"[2001:db8::1]:81\", name = \"a\", weight = 3, \
             priority = 1, zone = \"z\", ready = false }]",
        )
        .unwrap();
        let from_json = json(
            r#"{"endpoints": ["10.0.0.1:80", {"address": "[2001:db8::1]:81", "name": "a", "weight": 3,
                "priority": 1, "zone": "z", "ready": false}]}"#,
        )
        .unwrap();
        assert_eq!(from_toml, from_json);
        let expected = EndpointSpec {
            name: Some("a".into()),
            weight: 3,
            priority: 1,
            zone: Some("z".into()),
            readiness: Readiness::NotServing,
            ..EndpointSpec::at("2001:db8::1", 81)
        };
        assert_eq!(from_toml, [EndpointSpec::at("10.0.0.1", 80), expected]);
        assert_eq!(toml("endpoints = []"), Ok(vec![]));
    }

    #[test]
    fn what_is_malformed_is_told_with_its_place_and_within_bounds() {
        for (told, words) in [
            (toml(""), "endpoints"),
            (toml("\nendpoints = [\"10.0.0.1\"]"), "line 2: `10.0.0.1` is not an address with a port"),
            (toml("endpoints = [\n{ address = \"1.1.1.1:1\", wieght = 1 }]"), "wieght"),
            (toml("endpoints = [1]"), "\"address:port\", or a table"),
            (toml("endpoints = ["), "line 1"),
            (json(""), "line 1"),
            (json("{\"endpoints\": [\"10.0.0.1:80\""), "line 1"),
            (json("[]"), "expected"),
            (json("{\"endpoints\": [{\"weight\": 1}]}"), "address"),
            (json("{\"endpoints\": [{\"address\": \"1.1.1.1:1\", \"weight\": -1}]}"), "-1"),
            (json(&"[".repeat(100_000)), "line 1"),
        ] {
            let told = told.unwrap_err();
            assert!(told.contains(words) && told.len() < 500 && !told.contains('\n'), "{told}");
        }
        let long = toml(&format!("endpoints = [\"{}\"]", "x\\n".repeat(100_000))).unwrap_err();
        assert!(long.len() < 500 && !long.contains('\n'), "{long}");
    }
}
