//! Who calls.

use std::sync::Arc;

use witgate_config::model::IdentitySource;

/// Who calls, as authentication found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The principal.
    pub subject: String,
    /// Facts about it.
    pub claims: Vec<(String, String)>,
    /// Name of the binding that recognised it; set by the pipeline.
    pub binding: Arc<str>,
}

impl Identity {
    /// A fact by its name.
    pub fn claim(&self, wanted: &str) -> Option<&str> {
        self.claims.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
    }

    /// The text that a configured identity header carries; none if there is no such claim.
    pub fn text_of(&self, source: &IdentitySource) -> Option<&str> {
        match source {
            IdentitySource::Subject => Some(&self.subject),
            IdentitySource::Binding => Some(&self.binding),
            IdentitySource::Claim(name) => self.claim(name),
        }
    }
}
