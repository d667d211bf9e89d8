//! The SPIFFE id of a certificate (the specification "The X.509 SPIFFE Verifiable Identity Document", X.509-SVID).

use std::fmt;

use witgate_config::scalar::parts_of_spiffe_id;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate does not identify a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotAWorkload(String);

impl fmt::Display for NotAWorkload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotAWorkload {}

/// The SPIFFE id of the certificate of a workload. Whether the certificate is signed by a CA that is trusted with the
/// id's trust domain is not checked here.
///
/// # Errors
/// The certificate has no URI or several (section 5.2), the URI is no SPIFFE id, or the certificate may sign others
/// (section 5.2) or may not sign handshakes (section 4.3).
pub fn id_of(der: &[u8]) -> Result<String, NotAWorkload> {
    let no = |reason: &str| NotAWorkload(reason.to_owned());
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| no("the certificate cannot be parsed"))?;
    if certificate.is_ca() {
        return Err(no("the certificate is that of a CA"));
    }
    let usage = certificate.key_usage().map_err(|_| no("its key usage cannot be parsed"))?;
    if let Some(usage) = usage.map(|extension| extension.value) {
        if usage.key_cert_sign() || usage.crl_sign() {
            return Err(no("the certificate may sign certificates or revocation lists"));
        }
        if !usage.digital_signature() {
            return Err(no("the certificate may not sign handshakes (no key usage `digitalSignature`)"));
        }
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| no("its alternative names cannot be parsed, or there are two lists of them"))?;
    let names = names.map(|extension| &extension.value.general_names[..]).unwrap_or_default();
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => parts_of_spiffe_id(uri)
            .map(|_| uri.to_owned())
            .map_err(|why| NotAWorkload(format!("its URI is no SPIFFE id: {why}"))),
        (None, _) => Err(no("the certificate has no SPIFFE id")),
        (Some(_), Some(_)) => Err(no("the certificate has several URIs")),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, KeyUsagePurpose, SanType};

    use super::*;

    fn certificate(uris: &[&str], change: impl Fn(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("a name");
        params
            .subject_alt_names
            .extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn a_workload_has_exactly_one_uri_and_signs_nothing_but_handshakes() {
        let id = "spiffe://prod.example/billing";
        assert_eq!(id_of(&certificate(&[id], |_| ())), Ok(id.to_owned()));
        let unrestricted = certificate(&[id], |params| params.key_usages.clear());
        assert_eq!(id_of(&unrestricted), Ok(id.to_owned()));
        let refused = |der: &[u8], expected: &str| {
            let why = id_of(der).expect_err("it is refused").to_string();
            assert!(why.contains(expected), "{why}");
        };
        refused(&certificate(&[], |_| ()), "no SPIFFE id");
        refused(&certificate(&[id, "spiffe://prod.example/shop"], |_| ()), "several URIs");
        refused(&certificate(&[id, "https://a.example/"], |_| ()), "several URIs");
        refused(&certificate(&["https://a.example/"], |_| ()), "does not begin with");
        refused(&certificate(&["spiffe://prod.example/a/../b"], |_| ()), "no segment");
        let authority =
            |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        refused(&certificate(&[id], authority), "that of a CA");
        let signs = |params: &mut CertificateParams| params.key_usages.push(KeyUsagePurpose::KeyCertSign);
        refused(&certificate(&[id], signs), "may sign certificates");
        let encrypts =
            |params: &mut CertificateParams| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
        refused(&certificate(&[id], encrypts), "may not sign handshakes");
        refused(b"no certificate", "cannot be parsed");
    }
}
