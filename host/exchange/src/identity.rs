//! The identity of a caller.

use std::sync::Arc;

use witgate_config::model::IdentitySource;

/// The identity of the caller, as authentication established it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The principal.
    pub subject: String,
    /// What is known about the caller, as names and values.
    pub claims: Vec<(String, String)>,
    /// Name of the binding that recognised the caller; set by the pipeline.
    pub binding: Arc<str>,
}

impl Identity {
    /// The claim of this name.
    pub fn claim(&self, wanted: &str) -> Option<&str> {
        self.claims.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// The text that a configured identity header carries; `None` if there is no such claim, or the header is not about
    /// the identity but about the certificate.
    pub fn text_of(&self, source: &IdentitySource) -> Option<&str> {
        match source {
            IdentitySource::Subject => Some(&self.subject),
            IdentitySource::Binding => Some(&self.binding),
            IdentitySource::Claim(name) => self.claim(name),
            IdentitySource::ClientCertificate => None,
        }
    }
}
