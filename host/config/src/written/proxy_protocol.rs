//! `listeners.proxy_protocol`, and the versions of `upstreams.NAME.proxy_protocol`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model;
use crate::pointer::child;
use crate::scalar::{Net, Text};
use crate::written::Scope;

/// The PROXY protocol: connections of trusted sources must begin with a header of version 1 or 2, which names the client.
/// It comes before TLS. Whether there is a header is never guessed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProxyProtocol {
    /// Addresses and networks of the proxies, e.g. `["10.0.0.0/8"]`. Their connections must begin with a header; those that
    /// do not are closed.
    #[schemars(length(min = 1))]
    trusted: Vec<Text<Net>>,
    /// What is done with connections of other sources: `refuse` closes them (the default), `direct` serves them as what they
    /// are, so that a header would be a part of what the client sends.
    #[serde(default)]
    others: OtherSources,
}

/// What is done with connections of other sources.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum OtherSources {
    #[default]
    Refuse,
    Direct,
}

impl ProxyProtocol {
    /// Converts it to the model. `at` is its JSON Pointer.
    pub(crate) fn meant(self, at: &str, scope: &mut Scope) -> model::ProxyProtocol {
        if self.trusted.is_empty() {
            scope.report(&child(at, "trusted"), "there is no trusted source", None);
        }
        model::ProxyProtocol {
            trusted: self.trusted.into_iter().map(|net| net.value.0).collect(),
            others: match self.others {
                OtherSources::Refuse => model::OtherSources::Refuse,
                OtherSources::Direct => model::OtherSources::Direct,
            },
        }
    }
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
pub(crate) enum ProxyVersion {
    V1,
    V2,
}

impl From<ProxyVersion> for model::ProxyVersion {
    fn from(version: ProxyVersion) -> Self {
        match version {
            ProxyVersion::V1 => model::ProxyVersion::V1,
            ProxyVersion::V2 => model::ProxyVersion::V2,
        }
    }
}
