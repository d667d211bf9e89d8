//! An endpoint as it is written in files and in the values of etcd.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use witgate_exchange::contracts::discovery::{EndpointSpec, Readiness};

use crate::text;

/// An endpoint: its address alone, or a table.
pub(crate) struct Endpoint(pub(crate) EndpointSpec);

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

/// Splits `address:port`. Whether the address is one, and allowed, is for the sink to say, which shows what it
/// leaves out.
pub(crate) fn at(address: &str) -> Result<EndpointSpec, String> {
    let port = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    match port {
        Some((host, port)) => Ok(EndpointSpec::at(host, port)),
        None => {
            let short = text::shortened(address, 100);
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
