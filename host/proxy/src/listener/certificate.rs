//! Reads names out of X.509 certificates.

use std::fmt::Write;
use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::asn1_rs::Oid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use witgate_config::model::ClientIdentity;
use witgate_config::scalar::parts_of_spiffe_id;
use witgate_exchange::head::{CERTIFICATE_BINDING, ClientCertificate};
use witgate_exchange::identity::Identity;
use witgate_wire::http1::field;
use witgate_wire::spiffe;

/// The fields of a verified client certificate, and the caller's identity if the listener takes it from them. `None` if it
/// cannot be parsed, which verification has already excluded.
pub(crate) fn describe(
    der: &CertificateDer<'_>,
    identified_by: Option<&ClientIdentity>,
) -> Option<ClientCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut described = ClientCertificate {
        subject: distinguished_name(certificate.subject()),
        names: alternative_names(&certificate, written),
        fingerprint: hexadecimal(digest(&SHA256, der).as_ref()),
        spiffe_id: match identified_by {
            Some(ClientIdentity::Spiffe(domain)) => spiffe_id_in(der, domain).ok(),
            _ => None,
        },
        identity: None,
        forwarded: String::new(),
    };
    described.forwarded = forwarded(&described);
    described.identity = identified_by.and_then(|by| identity(&described, by)).map(Arc::new);
    Some(described)
}

/// The SPIFFE id of a certificate, if it is of this trust domain.
///
/// # Errors
/// Why the certificate does not identify a workload of the trust domain.
pub(super) fn spiffe_id_in(der: &[u8], domain: &str) -> Result<String, String> {
    let id = spiffe::id_of(der).map_err(|why| why.to_string())?;
    match parts_of_spiffe_id(&id) {
        Ok((own, _)) if own == domain => Ok(id),
        _ => Err(format!("`{id}` is not of the trust domain `{domain}`")),
    }
}

fn identity(certificate: &ClientCertificate, identified_by: &ClientIdentity) -> Option<Identity> {
    let subject = match identified_by {
        ClientIdentity::Subject => Some(&*certificate.subject).filter(|subject| !subject.is_empty()),
        ClientIdentity::Dns => only_dns_name(&certificate.names),
        ClientIdentity::Spiffe(_) => certificate.spiffe_id.as_deref(),
    };
    let subject = subject.filter(|subject| field::is_text(subject.as_bytes()))?.to_owned();
    let claim = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut claims = vec![claim("certificate_subject", &certificate.subject)];
    claims.extend(certificate.names.iter().map(|name| claim("san", name)));
    claims.push(claim("fingerprint", &certificate.fingerprint));
    if let ClientIdentity::Spiffe(domain) = identified_by {
        claims.push(claim("trust_domain", domain));
    }
    Some(Identity { subject, claims, binding: CERTIFICATE_BINDING.into() })
}

fn only_dns_name(names: &[String]) -> Option<&str> {
    let mut names = names.iter().filter_map(|name| name.strip_prefix("dns:"));
    names.next().filter(|_| names.next().is_none())
}

/// The value of `X-Forwarded-Client-Cert`, in the form that Envoy gives it. Names that would end an element are left out:
/// they could pretend to be other elements.
fn forwarded(certificate: &ClientCertificate) -> String {
    let mut text = format!("Hash={}", certificate.fingerprint);
    let subject = certificate.subject.replace('\\', "\\\\").replace('"', "\\\"");
    write!(text, ";Subject=\"{subject}\"").expect("a string takes everything");
    for (kind, key) in [("uri:", "URI"), ("dns:", "DNS")] {
        let names = certificate.names.iter().filter_map(|name| name.strip_prefix(kind));
        for name in
            names.filter(|name| !name.contains([',', ';', '=', '"', ' ']) && field::is_text(name.as_bytes()))
        {
            write!(text, ";{key}={name}").expect("a string takes everything");
        }
    }
    text
}

/// The DNS names of a certificate in lower case; wildcard names are kept as written.
pub(crate) fn dns_names(der: &CertificateDer<'_>) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return Vec::new() };
    alternative_names(&certificate, |name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    })
}

fn alternative_names(
    certificate: &X509Certificate<'_>,
    read: impl Fn(&GeneralName<'_>) -> Option<String>,
) -> Vec<String> {
    let extension = certificate.subject_alternative_name().ok().flatten();
    extension.map(|names| names.value.general_names.iter().filter_map(read).collect()).unwrap_or_default()
}

fn written(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(format!("dns:{name}")),
        GeneralName::URI(uri) => Some(format!("uri:{uri}")),
        GeneralName::RFC822Name(address) => Some(format!("email:{address}")),
        GeneralName::IPAddress(bytes) => address(bytes).map(|address| format!("ip:{address}")),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A distinguished name as RFC 4514 writes it: the most specific part first.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let written = parts.iter().rev().map(|part| {
        let attributes: Vec<String> = part.iter().map(attribute).collect();
        attributes.join("+")
    });
    written.collect::<Vec<_>>().join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    match (short_name(attribute.attr_type()), attribute.as_str()) {
        (Some(name), Ok(value)) => format!("{name}={}", escaped(value)),
        _ => format!("{}=#{}", attribute.attr_type().to_id_string(), hexadecimal(attribute.as_slice())),
    }
}

/// The short attribute names of RFC 4514 section 3. Every other attribute is written as its object identifier.
fn short_name(oid: &Oid<'_>) -> Option<&'static str> {
    Some(match oid.to_id_string().as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        _ => return None,
    })
}

/// Escapes a value (RFC 4514 section 2.4). Control characters are written as hexadecimal bytes, so that the name
/// can stand in a header field.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (index, character) in value.chars().enumerate() {
        let at_edge = index == 0 && matches!(character, ' ' | '#') || index == last && character == ' ';
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            _ if at_edge => text.extend(['\\', character]),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    write!(text, "\\{byte:02X}").expect("a string takes everything");
                }
            }
            _ => text.push(character),
        }
    }
    text
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_client_certificate_is_described() {
        let mut params = CertificateParams::new(vec!["client.example".to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CountryName, "DE");
        params.distinguished_name.push(DnType::OrganizationName, "Spans, Bolts \\ Nuts");
        params.distinguished_name.push(DnType::CommonName, " alice#");
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::from([192, 0, 2, 1])));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let described = describe(certificate.der(), None).expect("a description");
        assert_eq!(described.subject, "CN=\\ alice#,O=Spans\\, Bolts \\\\ Nuts,C=DE");
        assert_eq!(described.names, ["dns:client.example", "ip:192.0.2.1"]);
        assert_eq!(described.fingerprint.len(), 64);
        assert_eq!((described.spiffe_id, described.identity), (None, None));
    }

    #[test]
    fn the_listener_says_what_of_a_certificate_is_the_identity() {
        let described = |uris: &[&str], identified_by: ClientIdentity| {
            let mut params = CertificateParams::new(vec!["client.example".to_owned()]).expect("a name");
            params.distinguished_name = rcgen::DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, "a\";URI=b");
            let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
            params.subject_alt_names.extend(uris);
            let key = KeyPair::generate().expect("a key");
            let certificate = params.self_signed(&key).expect("a certificate");
            describe(certificate.der(), Some(&identified_by)).expect("a description")
        };
        let subject = |uris: &[&str], identified_by: ClientIdentity| {
            described(uris, identified_by).identity.map(|identity| identity.subject.clone())
        };
        let spiffe = || ClientIdentity::Spiffe("d".to_owned());
        assert_eq!(subject(&["spiffe://d/a"], spiffe()), Some("spiffe://d/a".to_owned()));
        assert_eq!(subject(&["spiffe://e/a"], spiffe()), None);
        assert_eq!(subject(&[], ClientIdentity::Dns), Some("client.example".to_owned()));
        assert_eq!(subject(&[], ClientIdentity::Subject), Some("CN=a\\\"\\;URI=b".to_owned()));

        let shown = described(&["spiffe://d/a", "x:a,By=b"], ClientIdentity::Dns);
        let hash = &shown.fingerprint;
        let expected =
            format!(r#"Hash={hash};Subject="CN=a\\\"\\;URI=b";URI=spiffe://d/a;DNS=client.example"#);
        assert_eq!(shown.forwarded, expected, "a name that would end an element is left out");
    }
}
