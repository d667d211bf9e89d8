//! `upstreams.NAME.endpoints`: the addresses of the service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{EndpointAddress, Scheme, Text};
use crate::written::Scope;

/// An endpoint of an upstream.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Endpoint {
    Address(Text<EndpointAddress>),
    Table(EndpointTable),
}

/// An endpoint with its weight, priority and zone.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointTable {
    /// The address, e.g. `"127.0.0.1:9001"`.
    address: Text<EndpointAddress>,
    /// Weight relative to the other endpoints. 0 takes no new requests.
    #[serde(default = "default_weight")]
    #[schemars(range(max = 1_000_000))]
    weight: u32,
    /// Endpoints of priority 0 are preferred. Those of the next priority take what the ones before cannot: see
    /// `spill_below`.
    #[serde(default)]
    #[schemars(range(max = 127))]
    priority: u32,
    /// Its zone, e.g. `"eu-central-1a"`. Within a priority, endpoints in the gateway's own zone are preferred.
    #[schemars(length(min = 1))]
    zone: Option<String>,
}

fn default_weight() -> u32 {
    1
}

/// Converts the endpoints to the model. Also returns whether all are reached by `https://`.
pub(super) fn meant(
    written: Vec<Endpoint>,
    at: &str,
    scope: &mut Scope,
) -> (Vec<model::Endpoint>, Option<bool>) {
    let mut endpoints: Vec<model::Endpoint> = Vec::new();
    let mut schemes = Vec::new();
    for (index, endpoint) in written.into_iter().enumerate() {
        let at = child(at, &index.to_string());
        let table = match endpoint {
            Endpoint::Address(address) => {
                EndpointTable { address, weight: default_weight(), priority: 0, zone: None }
            }
            Endpoint::Table(table) => table,
        };
        let EndpointTable { address: Text { value: address, .. }, weight, priority, zone } = table;
        let earlier = endpoints.iter().any(|known| known.host == address.host && known.port == address.port);
        if earlier {
            scope.report(
                &at,
                "this endpoint is in the list twice",
                Some("give it a `weight` instead".to_owned()),
            );
        }
        if schemes.first().is_some_and(|first| *first != address.scheme) {
            scope.report(
                &at,
                "the endpoints of an upstream are all `https://` or all not",
                Some("declare two upstreams".to_owned()),
            );
        }
        schemes.push(address.scheme);
        endpoints.push(model::Endpoint { host: address.host, port: address.port, weight, priority, zone });
    }
    if !endpoints.is_empty() && endpoints.iter().all(|endpoint| endpoint.weight == 0) {
        scope.report(at, "all endpoints have weight 0, so none takes requests", None);
    }
    (endpoints, schemes.first().copied().flatten().map(|scheme| scheme == Scheme::Https))
}
