//! The contents of a file of endpoints: TOML and JSON with the same keys.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use witgate_exchange::contracts::discovery::{EndpointSpec, Readiness};

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    endpoints: Vec<Endpoint>,
}

/// An endpoint: its address alone, or a table.
struct Endpoint(EndpointSpec);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    address: String,
    name: Option<String>,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default)]
    priority: u32,
    zone: Option<String>,
    #[serde(default = "yes")]
    ready: bool,
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
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

/// A message in one line of bounded length: it may quote what is in the file.
fn one_line(message: &str) -> String {
    let line: String = message.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    line.trim().to_owned()
}

/// Splits `address:port`. Whether the address is one, and allowed, is for the sink to say, which shows what it
/// leaves out.
fn at(address: &str) -> Result<EndpointSpec, String> {
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match port {
        Some((host, port)) => Ok(EndpointSpec::at(host, port)),
        None => {
            let short: String = address.chars().take(100).collect();
            Err(format!("`{}` is not an address with a port such as `10.0.0.1:80`", short.escape_debug()))
        }
    }
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EndpointVisitor)
    }
}

struct EndpointVisitor;

impl<'de> Visitor<'de> for EndpointVisitor {
    type Value = Endpoint;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("\"address:port\", or a table with `address`")
    }

    fn visit_str<E: Error>(self, address: &str) -> Result<Endpoint, E> {
        at(address).map(Endpoint).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
        let Table { address, name, weight, priority, zone, ready } =
            Table::deserialize(MapAccessDeserializer::new(map))?;
        let readiness = if ready { Readiness::Ready } else { Readiness::NotServing };
        let spec = at(&address).map_err(A::Error::custom)?;
        Ok(Endpoint(EndpointSpec { name, weight, priority, zone, readiness, ..spec }))
    }
}

#[cfg(test)]
mod tests {
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
