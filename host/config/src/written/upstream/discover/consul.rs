//! `discover.consul`: the instances of a service.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::servers::{Reach, check_text};
use crate::model;
use crate::pointer::child;
use crate::scalar::{DurationOrOff, EndpointAddress, Text};
use crate::written::Scope;
use crate::written::tls::SourceTls;

/// A service in Consul: its name, or a table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(super) enum Consul {
    Service(String),
    Table(Box<ConsulTable>),
}

/// A service in Consul.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConsulTable {
    /// The name of the service.
    service: String,
    /// The agents, e.g. `["https://consul.internal:8501"]`. One is used at a time; if it fails, the next.
    #[serde(default = "local_agent")]
    #[schemars(length(min = 1))]
    servers: Vec<Text<EndpointAddress>>,
    /// The datacenter. Without it, that of the agent.
    #[serde(default)]
    datacenter: Option<String>,
    /// Only instances that have all of these tags.
    #[serde(default)]
    tags: Vec<String>,
    /// Whether only instances are used whose checks pass. With `false`, those with warnings or without passing checks
    /// are used too; those in maintenance never are.
    #[serde(default = "yes")]
    passing: bool,
    /// A node, or `_agent`: the `nearest` instances as seen from it are used before all others.
    #[serde(default)]
    near: Option<String>,
    /// How many instances come before all others with `near`.
    #[serde(default = "three")]
    #[schemars(range(min = 1, max = 100_000))]
    nearest: usize,
    /// Any server may answer if it has heard from the leader within this time. `"off"`: only the leader answers.
    #[serde(default = "off")]
    stale: Text<DurationOrOff>,
    /// A file with the token, which is read for each request.
    #[serde(default)]
    #[schemars(length(min = 1))]
    token_file: Option<String>,
    /// TLS: `true`, or a table. Implied by `https://`.
    #[serde(default)]
    tls: Option<SourceTls>,
    /// Whether the token may be sent without TLS to servers that are not on this host.
    #[serde(default)]
    allow_plaintext: bool,
}

fn local_agent() -> Vec<Text<EndpointAddress>> {
    vec![Text::of("127.0.0.1:8500")]
}

fn yes() -> bool {
    true
}

fn three() -> usize {
    3
}

fn off() -> Text<DurationOrOff> {
    Text::of("off")
}

impl ConsulTable {
    fn of(service: String) -> ConsulTable {
        ConsulTable {
            service,
            servers: local_agent(),
            datacenter: None,
            tags: Vec::new(),
            passing: yes(),
            near: None,
            nearest: three(),
            stale: off(),
            token_file: None,
            tls: None,
            allow_plaintext: false,
        }
    }
}

impl Consul {
    pub(super) fn meant(self, at: &str, scope: &mut Scope) -> model::DiscoverySource {
        let (table, at_service) = match self {
            Consul::Service(service) => (Box::new(ConsulTable::of(service)), at.to_owned()),
            Consul::Table(table) => (table, child(at, "service")),
        };
        check_text("name of a service", &table.service, &at_service, scope);
        let others = [("datacenter", &table.datacenter), ("near", &table.near)];
        for (key, text) in others.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
            check_text(key, text, &child(at, key), scope);
        }
        for (index, tag) in table.tags.iter().enumerate() {
            check_text("tag", tag, &child(&child(at, "tags"), &index.to_string()), scope);
        }
        if table.near.is_none() && scope.is_written(&child(at, "nearest")) {
            let hint = "name the node from which distances are seen: `near = \"_agent\"`".to_owned();
            scope.report_key(&child(at, "nearest"), "`nearest` needs `near`", Some(hint));
        }
        let stale = table.stale.value.0.map(|time| scope.check_positive(at, "stale", time));
        let reach = Reach {
            servers: table.servers,
            tls: table.tls,
            allow_plaintext: table.allow_plaintext,
            has_credentials: table.token_file.is_some(),
        };
        model::DiscoverySource::Consul(model::ConsulSource {
            servers: reach.meant(at, scope),
            service: table.service,
            datacenter: table.datacenter,
            tags: table.tags,
            passing: table.passing,
            near: table.near.map(|node| (node, table.nearest)),
            stale,
            token_file: table.token_file.map(|path| scope.file(&child(at, "token_file"), &path)),
        })
    }
}
