//! Files that the operator grants to plugins (`[data.NAME]`), as they were read.

use std::fmt;

/// The contents of one file at one time. They never change: a changed file has other contents, with which bindings are
/// made anew. So an instance sees one state of each file for as long as it lives.
pub struct Data(Box<[u8]>);

impl Data {
    /// These bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Data {
        Data(bytes.into())
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// At most `length` bytes from `offset`: fewer at the end of the file, none behind it.
    pub(crate) fn range(&self, offset: u64, length: usize) -> &[u8] {
        let begin = usize::try_from(offset).map_or(self.0.len(), |offset| offset.min(self.0.len()));
        let end = begin.saturating_add(length).min(self.0.len());
        &self.0[begin..end]
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Data({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_never_leaves_the_file() {
        let data = Data::new(*b"0123456789");
        for (offset, length, expected) in [
            (0, 10, &b"0123456789"[..]),
            (0, 0, b""),
            (2, 3, b"234"),
            (8, 100, b"89"),
            (9, usize::MAX, b"9"),
            (10, 1, b""),
            (u64::MAX, usize::MAX, b""),
        ] {
            assert_eq!(data.range(offset, length), expected, "{offset} {length}");
        }
    }
}
