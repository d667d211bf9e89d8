//! EndpointSlices (`discovery.k8s.io/v1`), and the endpoints of a service that follow from all of its slices.

use std::collections::BTreeMap;

use serde::Deserialize;
use witgate_exchange::contracts::discovery::{EndpointSpec, Readiness};

use crate::text::shortened;

/// The most endpoints of a service, which is as many as a set may have, and the most slices.
pub(super) const MOST: usize = 100_000;
/// The most bytes of all texts that are kept.
const LARGEST: usize = 64 << 20;

/// A page of a list. Keys that are not used are ignored.
#[derive(Deserialize)]
pub(super) struct List {
    #[serde(default)]
    pub(super) metadata: ListMetadata,
    #[serde(default)]
    pub(super) items: Option<Vec<Slice>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) next_page: String,
}

#[derive(Deserialize)]
pub(super) struct Slice {
    pub(super) metadata: Metadata,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    pub(super) resource_version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    conditions: Conditions,
    #[serde(default)]
    target_ref: Option<Target>,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    hints: Option<Hints>,
}

/// Without a value, a pod is ready; without `serving`, that is what `ready` says.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Target {
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Hints {
    #[serde(default)]
    for_zones: Option<Vec<Zone>>,
}

#[derive(Deserialize)]
struct Zone {
    name: String,
}

#[derive(Deserialize)]
struct Port {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    port: Option<u16>,
}

/// The slices of one service, by name.
#[derive(Default)]
pub(super) struct Slices {
    by_name: BTreeMap<String, Slice>,
    /// The number of endpoints of all slices.
    endpoints: usize,
    /// The bytes of the texts of all slices.
    bytes: usize,
}

impl Slices {
    /// Adds a slice, or replaces it.
    pub(super) fn put(&mut self, slice: Slice) -> Result<(), String> {
        let name = slice.metadata.name.clone();
        self.remove(&name);
        self.endpoints += slice.len();
        self.bytes += slice.bytes();
        self.by_name.insert(name, slice);
        match self.by_name.len() <= MOST && self.endpoints <= MOST && self.bytes <= LARGEST {
            true => Ok(()),
            false => Err(format!("the service has more than {MOST} endpoints or slices, or {LARGEST} bytes")),
        }
    }

    /// Removes a slice.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(gone) = self.by_name.remove(name) {
            self.endpoints -= gone.len();
            self.bytes -= gone.bytes();
        }
    }

    /// The endpoints of all slices. `port`: the name or the number of the port; without it, a slice must have one port.
    /// `zone`: the zone of the gateway. An endpoint that is in two slices while it moves from one to the other is
    /// listed twice, of which the sink keeps the readier one.
    ///
    /// # Errors
    /// The port cannot be told.
    pub(super) fn endpoints(
        &self,
        port: Option<&str>,
        zone: Option<&str>,
    ) -> Result<Vec<EndpointSpec>, String> {
        let zone = zone.filter(|_| self.all_have_hints());
        let mut specs = Vec::new();
        for slice in self.by_name.values() {
            let endpoints = slice.endpoints.as_deref().unwrap_or_default();
            if endpoints.is_empty() {
                continue;
            }
            let port = slice.port(port)?;
            // All addresses of an endpoint are of the same pod. Those of slices of host names are left out by the sink.
            specs.extend(endpoints.iter().filter_map(|endpoint| {
                endpoint.addresses.first().map(|address| endpoint.spec(address, port, zone))
            }));
        }
        Ok(specs)
    }

    /// Whether each ready endpoint says for which zones it is meant. If one does not, hints are ignored, as by the
    /// proxies of Kubernetes.
    fn all_have_hints(&self) -> bool {
        let mut ready = self.by_name.values().flat_map(|slice| slice.endpoints.iter().flatten());
        ready.all(|endpoint| endpoint.readiness() != Readiness::Ready || !endpoint.zones().is_empty())
    }
}

impl Slice {
    fn len(&self) -> usize {
        self.endpoints.as_ref().map_or(0, Vec::len)
    }

    /// The bytes of its texts.
    fn bytes(&self) -> usize {
        let ports = self.ports.iter().flatten().filter_map(|port| port.name.as_ref()).map(String::len);
        let endpoints = self.endpoints.iter().flatten().map(Endpoint::bytes);
        self.metadata.name.len() + ports.chain(endpoints).sum::<usize>()
    }

    fn port(&self, wanted: Option<&str>) -> Result<u16, String> {
        let ports = self.ports.as_deref().unwrap_or_default();
        let is_wanted = |port: &&Port| match wanted {
            None => true,
            Some(wanted) => {
                let number = port.port.map(|number| number.to_string());
                port.name.as_deref() == Some(wanted) || number.as_deref() == Some(wanted)
            }
        };
        let mut fitting = ports.iter().filter(is_wanted).filter_map(|port| port.port);
        let names = || {
            let names = ports
                .iter()
                .map(|port| port.name.as_deref().filter(|name| !name.is_empty()).unwrap_or("unnamed"));
            shortened(&names.collect::<Vec<_>>().join("`, `"), 200)
        };
        match (fitting.next(), fitting.next(), wanted) {
            (Some(port), None, _) => Ok(port),
            (Some(_), Some(_), _) => {
                Err(format!("the service has several ports: set `port` to one of `{}`", names()))
            }
            (None, _, Some(wanted)) => Err(format!("the service has no port `{wanted}`, but `{}`", names())),
            (None, _, None) => Err("the service has no port".to_owned()),
        }
    }
}

impl Endpoint {
    fn readiness(&self) -> Readiness {
        let Conditions { ready, serving, terminating } = self.conditions;
        let ready = ready.unwrap_or(true);
        match (ready, serving.unwrap_or(ready)) {
            (true, _) if terminating != Some(true) => Readiness::Ready,
            (_, true) => Readiness::Serving,
            _ => Readiness::NotServing,
        }
    }

    /// The bytes of its texts.
    fn bytes(&self) -> usize {
        let addresses = self.addresses.iter().map(String::len);
        let zones = self.zones().into_iter().map(str::len);
        let others =
            self.zone.iter().chain(self.target_ref.as_ref().map(|target| &target.name)).map(String::len);
        addresses.chain(zones).chain(others).sum()
    }

    fn zones(&self) -> Vec<&str> {
        let zones = self.hints.iter().filter_map(|hints| hints.for_zones.as_ref()).flatten();
        zones.map(|zone| zone.name.as_str()).collect()
    }

    /// With the gateway's zone, an endpoint counts to the zone for which it is meant.
    fn spec(&self, address: &str, port: u16, own_zone: Option<&str>) -> EndpointSpec {
        let zone = match own_zone {
            None => self.zone.as_deref(),
            Some(own) if self.zones().contains(&own) => Some(own),
            Some(own) => self.zone.as_deref().filter(|zone| *zone != own).or(self.zones().first().copied()),
        };
        let name = self.target_ref.as_ref().map(|target| target.name.clone());
        EndpointSpec {
            name: name.filter(|name| !name.is_empty()),
            zone: zone.filter(|zone| !zone.is_empty()).map(str::to_owned),
            readiness: self.readiness(),
            ..EndpointSpec::at(address, port)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slices(written: &[Value]) -> Slices {
        let mut slices = Slices::default();
        for slice in written {
            slices.put(serde_json::from_value(slice.clone()).unwrap()).unwrap();
        }
        slices
    }

    fn slice(name: &str, endpoints: Value) -> Value {
        json!({ "metadata": { "name": name }, "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{ "name": "http", "port": 8080 }, { "name": "metrics", "port": 9090 }] })
    }

    fn shown(slices: &Slices, zone: Option<&str>) -> Vec<(String, Option<String>, Readiness)> {
        let specs = slices.endpoints(Some("http"), zone).unwrap();
        specs.into_iter().map(|spec| (spec.host, spec.zone, spec.readiness)).collect()
    }

    #[test]
    fn conditions_say_whether_an_endpoint_serves() {
        let endpoint = |last: u8, conditions: Value| json!({ "addresses": [format!("10.0.0.{last}")], "conditions": conditions });
        let slices = slices(&[slice(
            "a",
            json!([
                endpoint(1, json!({})),
                endpoint(2, json!({ "ready": true, "serving": true, "terminating": false })),
                endpoint(3, json!({ "ready": false, "serving": true, "terminating": true })),
                endpoint(4, json!({ "ready": false, "serving": false, "terminating": true })),
                endpoint(5, json!({ "ready": false })),
                endpoint(6, json!({ "ready": true, "terminating": true })),
                { "addresses": [] },
            ]),
        )]);
        let found: Vec<_> = shown(&slices, None).into_iter().map(|(_, _, readiness)| readiness).collect();
        let expected = [
            Readiness::Ready,
            Readiness::Ready,
            Readiness::Serving,
            Readiness::NotServing,
            Readiness::NotServing,
            Readiness::Serving,
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn hints_are_followed_if_all_ready_endpoints_have_them() {
        let endpoint = |last: u8, zone: &str, hint: Option<&str>| {
            json!({ "addresses": [format!("10.0.0.{last}")], "zone": zone,
                    "hints": hint.map(|hint| json!({ "forZones": [{ "name": hint }] })) })
        };
        let zones = |slices: &Slices| {
            let zones = shown(slices, Some("a")).into_iter().map(|(_, zone, _)| zone.unwrap());
            zones.collect::<Vec<_>>().join(" ")
        };
        let hinted = [endpoint(1, "a", Some("a")), endpoint(2, "b", Some("a")), endpoint(3, "a", Some("b"))];
        let all = slices(&[slice("x", json!(hinted))]);
        assert_eq!(zones(&all), "a a b");
        let some = slices(&[slice("x", json!(hinted)), slice("y", json!([endpoint(4, "b", None)]))]);
        assert_eq!(zones(&some), "a b a b");
    }

    #[test]
    fn the_port_is_told_by_name_or_number_or_is_the_only_one() {
        let two = slices(&[slice("a", json!([{ "addresses": ["10.0.0.1"] }]))]);
        let port = |slices: &Slices, port| slices.endpoints(port, None).map(|specs| specs[0].port);
        assert_eq!((port(&two, Some("metrics")), port(&two, Some("8080"))), (Ok(9090), Ok(8080)));
        assert!(port(&two, None).unwrap_err().contains("`http`, `metrics`"));
        assert!(port(&two, Some("grpc")).unwrap_err().contains("no port `grpc`, but `http`"));
        let mut one = slice("a", json!([{ "addresses": ["10.0.0.1"], "targetRef": { "name": "pod-1" } }]));
        one["ports"] = json!([{ "name": "", "port": 80 }]);
        let one = slices(&[one]);
        assert_eq!(port(&one, None), Ok(80));
        assert_eq!(one.endpoints(None, None).unwrap()[0].name.as_deref(), Some("pod-1"));
        let mut none = slice("a", json!([{ "addresses": ["10.0.0.1"] }]));
        none["ports"] = json!(null);
        assert!(slices(&[none]).endpoints(None, None).unwrap_err().contains("no port"));
    }

    #[test]
    fn slices_are_replaced_and_removed_by_name_and_bounded() {
        let mut slices =
            slices(&[slice("a", json!([{ "addresses": ["10.0.0.1"] }])), slice("b", json!(null))]);
        slices
            .put(serde_json::from_value(slice("a", json!([{ "addresses": ["10.0.0.2"] }]))).unwrap())
            .unwrap();
        assert_eq!(shown(&slices, None)[0].0, "10.0.0.2");
        slices.remove("a");
        slices.remove("nobody");
        assert_eq!(shown(&slices, None), []);
        let many: Vec<Value> = (0..=MOST).map(|_| json!({})).collect();
        let many = serde_json::from_value(slice("c", json!(many))).unwrap();
        assert!(slices.put(many).unwrap_err().contains("more than 100000"));
    }
}
