//! Headers and responses as plugins see and write them.

use bytes::Bytes;
use http::HeaderMap;

use super::ValuePart;

/// A header as a plugin writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Untrusted name.
    pub name: String,
    /// Untrusted value.
    pub value: Bytes,
}

/// An edit of a header section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderChange {
    /// Replaces all values.
    Set(Header),
    /// Adds a value.
    Append(Header),
    /// Removes all values.
    Remove(String),
    /// Replaces all values.
    SetComposed(ComposedHeader),
    /// Adds a value.
    AppendComposed(ComposedHeader),
}

/// A header whose value is composed for each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposedHeader {
    /// Untrusted name.
    pub name: String,
    /// Untrusted parts of the value.
    pub value: Vec<ValuePart>,
}

/// A complete response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalResponse {
    /// Untrusted status.
    pub status: u16,
    /// Untrusted headers.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
}

/// The head of a response as plugins see it.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// Status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Trailers, only in the last call with a piece of the body.
    pub trailers: Option<HeaderMap>,
    /// Whether the gateway made the response.
    pub local: bool,
}
