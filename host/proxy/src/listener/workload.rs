//! Client certificates of workloads: those of one SPIFFE trust domain.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::certificate;

/// Accepts what the verifier of the CA accepts, if the certificate is that of a workload of the trust domain.
#[derive(Debug)]
pub(super) struct WorkloadVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    domain: String,
}

impl WorkloadVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, domain: String) -> Self {
        WorkloadVerifier { chain, domain }
    }
}

impl ClientCertVerifier for WorkloadVerifier {
    fn offer_client_auth(&self) -> bool {
        self.chain.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(presented, intermediates, now)?;
        match certificate::spiffe_id_in(presented, &self.domain) {
            Ok(_) => Ok(verified),
            Err(why) => {
                Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::from(Box::from(why))))))
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
