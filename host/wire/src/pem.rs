//! PEM files of listeners and upstreams: certificates, private keys and CAs. Every mistake says what is wrong with which
//! file, and what to do.

use std::io::{self, ErrorKind};
use std::path::Path;

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use witgate_config::{Problem, file};

/// The first byte of DER, in which certificates and keys begin with a sequence (X.690 section 8.9).
const SEQUENCE: u8 = 0x30;

/// A file that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    message: String,
    hint: String,
}

impl Unusable {
    fn new(message: String, hint: impl Into<String>) -> Self {
        Unusable { message, hint: hint.into() }
    }

    /// The problem with the setting `key`, which names the file.
    pub fn about(self, key: impl Into<String>) -> Problem {
        Problem { message: self.message, span: None, key: key.into(), hint: Some(self.hint) }
    }
}

/// Reads a file.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, Unusable> {
    file::read(path, file::SECRET).map_err(|error| {
        let message = format!("`{}` cannot be read: {error}", path.display());
        Unusable::new(message, unreadable(&error))
    })
}

fn unreadable(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound => {
            "check the path: a relative one begins at the folder of the configuration file"
        }
        ErrorKind::PermissionDenied => {
            "let the gateway's user read the file, and enter the folders around it"
        }
        _ => "name a regular file of at most 1 MiB in PEM form",
    }
}

/// The certificates in a file; at least one.
///
/// # Errors
/// The file is not PEM, or has no certificate.
pub fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = certificates.map_err(|error| {
        let hint = "the text between BEGIN and END is damaged: copy the file anew";
        Unusable::new(format!("`{}` is not PEM: {error}", path.display()), hint)
    })?;
    if certificates.is_empty() {
        let message = format!("`{}` has no certificate", path.display());
        return Err(Unusable::new(message, no_certificate(path, bytes)));
    }
    Ok(certificates)
}

fn no_certificate(path: &Path, bytes: &[u8]) -> String {
    let path = path.display();
    if bytes.trim_ascii().is_empty() {
        "the file is empty: write the certificates into it".to_owned()
    } else if has(bytes, "PRIVATE KEY-----") {
        "it holds a private key: the files of certificate and key may be exchanged".to_owned()
    } else if bytes.first() == Some(&SEQUENCE) {
        format!("it looks like DER; make PEM of it with `openssl x509 -inform der -in {path} -out cert.pem`")
    } else {
        "write certificates in PEM form, which begin with `-----BEGIN CERTIFICATE-----`".to_owned()
    }
}

/// The private key in a file.
///
/// # Errors
/// The file has no private key, or an encrypted one.
pub fn key(path: &Path, bytes: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    let shown = path.display();
    if has(bytes, "BEGIN ENCRYPTED PRIVATE KEY") || has(bytes, "Proc-Type: 4,ENCRYPTED") {
        let hint = format!(
            "decrypt it with `openssl pkey -in {shown} -out key.pem`, and let only the gateway's user read the result"
        );
        return Err(Unusable::new(format!("the private key in `{shown}` is encrypted"), hint));
    }
    PrivateKeyDer::from_pem_slice(bytes).map_err(|error| {
        let hint = if bytes.trim_ascii().is_empty() {
            "the file is empty: write the private key into it".to_owned()
        } else if has(bytes, "BEGIN CERTIFICATE") {
            "it holds a certificate: the files of certificate and key may be exchanged".to_owned()
        } else if bytes.first() == Some(&SEQUENCE) {
            format!(
                "it looks like DER; make PEM of it with `openssl pkey -inform der -in {shown} -out key.pem`"
            )
        } else {
            "write a private key in PEM form, which begins with `-----BEGIN PRIVATE KEY-----`".to_owned()
        };
        Unusable::new(format!("`{shown}` has no private key: {error}"), hint)
    })
}

/// A certificate chain with its key. The paths are for messages.
///
/// # Errors
/// The key is of no supported kind, or is not the one of the first certificate.
pub fn certified(
    certificate: &Path,
    chain: Vec<CertificateDer<'static>>,
    key_file: &Path,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Unusable> {
    let (certificate, key_file) = (certificate.display(), key_file.display());
    CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => Unusable::new(
            format!("the key in `{key_file}` is not the one of the certificate in `{certificate}`"),
            format!(
                "the public keys must be the same: compare `openssl x509 -pubkey -noout -in {certificate}` with \
                 `openssl pkey -pubout -in {key_file}`; the server's own certificate stands first in its file"
            ),
        ),
        rustls::Error::InvalidCertificate(_) => Unusable::new(
            format!("`{certificate}` has a damaged certificate: {error}"),
            format!("copy the file anew; `openssl x509 -text -in {certificate}` must be able to read it"),
        ),
        _ => Unusable::new(
            format!("the key in `{key_file}` cannot be used: {error}"),
            "use an ECDSA key (P-256, P-384, P-521), an Ed25519 key, or an RSA key of 2048 bits or more",
        ),
    })
}

/// The CA certificates in a file.
///
/// # Errors
/// The file has no certificate, or one that cannot be a CA.
pub fn roots(path: &Path, bytes: &[u8]) -> Result<RootCertStore, Unusable> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, bytes)? {
        roots.add(certificate).map_err(|error| {
            let path = path.display();
            let hint = format!(
                "take it out, or copy the file anew; `openssl x509 -text -in {path}` shows the first one"
            );
            Unusable::new(format!("`{path}` has a CA certificate that cannot be used: {error}"), hint)
        })?;
    }
    Ok(roots)
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertifiedKey as Made, generate_simple_self_signed};

    use super::*;

    fn made() -> (String, String) {
        let Made { cert, signing_key } =
            generate_simple_self_signed(["a.test".to_owned()]).expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    /// The message about a pair of files with these contents, and the hint.
    fn told(certificate: &[u8], key_text: &[u8]) -> (String, String) {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let (certificate_file, key_file) = (Path::new("cert.pem"), Path::new("key.pem"));
        let outcome = certificates(certificate_file, certificate).and_then(|chain| {
            let key = key(key_file, key_text)?;
            certified(certificate_file, chain, key_file, key, &provider).map(drop)
        });
        let Unusable { message, hint } = outcome.expect_err("it cannot be used");
        (message, hint)
    }

    #[test]
    fn every_mistake_has_its_own_hint() {
        let ((certificate, key), (_, other)) = (made(), made());
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let old =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n";
        let nonsense = "-----BEGIN PRIVATE KEY-----\nMIIBAQ==\n-----END PRIVATE KEY-----\n";
        let no_der = "-----BEGIN CERTIFICATE-----\nMIIBAQ==\n-----END CERTIFICATE-----\n";
        let der = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("DER");
        for (certificate, key, message, hint) in [
            (
                certificate.as_bytes(),
                other.as_str(),
                "is not the one of the certificate",
                "openssl x509 -pubkey",
            ),
            (key.as_bytes(), certificate.as_str(), "`cert.pem` has no certificate", "may be exchanged"),
            (
                certificate.as_bytes(),
                certificate.as_str(),
                "`key.pem` has no private key",
                "may be exchanged",
            ),
            (certificate.as_bytes(), encrypted, "in `key.pem` is encrypted", "openssl pkey -in key.pem"),
            (certificate.as_bytes(), old, "in `key.pem` is encrypted", "openssl pkey -in key.pem"),
            (certificate.as_bytes(), nonsense, "in `key.pem` cannot be used", "ECDSA"),
            (certificate.as_bytes(), "garbage", "`key.pem` has no private key", "BEGIN PRIVATE KEY"),
            (certificate.as_bytes(), " \n", "`key.pem` has no private key", "is empty"),
            (b"", key.as_str(), "`cert.pem` has no certificate", "is empty"),
            (b"garbage", key.as_str(), "`cert.pem` has no certificate", "BEGIN CERTIFICATE"),
            (&der, key.as_str(), "`cert.pem` has no certificate", "openssl x509 -inform der"),
            (no_der.as_bytes(), key.as_str(), "`cert.pem` has a damaged certificate", "copy the file anew"),
        ] {
            let (told, help) = told(certificate, key.as_bytes());
            assert!(told.contains(message), "{told}\n{help}");
            assert!(help.contains(hint), "{told}\n{help}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let hint = |path: &Path| read(path).expect_err("it cannot be read").hint;
        assert!(hint(&folder.path().join("missing.pem")).contains("check the path"));
        assert!(hint(folder.path()).contains("a regular file"));
        let denied = io::Error::from(ErrorKind::PermissionDenied);
        assert!(unreadable(&denied).contains("let the gateway's user read"));
    }

    #[test]
    fn a_bundle_of_cas_that_has_none_is_refused() {
        let refused =
            |text: &str| roots(Path::new("ca.pem"), text.as_bytes()).expect_err("there is no CA").message;
        assert!(refused("").contains("`ca.pem` has no certificate"));
        assert!(refused("garbage").contains("`ca.pem` has no certificate"));
        let no_der = "-----BEGIN CERTIFICATE-----\nMIIBAQ==\n-----END CERTIFICATE-----\n";
        assert!(refused(no_der).contains("a CA certificate that cannot be used"));
    }
}
