//! TLS of connections to endpoints.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use witgate_config::model::{CertificateFiles, UpstreamProtocol, UpstreamTls};
use witgate_config::{Problem, Problems};

use witgate_wire::pem::{self, Unusable};

use super::workload::WorkloadVerifier;

/// The TLS settings of connections, and a digest of the files from which they were built. A reload builds them
/// again only if the files have changed.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) digest: [u8; 32],
}

/// The contents of the files that the settings name.
struct Files {
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files and builds the TLS settings, unless `previous` was built from the same files.
    ///
    /// # Errors
    /// Files that cannot be read, or that contain no certificate or key.
    pub(crate) fn build(
        upstream: &str,
        settings: &UpstreamTls,
        protocol: UpstreamProtocol,
        previous: Option<&Tls>,
    ) -> Result<Tls, Problems> {
        let placed = |problem: Problem| {
            let key = format!("upstreams.{upstream}.tls.{}", problem.key);
            vec![Problem { key: key.trim_end_matches('.').to_owned(), ..problem }]
        };
        let files = Files::read(settings).map_err(placed)?;
        let digest = files.digest(settings, protocol);
        if let Some(previous) = previous.filter(|previous| previous.digest == digest) {
            return Ok(previous.clone());
        }
        let mut config = configure(settings, &files).map_err(placed)?;
        config.alpn_protocols = match protocol {
            UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
            UpstreamProtocol::Tcp => Vec::new(),
        };
        Ok(Tls { config: Arc::new(config), digest })
    }
}

impl Files {
    fn read(settings: &UpstreamTls) -> Result<Files, Problem> {
        let read = |key: &str, path: &Path| pem::read(path).map_err(|unusable| unusable.about(key));
        let ca = settings.ca.as_deref().map(|path| read("ca", path)).transpose()?;
        let certificate = match &settings.client_certificate {
            Some(files) => Some((
                read("client_certificate.certificate", &files.certificate)?,
                read("client_certificate.key", &files.key)?,
            )),
            None => None,
        };
        Ok(Files { ca, certificate })
    }

    fn digest(&self, settings: &UpstreamTls, protocol: UpstreamProtocol) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        let certificate = self.certificate.as_ref();
        let parts =
            [self.ca.as_deref(), certificate.map(|files| &*files.0), certificate.map(|files| &*files.1)];
        for part in parts {
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            context.update(part.unwrap_or_default());
        }
        context.update(&[u8::from(settings.insecure_skip_verify), protocol as u8]);
        context.update(format!("{:?}", settings.spiffe_ids).as_bytes());
        context.update(settings.server_name.as_deref().unwrap_or_default().as_bytes());
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// Builds the client configuration. The keys of problems are relative to the table `tls`.
fn configure(settings: &UpstreamTls, files: &Files) -> Result<ClientConfig, Problem> {
    let problem = |key: &str, message: String| Problem { key: key.to_owned(), ..Problem::new(message) };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| problem("", error.to_string()))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider.clone())))
    } else {
        let roots = match (&settings.ca, &files.ca) {
            (Some(path), Some(bytes)) => {
                Arc::new(pem::roots(path, bytes).map_err(|unusable| unusable.about("ca"))?)
            }
            _ => system_roots()?,
        };
        if settings.spiffe_ids.is_empty() {
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            builder.with_webpki_verifier(verifier.map_err(|error| problem("ca", error.to_string()))?)
        } else {
            let (provider, expected) = (provider.clone(), settings.spiffe_ids.clone());
            let verifier = WorkloadVerifier { roots, provider, expected };
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    match (&settings.client_certificate, &files.certificate) {
        (Some(paths), Some((chain, key))) => {
            let own = own_certificate(paths, chain, key, &provider)?;
            Ok(builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own))))
        }
        _ => Ok(builder.with_no_client_auth()),
    }
}

fn own_certificate(
    paths: &CertificateFiles,
    chain: &[u8],
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Problem> {
    let chain = pem::certificates(&paths.certificate, chain)
        .map_err(|unusable| unusable.about("client_certificate.certificate"))?;
    let of_key = |unusable: Unusable| unusable.about("client_certificate.key");
    let key = pem::key(&paths.key, key).map_err(of_key)?;
    pem::certified(&paths.certificate, chain, &paths.key, key, provider).map_err(of_key)
}

/// The system's CA certificates, read once for the life of the process.
fn system_roots() -> Result<Arc<RootCertStore>, Problem> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        let problem = Problem::new("the system has no CA certificates")
            .with_hint("install them (the package `ca-certificates` on most systems), or name a file: `ca`");
        return Err(Problem { key: "ca".to_owned(), ..problem });
    }
    Ok(roots.clone())
}

/// Accepts any certificate. The signature of the handshake is still verified.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
