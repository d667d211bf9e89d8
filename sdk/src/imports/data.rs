//! Files that the operator grants: tables of networks, lists of words. Needs a `data` grant that names the file.
//!
//! The gateway holds each file in memory, and an instance sees one state of it for as long as it lives: when the file changes, the
//! gateway makes new instances. So prepare a table in [`Plugin::configure`](crate::Plugin::configure), and refuse contents
//! that are malformed there: then the last good ones stay in use. Large tables are better searched in place, a range at a
//! time.
//!
//! ```
//! use witgate_sdk::{data, test};
//!
//! let gateway = test::Gateway::new();
//! gateway.data("words", "alpha\nbeta\n");
//! assert_eq!(data::file("words").read(6, 4)?, b"beta");
//! assert_eq!(data::file("words").text()?, "alpha\nbeta\n");
//! # Ok::<(), data::ReadError>(())
//! ```

use std::fmt;

use super::backend;

/// The most bytes that the gateway gives at once.
const AT_ONCE: u32 = 1 << 20;

/// A file, by its name under `[data]`.
#[must_use]
pub fn file(name: &str) -> File<'_> {
    File { name }
}

/// One file.
#[derive(Clone, Copy, Debug)]
pub struct File<'a> {
    name: &'a str,
}

/// Why a file could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The binding's grants do not name this file.
    Denied(String),
    /// This file is not text in UTF-8.
    NotText(String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Denied(name) => write!(formatter, "the data file `{name}` is not granted"),
            ReadError::NotText(name) => write!(formatter, "the data file `{name}` is not text in UTF-8"),
        }
    }
}

impl std::error::Error for ReadError {}

impl File<'_> {
    /// Its number of bytes.
    ///
    /// # Errors
    /// The file is not granted.
    pub fn size(&self) -> Result<u64, ReadError> {
        backend::data::size(self.name).map_err(|_| self.denied())
    }

    /// At most `length` bytes from `offset`: fewer at the end of the file, none behind it. Each MiB is a call to the gateway.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, ReadError> {
        let mut bytes = Vec::new();
        while bytes.len() < length {
            let rest = u32::try_from(length - bytes.len()).unwrap_or(AT_ONCE).min(AT_ONCE);
            let next = backend::data::read(self.name, offset.saturating_add(bytes.len() as u64), rest)
                .map_err(|_| self.denied())?;
            let at_end = next.len() < rest as usize;
            if bytes.is_empty() {
                bytes = next;
            } else {
                bytes.extend(next);
            }
            if at_end {
                break;
            }
        }
        Ok(bytes)
    }

    /// The whole file.
    ///
    /// # Errors
    /// As for [`size`](Self::size).
    pub fn bytes(&self) -> Result<Vec<u8>, ReadError> {
        let size = usize::try_from(self.size()?).unwrap_or(usize::MAX);
        self.read(0, size)
    }

    /// The whole file as text.
    ///
    /// # Errors
    /// As for [`size`](Self::size), or it is not text in UTF-8.
    pub fn text(&self) -> Result<String, ReadError> {
        String::from_utf8(self.bytes()?).map_err(|_| ReadError::NotText(self.name.to_owned()))
    }

    fn denied(&self) -> ReadError {
        ReadError::Denied(self.name.to_owned())
    }
}
