//! States, and the secrets of a fleet, as meant.

use std::fmt;

use crate::settings::Settings;

/// A secret, which stays out of logs. Keys are derived from it, one for each use; it is never a key itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Secret {
        Secret(bytes.into())
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(...)")
    }
}

/// `[state.NAME]`: where counters and the stores of plugins are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Which kind it is.
    pub kind: String,
    /// What only the kind understands.
    pub settings: Settings,
}
