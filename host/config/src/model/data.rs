//! Files for plugins, as meant.

use std::path::PathBuf;

/// `[data.NAME]`: a read-only file for plugins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// The file.
    pub file: PathBuf,
    /// The largest file that is read, in bytes.
    pub max_size: u64,
}
