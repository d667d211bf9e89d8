//! One certificate for all proxies, and clients that trust it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

/// A self-signed ECDSA P-256 certificate for 127.0.0.1.
pub(crate) struct Certificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    /// Certificate and key in one file, as haproxy reads them.
    pub(crate) both: PathBuf,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Makes a certificate and writes its files.
    pub(crate) fn write(folder: &Path) -> Result<Certificate> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".into()])?;
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let path = |name| folder.join(name);
        let written = Certificate {
            certificate: path("certificate.pem"),
            key: path("key.pem"),
            both: path("both.pem"),
            der: made.cert.der().clone(),
        };
        std::fs::write(&written.certificate, &certificate)?;
        std::fs::write(&written.key, &key)?;
        std::fs::write(&written.both, format!("{certificate}{key}"))?;
        Ok(written)
    }

    /// A client with TLS 1.3 and without resumption: every handshake is a full one, whatever tickets a server
    /// sends.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).context("our own certificate")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}
