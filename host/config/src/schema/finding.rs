//! A mistake before it gets its position in a file.

/// A mistake in the value at a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// JSON Pointer to the value.
    pub(crate) pointer: String,
    /// Whether the key is wrong, and not its value.
    pub(crate) at_key: bool,
    /// What is wrong.
    pub(crate) message: String,
    /// How to correct it.
    pub(crate) hint: Option<String>,
}

impl Finding {
    /// A mistake in the value at a pointer.
    pub(crate) fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { pointer: pointer.to_owned(), at_key: false, message: message.into(), hint: None }
    }

    /// A mistake in the key at a pointer.
    pub(crate) fn at_key(pointer: &str, message: impl Into<String>) -> Self {
        Self { at_key: true, ..Self::at(pointer, message) }
    }
}
