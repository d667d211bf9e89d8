//! What is wrong, before it is placed in a file.

/// Something wrong with the value at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// JSON Pointer to the value.
    pub(crate) pointer: String,
    /// Whether the key is what is wrong, not its value.
    pub(crate) at_key: bool,
    /// What is wrong.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

impl Finding {
    /// Something wrong with the value at a pointer.
    pub(crate) fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), at_key: false, message: message.into(), hint: None }
    }

    /// Something wrong with the key at a pointer.
    pub(crate) fn at_key(pointer: &str, message: impl Into<String>) -> Self {
        Self { at_key: true, ..Self::at(pointer, message) }
    }
}
