//! TLS towards the servers of a registry. The files are read for each connection, because they are rotated while the
//! gateway runs.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use witgate_config::model::UpstreamTls;
use witgate_config::{Problem, Problems, file};

use super::BoxedStream;
use crate::text::one_line;

/// Checks at the load of a configuration that the files can be used.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn check(settings: Option<&UpstreamTls>) -> Result<(), Problems> {
    let Some(settings) = settings else { return Ok(()) };
    configure(settings).map(drop).map_err(|why| {
        let hint = "name files in PEM form that the gateway's user can read";
        vec![Problem { key: "tls".to_owned(), ..Problem::new(why).with_hint(hint) }]
    })
}

pub(super) async fn connect(
    settings: &UpstreamTls,
    host: &str,
    protocol: &[u8],
    stream: TcpStream,
) -> Result<BoxedStream, String> {
    let mut config = configure(settings)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    let expected = settings.server_name.as_deref().unwrap_or(host);
    let name = ServerName::try_from(expected.to_owned())
        .map_err(|_| format!("`{}` is no name for TLS", one_line(expected)))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = connected.map_err(|error| format!("TLS failed: {}", one_line(&error.to_string())))?;
    Ok(Box::pin(stream))
}

fn configure(settings: &UpstreamTls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = match &settings.ca {
        Some(path) => Arc::new(roots(path)?),
        None => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let Some(files) = &settings.client_certificate else { return Ok(builder.with_no_client_auth()) };
    let chain = certificates(&files.certificate)?;
    let path = files.key.display();
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?)
        .map_err(|error| format!("`{path}` has no private key: {error}"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the certificate and the key in `{path}` cannot be used: {error}"))
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    file::read(path, file::SECRET).map_err(|error| format!("cannot read `{}`: {error}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| format!("`{}` is not PEM: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("`{}` has no certificate", path.display()));
    }
    Ok(found)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| format!("a certificate in `{}` cannot be used: {error}", path.display()))?;
    }
    Ok(roots)
}

/// The system's CA certificates, read once for the life of the process.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    match roots.is_empty() {
        true => Err("the system has no CA certificates: name a file under `tls.ca`".to_owned()),
        false => Ok(roots.clone()),
    }
}
