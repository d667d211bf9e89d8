//! Settings whose meaning only their owner knows.

use crate::problem::Span;

/// The settings of one filter or one plugin binding: a JSON object with the places its values were written at.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The settings as a JSON object.
    pub value: serde_json::Map<String, serde_json::Value>,
    /// Where each value was written, by JSON Pointer (RFC 6901); the empty pointer is the table as a whole.
    pub spans: std::collections::BTreeMap<String, Span>,
    /// The dotted path of the table, e.g. `bindings.jwt.settings`.
    pub key: String,
}

/// Equality of meaning: where settings were written does not matter to a reload.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}
