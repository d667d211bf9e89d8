//! TLS of listeners and towards upstreams.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Scope;
use crate::model;
use crate::pointer::child;
use crate::scalar::{HostName, SpiffePattern, Text, TrustDomain};

/// A certificate chain and its private key, PEM.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    /// The chain, leaf first.
    #[schemars(length(min = 1))]
    certificate: String,
    /// The private key.
    #[schemars(length(min = 1))]
    key: String,
}

impl CertificateFiles {
    pub(crate) fn meant(self, at: &str, scope: &mut Scope) -> model::CertificateFiles {
        model::CertificateFiles {
            certificate: scope.file(&child(at, "certificate"), &self.certificate),
            key: scope.file(&child(at, "key"), &self.key),
        }
    }
}

/// TLS of a listener: `certificate` and `key`, or several `certificates`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ListenerTls {
    /// The certificate chain (PEM, leaf first). Watched and reloaded.
    #[schemars(length(min = 1))]
    certificate: Option<String>,
    /// The private key (PEM).
    #[schemars(length(min = 1))]
    key: Option<String>,
    /// Several certificates, chosen by SNI among their names; the first is the default.
    certificates: Vec<CertificateFiles>,
    /// CA certificates (PEM) against which client certificates are verified. Without it none are requested.
    #[schemars(length(min = 1))]
    client_ca: Option<String>,
    /// Whether a client certificate must be presented (`required`, the default once there is a `client_ca`) or may be
    /// (`optional`).
    client_certificate: Option<ClientCertificate>,
    /// Makes the verified client certificate the identity of the caller, on all routes of the listener. The subject is:
    /// `{ spiffe = "prod.example" }` the one SPIFFE id of this trust domain (certificates without it, with two, or that may
    /// sign others, fail the handshake); `"dns"` the one DNS name among the alternative names; `"subject"` the
    /// distinguished name. A certificate without such a name gives no identity.
    client_identity: Option<ClientIdentity>,
    /// Whether TLS 1.2 is accepted besides TLS 1.3. The default is true.
    tls12: Option<bool>,
}

/// Whether a client certificate must be presented.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum ClientCertificate {
    Required,
    Optional,
}

/// What of a client certificate identifies the caller.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum ClientIdentity {
    Subject,
    Dns,
    Spiffe(Text<TrustDomain>),
}

impl ListenerTls {
    pub(crate) fn meant(self, at: &str, scope: &mut Scope) -> model::ListenerTls {
        let mut certificates = Vec::new();
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => {
                certificates.push(CertificateFiles { certificate, key }.meant(at, scope));
            }
            (Some(_), None) => scope.report(
                at,
                "missing key `key`",
                Some("`key`: the private key of the certificate (PEM)".to_owned()),
            ),
            (None, Some(_)) => scope.report(
                at,
                "missing key `certificate`",
                Some("`certificate`: the certificate chain of the key (PEM)".to_owned()),
            ),
            (None, None) if self.certificates.is_empty() => {
                scope.report(
                    at,
                    "a listener with TLS needs a certificate",
                    Some("set `certificate` and `key`".to_owned()),
                );
            }
            (None, None) => {}
        }
        for (index, files) in self.certificates.into_iter().enumerate() {
            certificates.push(files.meant(&format!("{at}/certificates/{index}"), scope));
        }
        if self.client_certificate.is_some() && self.client_ca.is_none() {
            let hint = Some("set `client_ca`".to_owned());
            scope.report_key(
                &child(at, "client_certificate"),
                "`client_certificate` needs CA certificates to verify against",
                hint,
            );
        }
        if self.client_identity.is_some() && self.client_ca.is_none() {
            let hint = Some("set `client_ca`".to_owned());
            let message = "`client_identity` needs CA certificates to verify client certificates against";
            scope.report_key(&child(at, "client_identity"), message, hint);
        }
        let client_ca = self.client_ca.map(|path| scope.file(&child(at, "client_ca"), &path));
        model::ListenerTls {
            certificates,
            client_certificate_required: client_ca.is_some()
                && !matches!(self.client_certificate, Some(ClientCertificate::Optional)),
            client_ca,
            client_identity: self.client_identity.map(|identity| match identity {
                ClientIdentity::Subject => model::ClientIdentity::Subject,
                ClientIdentity::Dns => model::ClientIdentity::Dns,
                ClientIdentity::Spiffe(domain) => model::ClientIdentity::Spiffe(domain.value.0),
            }),
            tls12: self.tls12.unwrap_or(true),
            alpn: Vec::new(),
        }
    }
}

/// TLS towards endpoints: `true`, or a table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum UpstreamTls {
    /// Whether TLS is used, with certificates verified against the CAs of the system.
    Switch(bool),
    Table(UpstreamTlsTable),
}

/// TLS towards endpoints.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct UpstreamTlsTable {
    /// The name sent as SNI and checked in the certificate. Without it, the host of the endpoint.
    server_name: Option<Text<HostName>>,
    /// CA certificates (PEM). Without it, those of the system.
    #[schemars(length(min = 1))]
    ca: Option<String>,
    /// The gateway's own certificate.
    client_certificate: Option<CertificateFiles>,
    /// The SPIFFE ids that an endpoint may have: its certificate must contain exactly one SPIFFE id, and one of these must
    /// mean it. Its DNS names are not looked at then.
    spiffe_ids: Vec<Text<SpiffePattern>>,
    /// Accepts certificates without verification, which gives up all protection of TLS. For tests only.
    insecure_skip_verify: bool,
}

impl UpstreamTls {
    /// Converts it to the model; `None`: cleartext.
    pub(crate) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::UpstreamTls> {
        let table = match self {
            Self::Switch(false) => return None,
            Self::Switch(true) => UpstreamTlsTable::default(),
            Self::Table(table) => table,
        };
        if !table.spiffe_ids.is_empty() && table.ca.is_none() {
            let hint = Some("`ca`: the CA certificates (PEM) of the trust domain".to_owned());
            let message =
                "`spiffe_ids` needs the CA of the trust domain: public CAs do not vouch for SPIFFE ids";
            scope.report_key(&child(at, "spiffe_ids"), message, hint);
        }
        if !table.spiffe_ids.is_empty() && table.insecure_skip_verify {
            let message = "`spiffe_ids` cannot be checked where certificates are not verified";
            scope.report_key(
                &child(at, "spiffe_ids"),
                message,
                Some("remove `insecure_skip_verify`".to_owned()),
            );
        }
        Some(model::UpstreamTls {
            server_name: table.server_name.map(|name| name.value.0),
            ca: table.ca.map(|path| scope.file(&child(at, "ca"), &path)),
            client_certificate: table
                .client_certificate
                .map(|files| files.meant(&child(at, "client_certificate"), scope)),
            spiffe_ids: table.spiffe_ids.into_iter().map(|pattern| pattern.value).collect(),
            insecure_skip_verify: table.insecure_skip_verify,
        })
    }
}

/// TLS towards the servers of a source of endpoints: `true`, or a table.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SourceTls {
    /// Whether TLS is used, with certificates verified against the CAs of the system.
    Switch(bool),
    Table(SourceTlsTable),
}

/// TLS towards the servers of a source of endpoints. They are always verified, because they decide where requests go.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SourceTlsTable {
    /// The name sent as SNI and checked in the certificates. Without it, the host of the server.
    server_name: Option<Text<HostName>>,
    /// CA certificates (PEM). Without it, those of the system.
    #[schemars(length(min = 1))]
    ca: Option<String>,
    /// The gateway's own certificate.
    client_certificate: Option<CertificateFiles>,
}

impl SourceTls {
    /// Converts it to the model; `None`: cleartext.
    pub(crate) fn meant(self, at: &str, scope: &mut Scope) -> Option<model::UpstreamTls> {
        let SourceTlsTable { server_name, ca, client_certificate } = match self {
            Self::Switch(false) => return None,
            Self::Switch(true) => SourceTlsTable::default(),
            Self::Table(table) => table,
        };
        let table = UpstreamTlsTable { server_name, ca, client_certificate, ..UpstreamTlsTable::default() };
        UpstreamTls::Table(table).meant(at, scope)
    }
}
