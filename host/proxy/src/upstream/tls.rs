//! TLS towards endpoints.

use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Context, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use witgate_config::model::{UpstreamProtocol, UpstreamTls};
use witgate_config::{Problem, Problems, file};

/// What connecting needs, and a digest of the files it was made from: a reload builds anew only if they changed.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) config: Arc<ClientConfig>,
    pub(super) digest: [u8; 32],
}

/// The contents of the files that settings name.
struct Files {
    ca: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Reads the files and builds, unless `previous` was built from the same.
    ///
    /// # Errors
    /// Files that cannot be read, or hold no certificate or key.
    pub(super) fn build(
        upstream: &str,
        settings: &UpstreamTls,
        protocol: UpstreamProtocol,
        previous: Option<&Tls>,
    ) -> Result<Tls, Problems> {
        let report = |key: &str, message: String, hint: &str| Problem {
            message,
            span: None,
            key: format!("upstreams.{upstream}.tls.{key}"),
            hint: Some(hint.to_owned()),
        };
        let files = Files::read(settings).map_err(|(key, path, error)| {
            let message = format!("`{}` cannot be read: {error}", path.display());
            vec![report(key, message, "check the path and that the gateway may read it")]
        })?;
        let digest = files.digest(settings, protocol);
        if let Some(previous) = previous.filter(|previous| previous.digest == digest) {
            return Ok(previous.clone());
        }
        let mut config = configure(settings, &files).map_err(|(key, message)| {
            vec![report(key, message, "PEM files are expected: certificates, and one private key")]
        })?;
        config.alpn_protocols = match protocol {
            UpstreamProtocol::Http1 => vec![b"http/1.1".to_vec()],
            UpstreamProtocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Tls { config: Arc::new(config), digest })
    }
}

impl Files {
    fn read(settings: &UpstreamTls) -> Result<Files, (&'static str, &Path, io::Error)> {
        let read = |key, path| file::read(path, file::SECRET).map_err(|error| (key, path, error));
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
        context.update(&[
            u8::from(settings.insecure_skip_verify),
            u8::from(protocol == UpstreamProtocol::Http2),
        ]);
        context.update(settings.server_name.as_deref().unwrap_or_default().as_bytes());
        context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
    }
}

/// The key concerned and what is wrong.
type Mistake = (&'static str, String);

fn configure(settings: &UpstreamTls, files: &Files) -> Result<ClientConfig, Mistake> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| ("", error.to_string()))?;
    let builder = if settings.insecure_skip_verify {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider)))
    } else {
        let roots = match &files.ca {
            Some(pem) => Arc::new(parse_roots(pem)?),
            None => system_roots()?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider).build();
        builder.with_webpki_verifier(verifier.map_err(|error| ("ca", error.to_string()))?)
    };
    match &files.certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((chain, key)) => {
            let chain = parse_chain(chain).map_err(|message| ("client_certificate.certificate", message))?;
            let key = PrivateKeyDer::from_pem_slice(key)
                .map_err(|error| ("client_certificate.key", format!("there is no private key: {error}")))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| ("client_certificate", error.to_string()))
        }
    }
}

fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("there is no certificate in the file".into()),
        chain => chain.map_err(|error| error.to_string()),
    }
}

fn parse_roots(pem: &[u8]) -> Result<RootCertStore, Mistake> {
    let mut roots = RootCertStore::empty();
    for certificate in parse_chain(pem).map_err(|message| ("ca", message))? {
        roots.add(certificate).map_err(|error| ("ca", error.to_string()))?;
    }
    Ok(roots)
}

/// The system's CA certificates, read once for the life of the process.
fn system_roots() -> Result<Arc<RootCertStore>, Mistake> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(("ca", "the system has no CA certificates".into()));
    }
    Ok(roots.clone())
}

/// Takes any certificate; the signature of the handshake is still checked.
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
