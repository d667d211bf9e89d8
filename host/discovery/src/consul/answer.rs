//! The answers of Consul's health endpoint: `/v1/health/service/NAME`.

use serde::Deserialize;
use witgate_exchange::contracts::discovery::{EndpointSpec, Readiness};

/// The most instances. As many endpoints as a set may have.
const MOST: usize = 100_000;

/// One instance. Keys that are not used are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    node: Node,
    service: Service,
    #[serde(default)]
    checks: Option<Vec<Check>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(default)]
    node: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(default, rename = "ID")]
    id: String,
    #[serde(default)]
    address: String,
    port: u16,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    locality: Option<Locality>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    #[serde(default)]
    zone: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(default, rename = "CheckID")]
    id: String,
    #[serde(default)]
    status: String,
}

/// The endpoints in an answer. With `nearest`, all but the first ones have the next priority: Consul lists the nearest
/// instances first.
///
/// # Errors
/// It is not an answer of Consul.
pub(super) fn endpoints(body: &[u8], nearest: Option<usize>) -> Result<Vec<EndpointSpec>, String> {
    let instances: Vec<Instance> = serde_json::from_slice(body).map_err(|error| {
        format!("the answer is not a list of instances: {}", crate::text::one_line(&error.to_string()))
    })?;
    if instances.len() > MOST {
        return Err(format!("the service has {} instances: at most {MOST} are used", instances.len()));
    }
    let in_service = instances.into_iter().filter(|instance| !instance.is_in_maintenance());
    let specs = in_service.enumerate().map(|(place, instance)| {
        let far = nearest.is_some_and(|nearest| place >= nearest);
        EndpointSpec { priority: u32::from(far), ..instance.endpoint() }
    });
    Ok(specs.collect())
}

impl Instance {
    fn has_check(&self, is_it: impl Fn(&Check) -> bool) -> bool {
        self.checks.iter().flatten().any(is_it)
    }

    /// Whether an operator has taken the instance or its node out of service.
    fn is_in_maintenance(&self) -> bool {
        self.has_check(|check| {
            check.id == "_node_maintenance" || check.id.starts_with("_service_maintenance:")
        })
    }

    fn endpoint(self) -> EndpointSpec {
        let warns = self.has_check(|check| check.status != "passing");
        let Instance { node, service, .. } = self;
        let weight =
            service.weights.map_or(1, |weights| if warns { weights.warning } else { weights.passing });
        let address = if service.address.is_empty() { &node.address } else { &service.address };
        let zone = service.locality.or(node.locality).map(|locality| locality.zone);
        EndpointSpec {
            // The identifier of an instance is unique on its node only.
            name: Some(format!("{}/{}", node.node, service.id)),
            weight,
            zone: zone.filter(|zone| !zone.is_empty()),
            readiness: Readiness::Ready,
            ..EndpointSpec::at(address, service.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_become_endpoints() {
        let body = br#"[
            {"Node": {"Node": "n1", "Address": "10.0.0.1", "Datacenter": "dc1"},
             "Service": {"ID": "a", "Service": "users", "Address": "10.1.0.1", "Port": 80, "Weights": {"Passing": 5, "Warning": 2},
                         "Locality": {"Region": "r", "Zone": "z"}},
             "Checks": [{"CheckID": "serfHealth", "Status": "passing"}]},
            {"Node": {"Node": "n2", "Address": "10.0.0.2"},
             "Service": {"ID": "a", "Port": 81, "Weights": {"Passing": 5, "Warning": 2}},
             "Checks": [{"CheckID": "service:a", "Status": "warning"}]},
            {"Node": {"Node": "n3", "Address": "10.0.0.3"}, "Service": {"ID": "a", "Port": 82}, "Checks": null},
            {"Node": {"Node": "n4", "Address": "10.0.0.4"}, "Service": {"ID": "a", "Port": 83},
             "Checks": [{"CheckID": "_node_maintenance", "Status": "critical"}]},
            {"Node": {"Node": "n5", "Address": "10.0.0.5"}, "Service": {"ID": "a", "Port": 84},
             "Checks": [{"CheckID": "_service_maintenance:a", "Status": "critical"}]}
        ]"#;
        let found = endpoints(body, Some(2)).unwrap();
        let shown: Vec<_> = found
            .iter()
            .map(|spec| {
                (spec.host.as_str(), spec.port, spec.name.as_deref().unwrap(), spec.weight, spec.priority)
            })
            .collect();
        let expected =
            [("10.1.0.1", 80, "n1/a", 5, 0), ("10.0.0.2", 81, "n2/a", 2, 0), ("10.0.0.3", 82, "n3/a", 1, 1)];
        assert_eq!(shown, expected);
        assert_eq!(found[0].zone.as_deref(), Some("z"));
        assert_eq!(endpoints(b"[]", None), Ok(vec![]));
    }

    #[test]
    fn what_is_not_an_answer_is_told_within_bounds() {
        let many = "[".repeat(100_000);
        for body in
            [&b""[..], b"{}", b"null", b"[1]", b"[{\"Node\": {}}]", b"<html>", b"\xff", many.as_bytes()]
        {
            let why = endpoints(body, None).unwrap_err();
            assert!(why.contains("not a list of instances") && why.len() < 500, "{why}");
        }
        let negative = br#"[{"Node": {"Address": "10.0.0.1"}, "Service": {"Port": -1}}]"#;
        assert!(endpoints(negative, None).is_err());
    }
}
