//! `discover.kubernetes`: the EndpointSlices of a service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::servers::{Reach, check_text};
use crate::model;
use crate::pointer::child;
use crate::scalar::{EndpointAddress, Text};
use crate::written::Scope;
use crate::written::tls::SourceTls;

/// A service in Kubernetes: its name, or a table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Kubernetes {
    Service(String),
    Table(Box<KubernetesTable>),
}

/// A service in Kubernetes.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KubernetesTable {
    /// The name of the service.
    service: String,
    /// Its namespace. Without it, that of the gateway's own pod.
    #[serde(default)]
    namespace: Option<String>,
    /// The name or the number of the port. Without it, the service has one port.
    #[serde(default)]
    port: Option<String>,
    /// The API servers, e.g. `["https://10.0.0.1:6443"]`. Without it, the one that pods find in their environment.
    #[serde(default)]
    #[schemars(length(min = 1))]
    servers: Option<Vec<Text<EndpointAddress>>>,
    /// A file with the token, which is read for each request. Without `servers`, that of the pod's service account.
    #[serde(default)]
    #[schemars(length(min = 1))]
    token_file: Option<String>,
    /// TLS: `true`, or a table. Without `servers`, TLS with the CA of the cluster.
    #[serde(default)]
    tls: Option<SourceTls>,
    /// Whether the token may be sent without TLS to servers that are not on this host.
    #[serde(default)]
    allow_plaintext: bool,
}

impl KubernetesTable {
    fn of(service: String) -> KubernetesTable {
        KubernetesTable {
            service,
            namespace: None,
            port: None,
            servers: None,
            token_file: None,
            tls: None,
            allow_plaintext: false,
        }
    }
}

impl Kubernetes {
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (table, at_service) = match self {
            Kubernetes::Service(service) => (Box::new(KubernetesTable::of(service)), at.to_owned()),
            Kubernetes::Table(table) => (table, child(at, "service")),
        };
        let KubernetesTable { service, namespace, port, servers, token_file, tls, allow_plaintext } = *table;
        check_label("service", &service, &at_service, scope);
        if let Some(namespace) = &namespace {
            check_label("namespace", namespace, &child(at, "namespace"), scope);
        }
        if let Some(port) = &port {
            check_text("port", port, &child(at, "port"), scope);
        }
        let has_credentials = token_file.is_some();
        let servers =
            servers.map(|servers| Reach { servers, tls, allow_plaintext, has_credentials }.meant(at, scope));
        if servers.is_none() && scope.is_written(&child(at, "tls")) {
            let hint = "name the API servers under `servers`, or leave it out".to_owned();
            let message =
                "`tls` needs `servers`: the server of the pod's environment has the CA of the cluster";
            scope.report_key(&child(at, "tls"), message, Some(hint));
        }
        // Hints of slices say for which zones an endpoint is meant; the gateway's own zone follows them.
        let zone = scope.document.get("/gateway/zone").and_then(Value::as_str).map(str::to_owned);
        model::DiscoverySource::Kubernetes(model::KubernetesSource {
            servers,
            service,
            namespace,
            port,
            zone,
            token_file: token_file.map(|path| scope.file(&child(at, "token_file"), &path)),
        })
    }
}

/// Checks a name of an object (RFC 1123 label): it becomes part of a path.
fn check_label(what: &str, text: &str, at: &str, scope: &mut Scope) {
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if text.is_empty() || text.len() > 63 || !letters {
        let message = format!("`{text}` is not the name of a {what} in Kubernetes");
        let hint = "a name has 1 to 63 lower-case letters, digits and hyphens".to_owned();
        scope.report(at, message, Some(hint));
    }
}
